"""git in a stranger's checkout: nothing in it runs, and its true change is reported."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.cli.conftest import backfill
from tests.depth import crossed, depth, some
from tests.git import Git
from tests.security.evil import KEYS, LEADING, Evil
from tests.support import CATALOG, repos
from tests.types import Backfill

__all__ = ["backfill"]

ROOT = Path(__file__).parents[2]
SEEDS = depth(8, 60)
COMMANDS = (
    ("validate", "plans/", "--changed-since", "main"),
    ("plan", "plans/", "--changed-since", "main"),
    ("diff", "plans/", "--changed-since", "main"),
    ("diff", "main..HEAD", "plans/"),
    ("diff", "main", "plans/one.yaml"),
    ("apply", "--dry-run", "plans/", "--changed-since", "main"),
    ("apply", "plans/", "--changed-since", "main"),
)


def plan(name: str, body: str) -> str:
    head = "apiVersion: backfill/v1\nkind: BackfillPlan\n"
    more = "operations: [fire]\nhandlers: {app/fire: 'jobs:fire'}\n"
    return f"{head}metadata: {{name: {name}}}\ncatalog: catalog.yaml\n{body}{more}"


@pytest.fixture
def evil(tmp_path: Path) -> Evil:
    return Evil(tmp_path / "evil-files")


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A plan on main, and a branch that changes it and adds one."""
    git = Git.init(tmp_path / "work")
    git.write("plans/catalog.yaml", CATALOG)
    git.write("plans/jobs.py", "async def fire(event):\n    pass\n")
    git.write("plans/one.yaml", plan("one", repos(2)))
    git.commit()
    git("switch", "--quiet", "--create", "topic")
    git.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    git.write("plans/one.yaml", plan("one", repos(3)))
    git.commit()
    git.write("plans/two.yaml", plan("two", repos(1)))
    monkeypatch.chdir(git.folder)
    return git


TRUE_CHANGE = {"plans/one.yaml": "changed", "plans/two.yaml": "added"}


def fates(backfill: Backfill) -> dict[str, str]:
    done = backfill("diff", "--changed-since", "main", "plans/", "--format", "json")
    assert done.status == 0, done.err
    return {one["path"]: one["fate"] for one in json.loads(done.out)["plans"]}


@pytest.mark.parametrize("key", some([*KEYS, *LEADING], 12))
def test_no_key_of_the_checkouts_configuration_runs_anything_or_hides_the_change(
    git: Git, evil: Evil, backfill: Backfill, key: str
) -> None:
    evil.plant(git.folder / ".git" / "config", [key])
    assert fates(backfill) == TRUE_CHANGE
    assert not evil.ran


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_reviewing_command_runs_what_a_configuration_with_all_the_keys_names(
    git: Git, evil: Evil, backfill: Backfill, arguments: Sequence[str]
) -> None:
    evil.plant(git.folder / ".git" / "config", [*KEYS, *LEADING])
    shutil.copytree(evil.hooks, git.folder / ".git" / "hooks", dirs_exist_ok=True)
    done = backfill(*arguments)
    assert done.status == 0, done.err
    told = done.out + done.err
    if arguments[0] == "validate":
        assert told == "2 plans are valid\n"
    elif arguments[:2] == ("diff", "main"):
        assert "1 event added: o/r2" in told
    else:
        assert "one" in told
        assert ("two" in told) == ("--changed-since" in arguments)
    assert not evil.ran


@pytest.mark.parametrize("key", ["core.fsmonitor", "filter.evil.clean", "diff.external"])
def test_control_git_itself_runs_what_is_planted(git: Git, evil: Evil, key: str) -> None:
    evil.plant(git.folder / ".git" / "config", [key])
    git.write("plans/one.yaml", plan("one", repos(4)))
    subprocess.run(["git", "diff", "main"], cwd=git.folder, capture_output=True, check=False)
    assert evil.ran


