"""What a branch changes in its plans: real repositories, with branches, merges and renames."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.adapters import git as adapter
from runner.errors import UsageError
from tests.cli.conftest import COMMAND
from tests.depth import depth
from tests.git import Git
from tests.support import CATALOG, repos
from tests.types import Backfill

LIMIT = 65_536
MANY = depth(6_000, 20_000)


def plan(name: str, body: str) -> str:
    head = "apiVersion: backfill/v1\nkind: BackfillPlan\n"
    more = "operations: [sync]\nbatch_size: 2\ndelay: 1s\n"
    return f"{head}metadata: {{name: {name}}}\ncatalog: catalog.yaml\n{body}{more}"


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Two plans and their catalog on main, and a branch that was just created."""
    git = Git.init(tmp_path / "work")
    git.write("plans/catalog.yaml", CATALOG)
    git.write("plans/one.yaml", plan("one", repos(3)))
    git.write("plans/two.yaml", plan("two", "repos:\n  - {file: two.csv}\n"))
    git.write("plans/two.csv", "repo\no/a\no/b\n")
    git.commit()
    git("switch", "--quiet", "--create", "topic")
    monkeypatch.chdir(git.folder)
    return git


def fates(backfill: Backfill, *arguments: str) -> dict[str, str]:
    done = backfill("diff", *arguments, "--format", "json")
    found: Any = json.loads(done.out)
    return {one["path"]: one["fate"] for one in found["plans"]}


def since(backfill: Backfill) -> dict[str, str]:
    return fates(backfill, "--changed-since", "main", "plans/")


def test_nothing_has_changed_on_a_branch_without_changes(backfill: Backfill, git: Git) -> None:
    assert since(backfill) == {}
    done = backfill("diff", "--changed-since", "main", "plans/", "--exit-code")
    assert (done.status, done.out) == (0, "no plan is changed\n")


@pytest.mark.parametrize("command", ["plan", "validate"])
@pytest.mark.parametrize("form", ["text", "github"])
def test_that_no_plan_has_changed_is_said(
    backfill: Backfill, git: Git, command: str, form: str
) -> None:
    done = backfill(command, "plans/", "--changed-since", "main", "--format", form)
    assert (done.status, done.out) == (0, "no plan has changed since main\n")