def bare(git: Git, evil: Evil, folder: str = "plans") -> None:
    """Make the folder, as a stranger's pull request might, look like a repository to git."""
    made = git.folder.parent / "bare"
    subprocess.run(["git", "init", "--quiet", "--bare", made], check=True)
    shutil.copytree(made, git.folder / folder, dirs_exist_ok=True)
    for name in ("objects/keep", "refs/keep"):
        git.write(f"{folder}/{name}", "")
    config = git.folder / folder / "config"
    subprocess.run(["git", "config", "--file", config, "--unset", "core.bare"], check=True)
    evil.plant(config, KEYS)
    subprocess.run(["git", "config", "--file", config, "core.worktree", "."], check=True)
    git.commit()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_folder_of_plans_that_looks_like_a_repository_is_refused_by_name(
    git: Git, evil: Evil, backfill: Backfill, arguments: Sequence[str]
) -> None:
    bare(git, evil)
    done = backfill(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "plans is a git repository of its own, within" in done.err
    assert not evil.ran


def test_control_git_itself_takes_such_a_folder_for_a_repository(git: Git, evil: Evil) -> None:
    bare(git, evil)
    subprocess.run(["git", "-C", "plans", "status"], capture_output=True, check=False)
    assert evil.ran


def test_a_working_directory_that_looks_like_a_repository_is_part_of_the_checkout(
    git: Git, evil: Evil, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(git, evil, "tools")
    monkeypatch.chdir(git.folder / "tools")
    done = backfill("diff", "--changed-since", "main", "../plans/", "--format", "json")
    assert {Path(one["path"]).name: one["fate"] for one in json.loads(done.out)["plans"]} == {
        "one.yaml": "changed",
        "two.yaml": "added",
    }
    assert not evil.ran


def test_a_plan_or_a_data_file_within_another_repository_is_refused_by_name(
    git: Git, backfill: Backfill
) -> None:
    inner = Git.init(git.folder / "plans" / "inner")
    inner.write("p.yaml", plan("p", repos(1)))
    inner.write("rows.csv", "repo\no/a\n")
    inner.commit()
    git.write("plans/two.yaml", plan("two", "repos:\n  - {file: inner/rows.csv}\n"))
    git.commit()
    for path in ("plans/inner/p.yaml", "plans/inner", "plans/"):
        done = backfill("validate", path, "--changed-since", "HEAD")
        assert (done.status, done.out) == (2, ""), path
        assert "plans/inner is a git repository of its own" in done.err


@pytest.mark.parametrize(
    ("revisions", "path"),
    [
        ("HEAD~1..HEAD", "plans/"),
        ("HEAD~1...HEAD", "plans/two.yaml"),
        ("HEAD", "plans/two.yaml"),
        ("HEAD~1", "plans/"),
    ],
)
def test_what_changes_in_another_repository_is_no_part_of_a_revision_and_refused_by_name(
    git: Git, backfill: Backfill, revisions: str, path: str
) -> None:
    """It used to count as a plan that has not changed, or as a file that does not exist."""
    inner = Git.init(git.folder / "plans" / "inner")
    inner.write("rows.csv", "repo\no/a\n")
    inner.commit()
    git.write("plans/two.yaml", plan("two", "repos:\n  - {file: inner/rows.csv}\n"))
    git.commit()
    inner.write("rows.csv", "repo\no/b\n")
    inner.commit()
    git.commit()
    done = backfill("diff", revisions, path)
    assert (done.status, done.out) == (2, "")
    assert "plans/inner is a git repository of its own" in done.err


def test_the_checkout_that_ci_names_is_taken_where_the_command_runs_elsewhere(
    git: Git, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    plans = str(git.folder / "plans")
    done = backfill("validate", plans, "--changed-since", "main")
    assert (done.status, "is not in a git repository" in done.err) == (2, True)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(git.folder))
    done = backfill("validate", plans, "--changed-since", "main")
    assert (done.status, done.out) == (0, "2 plans are valid\n")


def test_a_partial_clone_fetches_nothing_whatever_its_remote_is(
    git: Git, evil: Evil, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git.commit()
    git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--filter=blob:none", f"file://{git.folder}", str(clone))
    Git(clone)("config", "remote.origin.uploadpack", str(evil.program))
    monkeypatch.chdir(clone)
    done = backfill("diff", "origin/main..HEAD", "plans/")
    assert (done.status, done.out) == (2, "")
    assert "this partial clone lacks the object" in done.err
    assert not evil.ran


@pytest.mark.parametrize("what", ["replace", "grafts"])
def test_history_is_what_was_committed(git: Git, backfill: Backfill, what: str) -> None:
    """Not what the repository's own replacements say it was."""
    git.commit()
    head, main = git("rev-parse", "HEAD"), git("rev-parse", "main")
    if what == "replace":
        git("replace", main, head)
    else:
        (git.folder / ".git" / "info" / "grafts").write_text(f"{main} {head}\n")
    assert fates(backfill) == TRUE_CHANGE


STUB = """#!/usr/bin/env python3
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
os.execv({git!r}, ["git", *sys.argv[1:]])
"""


def test_git_gets_named_variables_and_is_asked_about_objects_only(
    git: Git, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log, stub = tmp_path / "log", tmp_path / "bin" / "git"
    stub.parent.mkdir()
    stub.write_text(STUB.format(log=str(log), git=shutil.which("git")))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    for name in ("GITHUB_TOKEN", "INNGEST_EVENT_KEY", "SSH_AUTH_SOCK", "BACKFILL_DATABASE_URL"):
        monkeypatch.setenv(name, "s3cret-word")
    for name in ("GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.setenv(name, "elsewhere")
    assert fates(backfill) == TRUE_CHANGE
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    asked = set()
    for arguments, env in calls:
        assert "s3cret-word" not in env.values()
        assert "elsewhere" not in env.values()
        assert env["GIT_ALLOW_PROTOCOL"] == ""
        words = iter(arguments)
        found: list[str] = []
        for word in words:
            if word in ("-c", "-C"):
                next(words)
            elif not word.startswith("--") or found:
                found.append(word)
        asked.add(found[0])
        if found[0] != "rev-parse" or "--absolute-git-dir" not in found:
            assert f"--git-dir={git.folder / '.git'}" in arguments
    assert asked == {"rev-parse", "merge-base", "cat-file"}


def test_what_git_advises_reaches_the_user_whole(
    git: Git, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = tmp_path / "bin" / "git"
    stub.parent.mkdir()
    advice = (
        "fatal: detected dubious ownership in repository at '/work'\n"
        "To add an exception for this directory, call:\n\n"
        "\tgit config --global --add safe.directory /work\n"
    )
    stub.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{advice}END\nexit 128\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    done = backfill("validate", "plans/", "--changed-since", "main")
    assert done.status == 2
    assert "detected dubious ownership in repository at '/work'" in done.err
    assert (
        "hint: To add an exception for this directory, call: "
        "git config --global --add safe.directory /work" in done.err
    )


def test_a_file_that_git_lfs_keeps_is_changed_where_its_content_is(
    git: Git, backfill: Backfill
) -> None:
    """git has a pointer to it, the working tree has the file, and only a filter would see the
    change."""
    from hashlib import sha256

    def pointer(raw: bytes) -> str:
        digest = sha256(raw).hexdigest()
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(raw)}\n"

    was, now = b"repo\no/a\n", b"repo\no/a\no/b\n"
    digest = sha256(was).hexdigest()
    git("stash", "--quiet", "--include-untracked")
    git("switch", "--quiet", "main")
    git.write("plans/two.yaml", plan("two", "repos:\n  - {file: two.csv}\n"))
    git.write("plans/two.csv", pointer(was))
    git.commit()
    git("switch", "--quiet", "--create", "third")
    kept = git.write(f".git/lfs/objects/{digest[:2]}/{digest[2:4]}/{digest}", "")
    kept.write_bytes(was)
    (git.folder / "plans" / "two.csv").write_bytes(was)
    assert fates(backfill) == {}
    (git.folder / "plans" / "two.csv").write_bytes(now)
    assert fates(backfill) == {"plans/two.yaml": "changed"}
    done = backfill("diff", "--changed-since", "main", "plans/")
    assert done.status == 0
    assert "+ fire: 1 event added: o/b" in done.out


def spoil(random: Random, git: Git, evil: Evil) -> None:
    """Put a few odd things into the folder of plans and into git's own."""
    plans = git.folder / "plans"

    def link(name: str, to: str) -> None:
        (plans / name).unlink(missing_ok=True)
        (plans / name).symlink_to(to)

    odd: list[Callable[[], object]] = [
        lambda: link("a.yaml", "a.yaml"),
        lambda: link("b.yaml", "/etc/passwd"),
        lambda: link("c.yaml", "/dev/zero"),
        lambda: link("d.yaml", "../../outside.yaml"),
        lambda: link("catalog.yaml", "one.yaml"),
        lambda: os.mkfifo(plans / "pipe.yaml"),
        lambda: (plans / "folder.yaml").mkdir(exist_ok=True),
        lambda: (plans / "bytes.yaml").write_bytes(random.randbytes(200)),
        lambda: (plans / "x\ny.yaml").write_text(plan("x", repos(1))),
        lambda: git.write("plans/HEAD", "ref: refs/heads/main\n"),
        lambda: git.write("plans/commondir", "../.git\n"),
        lambda: git.write("plans/objects/x", ""),
        lambda: git.write("plans/refs/x", ""),
        lambda: git.write("plans/config", f"[core]\n\tfsmonitor = {evil.program}\n"),
        lambda: git.write("plans/.git", f"gitdir: {evil.program.parent}\n"),
        lambda: git.write("plans/sub/.git/HEAD", "ref: refs/heads/main\n"),
        lambda: git.write(".git/config", "[core\n"),
        lambda: git.write(".git/config", f"[core]\n\tfsmonitor = {evil.program}\n"),
        lambda: git.write(".git/HEAD", "0" * 40 + "\n"),
        lambda: git.write(".git/refs/heads/main", "nonsense\n"),
        lambda: git.write(".git/packed-refs", "nonsense\n"),
        lambda: git.write(".git/shallow", git("rev-parse", "main") + "\n"),
        lambda: git.write(".git/objects/info/alternates", "/dev/zero\n"),
        lambda: git.write(".git/info/attributes", "* filter=evil diff=evil\n"),
        lambda: shutil.rmtree(git.folder / ".git" / "objects"),
        lambda: (plans / "one.yaml").unlink(missing_ok=True),
        lambda: git.write("plans/one.yaml", plan("one", "repos:\n  - {file: c.yaml}\n")),
        lambda: git.write("plans/one.yaml", plan("one", "repos:\n  - {file: ../../x.csv}\n")),
    ]
    evil.plant(git.folder / ".git" / "config", random.sample(KEYS, 5))
    for spoiled in random.sample(odd, random.randint(1, 5)):
        try:
            spoiled()
        except (OSError, subprocess.CalledProcessError):
            continue  # an earlier one is in the way


@pytest.mark.parametrize(
    "name",
    [
        *("HEAD", "config", "packed-refs", "shallow", "commondir", "index"),
        *("objects/info/alternates", "objects/info/commit-graph", "objects/pack/pack-1.idx"),
        *("objects/00/" + "0" * 38, "refs/heads/other"),
    ],
)
def test_a_pipe_in_the_place_of_a_file_of_gits_own_is_refused_at_once(
    git: Git, evil: Evil, backfill: Backfill, name: str
) -> None:
    place = git.folder / ".git" / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    began = time.monotonic()
    done = backfill(*COMMANDS[0])
    assert time.monotonic() - began < 5
    assert (done.status, f"{place} is not a regular file" in done.err) == (2, True)


NAMING = (  # keys that name a file for git to read
    *("include.path", "includeIf.gitdir:/**.path", "includeIf.onbranch:**.path"),
    *("core.attributesFile", "core.excludesFile", "core.hooksPath", "mailmap.file"),
    *("commit.template", "blame.ignoreRevsFile", "gpg.ssh.allowedSignersFile", "fsck.skipList"),
)


@pytest.mark.parametrize(("key", "within"), crossed(NAMING, [False, True]))
def test_a_pipe_that_a_configuration_names_holds_up_nothing_for_long(
    git: Git, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, key: str, within: bool
) -> None:
    """`within`: the configuration includes a file that has the key."""
    if key != "include.path" or within:  # only one case waits the full time
        monkeypatch.setattr("runner.adapters.git._LOOK", 0.5)
    pipe, included = git.folder.parent / "pipe", git.folder.parent / "included"
    os.mkfifo(pipe)
    config = git.folder / ".git" / "config"
    place = included if within else config
    if within:
        git("config", "include.path", str(included))
    subprocess.run(["git", "config", "--file", place, key, str(pipe)], check=True)
    began = time.monotonic()
    done = backfill("diff", "--changed-since", "main", "plans/", "--format", "json")
    assert time.monotonic() - began < 5
    if done.status == 0:  # git did not need the file
        assert {one["path"]: one["fate"] for one in json.loads(done.out)["plans"]} == TRUE_CHANGE
    else:
        assert done.status == 2
        assert "git rev-parse: no answer within" in done.err
        assert "include.path" in done.err
    assert (done.status == 0) == (not key.startswith("include"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_fuzz_whatever_a_git_folder_holds_ends_in_words_and_runs_nothing(
    git: Git, evil: Evil, backfill: Backfill, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - tests repeat
    spoil(random, git, evil)
    arguments = COMMANDS[seed % (len(COMMANDS) - 1)]  # `apply` has its own tests above
    began = time.process_time()
    done = backfill(*arguments)
    assert time.process_time() - began < 5
    assert done.status in (0, 2, 3), done.err
    assert done.out or done.err
    assert "Traceback" not in done.err
    assert "root:x:0:0" not in done.out + done.err
    assert not evil.ran


def test_one_module_runs_git() -> None:
    """Check every start of a program in the package, except for guards and our own Python."""
    starts = {}
    for file in sorted((ROOT / "runner").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "subprocess" not in source:
            continue
        tree = ast.parse(source)
        named = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value == "git"
        ]
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        if named and "subprocess" in imported:
            starts[str(file.relative_to(ROOT))] = len(named)
    assert starts == {"runner/adapters/git.py": 1}