def test_what_is_not_committed_counts(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", plan("one", repos(4)))
    git.write("plans/new.yaml", plan("new", repos(1)))
    assert since(backfill) == {"plans/new.yaml": "added", "plans/one.yaml": "changed"}
    done = backfill("diff", "--changed-since", "main", "plans/", "--exit-code")
    assert done.status == 2
    assert done.out == (
        "added  plans/new.yaml\n"
        "+1 event, 1 batch, 1 stage; no pacing: it takes as long as its jobs\n\n"
        "changed  plans/one.yaml\n"
        "+ sync: 1 event added: o/r3\n"
        "4 events (+1); 1s of pacing\n\n"
        "1 plan added, 1 plan changed; events +2\n"
    )


def test_a_data_file_or_a_catalog_that_changes_is_a_change_of_the_plans_made_of_it(
    backfill: Backfill, git: Git
) -> None:
    git.write("plans/two.csv", "repo\no/a\no/b\no/c\n")
    git.commit()
    assert since(backfill) == {"plans/two.yaml": "changed"}
    git.write("plans/catalog.yaml", CATALOG.replace("app/sync", "app/sync.v2"))
    assert since(backfill) == {"plans/one.yaml": "changed", "plans/two.yaml": "changed"}


def test_a_comment_in_a_plan_changes_nothing_that_is_sent(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", plan("one", repos(3)) + "# a comment\n")
    assert since(backfill) == {"plans/one.yaml": "same"}
    done = backfill("diff", "--changed-since", "main", "plans/", "--exit-code")
    assert done.status == 0


def test_a_renamed_plan_is_compared_with_what_it_was(backfill: Backfill, git: Git) -> None:
    git("mv", "plans/one.yaml", "plans/10-one.yaml")
    git.commit()
    done = backfill("diff", "main..HEAD", "plans/", "--format", "json")
    (found,) = json.loads(done.out)["plans"]
    assert (found["path"], found["was"], found["fate"]) == (
        "plans/10-one.yaml",
        "plans/one.yaml",
        "same",
    )


def test_a_plan_that_is_moved_out_of_the_folder_is_removed(backfill: Backfill, git: Git) -> None:
    git.write("archive/README", "")
    git("mv", "plans/one.yaml", "archive/one.yaml")
    assert since(backfill) == {"plans/one.yaml": "removed"}


def test_a_removed_plan_and_what_it_sent_are_told(backfill: Backfill, git: Git) -> None:
    git("rm", "--quiet", "plans/one.yaml")
    assert since(backfill) == {"plans/one.yaml": "removed"}
    done = backfill("diff", "--changed-since", "main", "plans/")
    assert "-3 events, 2 batches, 1 stage" in done.out
    assert done.out.endswith("1 plan removed; events -3\n")


def test_a_removed_plan_that_was_not_valid_is_listed(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", plan("one", "nonsense: 1\n"))
    git.commit()
    git("rm", "--quiet", "plans/one.yaml")
    done = backfill("diff", "--changed-since", "HEAD", "plans/", "--exit-code")
    said = "removed  plans/one.yaml\nIt was not valid.\n\n1 plan removed\n"
    assert (done.status, done.out) == (2, said)
    assert fates(backfill, "--changed-since", "HEAD", "plans/") == {"plans/one.yaml": "removed"}
    text = backfill("diff", "--changed-since", "HEAD", "plans/", "--format", "markdown").out
    assert "| plans/one.yaml | removed |" in text
    assert "It was not valid." in text


def test_a_removed_plan_is_judged_by_no_rule(backfill: Backfill, git: Git) -> None:
    rule = "policy: [{name: small, require: totals.events <= 1}]\n"
    git.write("backfill.yaml", f"apiVersion: backfill/v1\nkind: BackfillProject\n{rule}")
    git.commit()
    git("rm", "--quiet", "plans/one.yaml")
    diff = ("diff", "--changed-since", "HEAD", "plans/")
    assert "rule" not in backfill(*diff).out
    (one,) = json.loads(backfill(*diff, "--format", "json").out)["plans"]
    assert (one["fate"], one["policy"]) == ("removed", [])


@pytest.mark.parametrize(
    "how", [("rm", "--quiet", "plans/two.csv"), ("mv", "plans/two.csv", "plans/other.csv")]
)
def test_a_data_file_that_is_gone_makes_its_plan_invalid(
    backfill: Backfill, git: Git, how: tuple[str, ...]
) -> None:
    git(*how)
    assert since(backfill) == {"plans/two.yaml": "invalid"}
    for command in ("diff", "validate", "plan"):
        done = backfill(command, "plans/", "--changed-since", "main")
        assert done.status == 3, command
        assert "plans/two.yaml:6:12: error: `two.csv` cannot be read" in done.out + done.err, (
            command
        )


def test_links_that_lead_elsewhere_are_changes(backfill: Backfill, git: Git) -> None:
    git.write("plans/data/a.csv", "repo\no/a\n")
    git.write("plans/data/b.csv", "repo\no/b\no/c\n")
    git.write("shared/catalog.yaml", CATALOG)
    git.write("shared/p.yaml", plan("p", repos(1)))
    git.write("shared/q.yaml", plan("p", repos(3)))
    data, link = git.folder / "plans/two.csv", git.folder / "plans/link.yaml"
    data.unlink()
    data.symlink_to("data/a.csv")
    link.symlink_to("../shared/p.yaml")
    git.commit()
    for path, to in ((data, "data/b.csv"), (link, "../shared/q.yaml")):
        path.unlink()
        path.symlink_to(to)
    git.commit()
    changed = {"plans/link.yaml": "changed", "plans/two.yaml": "changed"}
    assert fates(backfill, "HEAD^..HEAD", "plans/") == changed
    one = backfill("diff", "HEAD^..HEAD", "plans/link.yaml")
    assert "2 events added" in one.out


def cloned(git: Git, folder: Path, *how: str) -> Git:
    git("config", "uploadpack.allowFilter", "true")
    clone = Git(folder)
    git("clone", "--quiet", "--branch", "topic", *how, f"file://{git.folder}", str(folder))
    return clone


def test_a_partial_clone_tells_what_has_changed_and_names_what_it_lacks(
    backfill: Backfill, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, because the checkout would decide from which server."""
    git.write("plans/one.yaml", plan("one", repos(5)))
    git.commit()
    clone = cloned(git, tmp_path / "clone", "--filter=blob:none")
    monkeypatch.chdir(clone.folder)
    only = ("--changed-since", "origin/main", "plans/")
    assert backfill("validate", *only).out == "plans/one.yaml is valid\n"
    done = backfill("diff", *only)
    assert done.status == 2
    assert "this partial clone lacks the object" in done.err
    assert "clone it without --filter" in done.err
    clone("cat-file", "-e", "origin/main:plans/one.yaml")
    assert fates(backfill, *only) == {"plans/one.yaml": "changed"}


@pytest.mark.parametrize("command", ["validate", "plan", "diff", "apply --dry-run", "apply"])
def test_a_shallow_clone_without_the_common_commit_is_refused(
    backfill: Backfill, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    git.write("plans/one.yaml", plan("one", repos(5)))
    git.commit()
    git("switch", "--quiet", "main")
    git.write("plans/two.yaml", plan("two", repos(1)))
    git.commit()
    clone = cloned(git, tmp_path / "clone", "--depth=1", "--no-single-branch")
    monkeypatch.chdir(clone.folder)
    done = backfill(*command.split(), "plans/", "--changed-since", "origin/main")
    assert (done.status, done.out) == (2, "")
    assert "`origin/main` and `HEAD` have no commit in common in this shallow clone" in done.err
    assert "fetch-depth: 0" in done.err
    missing = backfill(*command.split(), "plans/", "--changed-since", "origin/gone")
    assert (missing.status, missing.out) == (2, "")
    assert "no git revision `origin/gone`" in missing.err
    assert "fetch-depth: 0" in missing.err


def test_what_main_has_gained_meanwhile_is_not_the_branchs(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", plan("one", repos(4)))
    git.commit()
    git("switch", "--quiet", "main")
    git.write("plans/two.yaml", plan("two", repos(1)))
    git.commit()
    git("switch", "--quiet", "topic")
    mine = {"plans/one.yaml": "changed"}
    assert since(backfill) == mine
    assert fates(backfill, "main...HEAD", "plans/") == mine
    assert fates(backfill, "main..HEAD", "plans/") == {**mine, "plans/two.yaml": "changed"}
    git("merge", "--quiet", "--no-edit", "main")
    assert since(backfill) == mine


def test_a_merge_does_what_the_branch_did(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", plan("one", repos(4)))
    git.commit()
    git("switch", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "--no-edit", "topic")
    assert fates(backfill, "HEAD^1..HEAD", "plans/") == {"plans/one.yaml": "changed"}


def test_places_are_those_of_the_work_tree_also_for_a_revision(
    backfill: Backfill, git: Git
) -> None:
    git.write("plans/one.yaml", plan("one", "repos: [nonsense]\n"))
    git.commit()
    git.write("plans/one.yaml", plan("one", repos(3)))
    done = backfill("diff", "main..HEAD", "plans/")
    assert done.status == 3
    assert "plans/one.yaml:5:9: error: `nonsense` is not a repository" in done.out
    assert "backfill-" not in done.out


def test_a_plan_that_was_invalid_before_is_said_to_have_been(backfill: Backfill, git: Git) -> None:
    git.write("plans/one.yaml", "nonsense\n")
    git.commit()
    git.write("plans/one.yaml", plan("one", repos(3)))
    done = backfill("diff", "HEAD", "plans/")
    assert done.status == 0
    assert "It was not valid before, so the two are not compared." in done.out


def test_data_files_and_the_project_file_of_a_folder_are_no_plans(
    backfill: Backfill, git: Git
) -> None:
    git.write("plans/more.yaml", "# repositories\n- o/x\n- o/y\n")
    git.write("plans/backfill.yaml", "apiVersion: backfill/v1\nkind: BackfillProject\n")
    assert since(backfill) == {}
    assert backfill("validate", "plans/").status == 0


def test_every_plan_of_a_folder_is_previewed_and_the_worst_decides(
    backfill: Backfill, git: Git
) -> None:
    good = backfill("plan", "plans/", "--detailed-exitcode")
    assert good.status == 2
    assert [line for line in good.out.splitlines() if line.startswith("Plan ")] == [
        "Plan one → embedded",
        "Plan two → embedded",
    ]
    git.write("plans/bad.yaml", plan("bad", "repos: [nonsense]\n"))
    done = backfill("plan", "plans/", "--format", "json")
    assert done.status == 3
    assert "plans/bad.yaml:5:9" in done.err
    assert [one["name"] for one in json.loads(done.out)["plans"]] == ["one", "two"]
    only = backfill("plan", "plans/", "--changed-since", "main")
    assert (only.status, only.out) == (3, "")
    one = backfill("plan", "plans/one.yaml", "--format", "json")
    assert json.loads(one.out)["name"] == "one"


@pytest.mark.parametrize("option", [["--format", "jsonl"], ["--out", "x"], ["--html", "x"]])
def test_what_is_of_one_plan_is_refused_for_a_folder(
    backfill: Backfill, git: Git, option: list[str]
) -> None:
    done = backfill("plan", "plans/", *option)
    assert done.status == 2
    assert "work for one plan at a time" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plans/one.yaml"], "diff needs OLD and NEW"),
        (["nowhere..HEAD", "plans/"], "there is no file and no git revision `nowhere`"),
        (["--changed-since", "nowhere", "plans/"], "no git revision `nowhere`"),
        (["--changed-since", "--output=x", "plans/"], "no git revision `--output=x`"),
        (["plans/one.yaml", "plans/two.yaml", "--comment"], "is only for the plans of a branch"),
        (["--changed-since", "main", "plams/"], "plams/ does not exist, now or before"),
        (["--changed-since", "main", "plans/", "/"], "/ is not in the repository"),
        (["--changed-since", "main", "/"], "/ is not in the repository"),
    ],
)
def test_mistakes_are_told_in_words(
    backfill: Backfill, git: Git, arguments: list[str], said: str
) -> None:
    done = backfill("diff", *arguments)
    assert done.status == 2
    assert said in done.err
    assert not Path("x").exists()


@pytest.mark.parametrize("old", ["plans/one.yaml", "main..HEAD", "main"])
def test_the_rules_of_a_file_have_no_effect_on_two_plans_and_are_refused(
    backfill: Backfill, git: Git, old: str
) -> None:
    rules = (
        "apiVersion: backfill/v1\nkind: BackfillProject\npolicy: [{name: a, require: 'false'}]\n"
    )
    git.write("rules.yaml", rules)
    done = backfill("diff", old, "plans/one.yaml", "--policy", "rules.yaml")
    assert (done.status, "--policy is only for the plans of a branch" in done.err) == (2, True)
    folder = backfill("diff", "--changed-since", "main", "plans/", "--policy", "rules.yaml")
    assert folder.status == 0


def test_thousands_of_repositories_fit_into_a_comment(backfill: Backfill, git: Git) -> None:
    """Whatever is omitted, lines are whole and folds closed, and the number omitted is given."""
    names = [f"o/repository-{number:05}" for number in range(MANY)]
    git.write("plans/two.csv", "repo\n" + "\n".join(names) + "\n")
    git.commit()
    lines = "\n".join(f"{name},sync" for name in names[: MANY // 4])
    git.write("plans/one.csv", f"repo,skip\n{lines}\n")
    git.write("plans/one.yaml", plan("one", "repos:\n  - {file: one.csv}\n  - o/r0\n"))
    git.write("plans/new.yaml", plan("new", "repos:\n  - {file: two.csv}\n"))
    for command in (["diff"], ["plan", "--events", "all"]):
        done = backfill(*command, "--changed-since", "main", "plans/", "--format", "markdown")
        assert done.status == 0, done.err
        assert len(done.out) <= LIMIT
        assert done.out.count("<details") == done.out.count("</details>")
        assert done.out.count("```") % 2 == 0
        assert "more" in done.out
    done = backfill("diff", "--changed-since", "main", "plans/")
    assert f"+ sync: {MANY:,} events added: o/repository-00000" in done.out
    assert f"newly skipped: skipped by the repository ({MANY // 4:,} items)" in done.out


def test_a_hundred_changed_plans_fit_into_a_comment(backfill: Backfill, git: Git) -> None:
    for number in range(100):
        git.write(f"plans/p{number:03}.yaml", plan(f"p{number}", repos(20)))
    for command in ("diff", "plan"):
        done = backfill(command, "plans/", "--changed-since", "main", "--format", "markdown")
        assert done.status == 0
        assert len(done.out) <= LIMIT
        assert done.out.count("<details") == done.out.count("</details>")
    assert "more plans, for which there is no room." in done.out


def test_what_guards_say_counts_within_a_comments_room(backfill: Backfill, git: Git) -> None:
    guards = "".join(f"  - {{file: {'_' * 200}{number}}}\n" for number in range(6))
    for number in range(40):
        text = plan(f"p{number}", repos(1)) + f"guards:\n{guards}"
        git.write(f"plans/p{number:03}.yaml", text)
    for command in ("diff", "plan"):
        done = backfill(command, "plans/", "--changed-since", "main", "--format", "markdown")
        assert done.status == 0
        assert len(done.out) <= LIMIT
        assert done.out.count("<details") == done.out.count("</details>")


def test_no_text_of_a_plan_is_a_command_to_the_ci_that_keeps_the_log(
    backfill: Backfill, git: Git
) -> None:
    evil = plan("evil", repos(1)).replace(
        "{name: evil}", '{name: evil, owner: "::set-output name=x::y", reason: "##[error]boo"}'
    )
    path = git.write("plans/evil.yaml", evil)
    for command in ("plan", "run"):
        done = backfill(command, path, "--dry-run" if command == "run" else "--events=all")
        lines = [line.lstrip() for line in done.out.splitlines()]
        assert not [line for line in lines if line.startswith("::") or "##[" in line]
        assert "set-output name=x" in done.out, "it is told, as text"


def test_github_gets_annotations_a_summary_and_the_text_by_itself(
    backfill: Backfill, git: Git, tmp_path: Path
) -> None:
    git.write("plans/bad.yaml", plan("bad", "repos: [nonsense]\n"))
    summary = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = backfill("diff", "--changed-since", "main", "plans/", env=env)
    assert done.status == 3
    assert "::error file=plans/bad.yaml,line=5,col=9::`nonsense` is not a repository" in done.out
    assert done.out.startswith("invalid  plans/bad.yaml\n")
    assert summary.read_text().startswith("### Backfill: 1 plan invalid\n")
    plain = backfill("diff", "--changed-since", "main", "plans/", "--format", "text", env=env)
    assert "::error" not in plain.out
    for command in ("run", "plan --format json", "check --format json"):
        other = backfill(*command.split(), "plans/bad.yaml", env=env)
        assert (other.status, other.out) == (3, ""), "stdout is for results, often for a file"
        assert "::error file=plans/bad.yaml,line=5,col=9::" in other.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("main", "plans/one.yaml"),
        ("main..HEAD", "plans/one.yaml"),
        ("plans/one.yaml", "plans/two.yaml"),
        ("saved.json", "plans/one.yaml"),
        ("main", "plans/"),
        ("--changed-since", "main", "plans/"),
    ],
    ids=" ".join,
)
def test_in_actions_each_comparison_is_in_the_log_as_elsewhere_and_in_the_summary(
    backfill: Backfill, git: Git, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    backfill("plan", "plans/one.yaml", "--out", "saved.json")
    git.write("plans/one.yaml", plan("one", repos(4)))
    git.commit()
    summary = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    there, here = backfill("diff", *arguments, env=env), backfill("diff", *arguments)
    assert (there.status, there.out) == (here.status, here.out) == (0, there.out)
    markdown = backfill("diff", *arguments, "--format", "markdown")
    assert summary.read_text("utf-8").strip() == markdown.out.strip()


def test_a_file_in_the_folder_above_is_a_file_and_no_revision(
    backfill: Backfill, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.write("old/one.yaml", plan("one", repos(1)))
    git.write("old/catalog.yaml", CATALOG)
    monkeypatch.chdir(git.folder / "plans")
    assert "+ sync: 2 events added" in backfill("diff", "../old/one.yaml", "one.yaml").out


def test_a_folder_without_plans_and_names_that_are_no_text_are_refused(
    backfill: Backfill, git: Git
) -> None:
    (git.folder / "empty").mkdir()
    for command in ("validate", "plan", "apply", "format"):
        done = backfill(command, "empty/")
        assert (done.status, "there is no plan in empty/" in done.err) == (2, True), command
    (git.folder / "plans" / "gone.yaml").symlink_to("nowhere.yaml")
    assert "gone.yaml" in backfill("validate", "plans/").err
    (git.folder / "plans" / "gone.yaml").unlink()
    strange = git.folder / "plans" / b"a\xff.yaml".decode(errors="surrogateescape")
    strange.write_text(plan("strange", repos(1)))
    for command in ("validate", "plan", "apply"):
        done = backfill(command, "plans/")
        assert (done.status, "is not UTF-8" in done.err) == (2, True), command


def test_git_that_is_not_there_is_said(git: Git, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "diff", "main", "plans/one.yaml"],
        env={"PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "git is not installed" in done.stderr


@pytest.mark.parametrize("revision", ["main\0", "x" * 200_000])
def test_what_git_cannot_be_given_is_an_error_in_words(revision: str) -> None:
    """An agent may name any revision; git was said not to be installed, or it was our mistake."""
    with pytest.raises(UsageError, match=r"^git cannot be started: "):
        adapter.Git((), {})("rev-parse", revision)
