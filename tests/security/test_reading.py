"""Odd files in a checkout, and named by options: none is waited for, read to its end, or shown."""

from __future__ import annotations

import ast
import errno
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.spec.files import FileRefused, digest_of
from tests.depth import crossed
from tests.security.commands import PLAN, SECRET, repository, run

ROOT = Path(__file__).parents[2]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"


def _secret(path: Path) -> Path:
    """Write a file beside the repository, which nothing in the repository may read."""
    outside = path.parents[2] / "outside"
    outside.mkdir(exist_ok=True)
    for name in (path.name, "secret"):
        (outside / name).write_text(f"repo\n{SECRET}: {{\n", encoding="utf-8")
    return outside / "secret"


def _linked_folder(path: Path) -> None:
    """Replace the folder of the file by a link that leads out of the repository."""
    _secret(path)
    path.unlink(missing_ok=True)
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("../outside")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's address must be short
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 30)


# What a stranger can put where a file is expected, and the message for it.
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a file outside": (lambda path: path.symlink_to(_secret(path)), "lies outside"),
    "link to passwd": (lambda path: path.symlink_to("/etc/passwd"), "lies outside"),
    "link to a process's environment": (
        lambda path: path.symlink_to("/proc/self/environ"),
        "lies outside",
    ),
    "link to an endless device": (lambda path: path.symlink_to("/dev/zero"), "lies outside"),
    "link to stdin": (lambda path: path.symlink_to("/dev/stdin"), "lies outside"),
    "link to itself": (lambda path: path.symlink_to(path.name), os.strerror(errno.ELOOP)),
    "pipe": (os.mkfifo, "not a file but a pipe"),
    "socket": (_socket, "not a file but a socket"),
    "folder": (lambda path: path.mkdir(), "not a file but a folder"),
    "sparse": (_sparse, "MiB"),
    "LFS pointer": (lambda path: path.write_text(LFS), "`git lfs pull`"),
}
# A file named by an option may be anywhere, but these are odd there too.
ODD = {name: HOSTILE[name] for name in ("pipe", "socket", "folder", "sparse", "LFS pointer")}
ODD["device"] = (lambda path: path.symlink_to("/dev/zero"), "not a file but a device")
ODD["environment"] = (
    lambda path: path.symlink_to("/proc/self/environ"),
    "has more bytes than its size says",
)

COMMANDS = {
    "validate": ["validate", "plans/plan.yaml"],
    "validate a folder": ["validate", "plans"],
    "plan": ["plan", "plans/plan.yaml"],
    "diff": ["diff", "plans/plan.yaml", "plans/plan.yaml"],
    "run": ["run", "plans/plan.yaml"],
    "apply": ["apply", "plans"],
    "apply --dry-run": ["apply", "--dry-run", "plans"],
    "serve --list": ["serve", "--list", "plans"],
    "doctor": ["doctor", "plans/plan.yaml"],
    "coverage": ["coverage", "plans/plan.yaml"],
    "operations": ["operations", "plans/plan.yaml"],
    "run --detach": ["run", "--detach", "plans/plan.yaml", "--target", "dev"],
    "dev": ["dev", "plans/plan.yaml", "--port", "18288"],
    "format": ["format", "plans/plan.yaml"],
}


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


NAMED = [
    ("plan.yaml", "validate", 2),
    ("plan.yaml", "plan", 2),
    ("catalog.yaml", "plan", 3),
    ("repos.csv", "plan", 3),
    ("backfill.yaml", "plan", 3),
]


@pytest.mark.parametrize(("name", "named"), crossed(HOSTILE, NAMED))
def test_an_odd_file_is_refused_in_words(
    warm: str, tmp_path: Path, name: str, named: tuple[str, str, int]
) -> None:
    file, command, status = named
    plan = repository(tmp_path)
    make, words = HOSTILE[name]
    replaced(plan.with_name(file), make)
    done = run(warm, plan.parents[1], *COMMANDS[command])
    if (file, name) == ("plan.yaml", "folder"):  # a folder with no plans in it
        assert done.status == 2, done
        return
    too_large = (file, name) == ("plan.yaml", "sparse")  # it is a problem of the plan, with a rule
    assert done.status == (3 if too_large else status), done
    assert words in done.err + done.out
    assert file in done.err + done.out


@pytest.mark.parametrize(
    ("command", "name"),
    crossed(sorted({*COMMANDS} - {"plan", "validate"}), ["link to a file outside", "pipe"]),
)
def test_no_command_reads_an_odd_plan(warm: str, tmp_path: Path, command: str, name: str) -> None:
    plan = repository(tmp_path)
    make, words = HOSTILE[name]
    replaced(plan, make)
    done = run(warm, plan.parents[1], *COMMANDS[command])
    assert done.status == 2, done
    assert words in done.err


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"dev", "run --detach"}))
def test_an_ordinary_plan_is_read_by_each_of_them(warm: str, tmp_path: Path, command: str) -> None:
    """The control. Without `dev`, which would keep running, and `run --detach`, which needs a
    server."""
    plan = repository(tmp_path)
    done = run(warm, plan.parents[1], *COMMANDS[command])
    assert "cannot be read" not in done.err
    # Its event has no handler, it has no coverage, and the findings of `doctor` do not matter here.
    expected = {"run": 1, "apply": 1, "coverage": 2, "doctor": done.status}
    assert done.status == expected.get(command, 0), done


@pytest.mark.parametrize("command", ["validate", "plan", "format"])
def test_a_folder_that_leads_out_of_the_repository_is_not_followed(
    warm: str, tmp_path: Path, command: str
) -> None:
    plan = repository(tmp_path)
    _linked_folder(plan)
    done = run(warm, plan.parents[1], command, "plans/plan.yaml")
    assert (done.status, "lies outside" in done.err) == (2, True), done


def test_another_repository_behind_a_link_is_outside_too(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    _linked_folder(plan)
    (tmp_path / "outside" / ".git").mkdir()
    done = run(warm, plan.parents[1], "validate", "plans/plan.yaml")
    assert (done.status, "lies outside" in done.err) == (2, True), done


def test_what_the_repository_holds_is_read_through_its_own_links(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    shared = plan.parents[1] / "shared"
    shared.mkdir()
    for name in ("repos.csv", "catalog.yaml"):
        plan.with_name(name).rename(shared / name)
    plan.with_name("repos.csv").symlink_to("../shared/repos.csv")
    plan.write_text(PLAN.replace("catalog.yaml", "../shared/catalog.yaml"), encoding="utf-8")
    done = run(warm, plan.parents[1], "plan", "plans/plan.yaml", "--format", "jsonl")
    assert (done.status, done.out.count("acme/x") > 0) == (0, True), done


def test_a_project_file_above_the_repository_is_not_its_own(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    (tmp_path / "backfill.yaml").write_text(f"{SECRET}: [", encoding="utf-8")
    assert run(warm, plan.parents[1], "plan", "plans/plan.yaml").status == 0


OPTIONS = ("--var-file", "--collection repos=", "--facts", "--policy", "saved plan")


@pytest.mark.parametrize(("option", "name"), crossed(OPTIONS, ODD))
def test_what_an_option_names_is_a_bounded_file(
    warm: str, tmp_path: Path, name: str, option: str
) -> None:
    plan = repository(tmp_path)
    given = plan.parents[1] / "deep" / "given"
    given.parent.mkdir()
    make, words = ODD[name]
    make(given)
    done = run(warm, plan.parents[1], *_naming(option, given, plan))
    if option == "saved plan" and name == "sparse":  # it is read as a plan file, which it is not
        assert done.status == 3
        return
    assert done.status == 2, done
    if option != "saved plan":
        assert words in done.err, done


@pytest.mark.parametrize("option", [one for one in OPTIONS if one != "saved plan"])
def test_what_an_option_names_may_lie_anywhere(warm: str, tmp_path: Path, option: str) -> None:
    """The control: an ordinary file beside the repository, and one behind a link out of it."""
    plan = repository(tmp_path)
    written = {
        "--collection repos=": "repo\nacme/y\n",
        "--policy": "apiVersion: backfill/v1\nkind: BackfillProject\n"
        "policy: [{name: small, require: totals.events <= 9}]\n",
    }
    outside = tmp_path / "outside.csv"
    outside.write_text(written.get(option, "{}\n"), encoding="utf-8")
    if option == "--facts":
        done = run(warm, plan.parents[1], "plan", plan, "--record", outside)
        assert done.status == 0, done
    link = plan.with_name("link.csv")
    link.symlink_to(outside)
    for given in (outside, link):
        done = run(warm, plan.parents[1], *_naming(option, given, plan))
        assert done.status == 0, done
        assert option != "--collection repos=" or "acme/y" in done.out


def _naming(option: str, given: Path, plan: Path) -> list[str | Path]:
    if option == "saved plan":
        return ["run", given]
    if option.endswith("="):
        name, collection = option.split(" ")
        return ["plan", plan, name, f"{collection}{given}"]
    return ["plan", plan, option, given]


@pytest.mark.parametrize(("name", "role"), crossed(HOSTILE, ["the test", "its plan", "its facts"]))
def test_what_a_test_of_a_plan_is_or_names_is_a_file_of_the_repository(
    warm: str, tmp_path: Path, name: str, role: str
) -> None:
    plan = repository(tmp_path)
    test, odd = plan.with_name("plan.test.yaml"), plan.with_name("odd.yaml")
    named = "odd.yaml" if role == "its plan" else "plan.yaml"
    given = "given: odd.yaml\n" if role == "its facts" else ""
    head = "apiVersion: backfill/v1\nkind: BackfillTest\n"
    test.write_text(f"{head}plan: {named}\n{given}expect: {{events: []}}\n", encoding="utf-8")
    make, words = HOSTILE[name]
    replaced(test if role == "the test" else odd, make)
    done = run(warm, plan.parents[1], "test", test)
    told, other = done.err + done.out, ("there is no plan", "does not exist")
    assert done.status in (1, 2, 3), done
    assert words in told or any(one in told for one in other) or name == "folder", done


@pytest.mark.parametrize("path", ["../../outside/secret", "/etc/passwd"])
def test_a_test_of_a_plan_outside_shows_nothing_of_it(warm: str, tmp_path: Path, path: str) -> None:
    plan = repository(tmp_path)
    _secret(plan)
    test = plan.with_name("plan.test.yaml")
    head = "apiVersion: backfill/v1\nkind: BackfillTest\n"
    test.write_text(f"{head}plan: {path}\nexpect: {{events: []}}\n", encoding="utf-8")
    done = run(warm, plan.parents[1], "test", test)
    assert (done.status, "lies outside" in done.err) == (3, True), done
    assert "root:" not in done.out + done.err


def test_variables_come_from_anywhere_and_from_stdin(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    plan.write_text(PLAN + "vars: {x: 1}\n", encoding="utf-8")
    elsewhere = tmp_path / "variables.yaml"
    elsewhere.write_text("x: 2\n", encoding="utf-8")
    for name, stdin in ((str(elsewhere), None), ("-", b"x: 3\n"), ("/dev/stdin", b"x: 3\n")):
        done = run(warm, plan.parents[1], "plan", plan, "--var-file", name, stdin=stdin)
        assert done.status == 0, done
    done = run(warm, plan.parents[1], "plan", plan, "--var-file", "-", stdin=b"y: 3\n")
    assert (done.status, "`y`" in done.err) == (3, True), done


def test_a_plan_that_a_shell_pipes_in_is_read_by_commands_that_look_twice(
    warm: str, tmp_path: Path
) -> None:
    plan = PLAN.replace("catalog: catalog.yaml\n", "workspace: w\n")
    plan = plan.replace("[{file: repos.csv}]", "[a/b]")
    raw = plan.replace("[sync]", "[repository-sync]").encode()
    for command in ("validate", "plan"):
        done = run(warm, tmp_path, command, "/dev/stdin", stdin=raw)
        assert done.status == 0, done


@pytest.mark.parametrize("command", ["validate", "plan", "run", "format", "apply"])
def test_a_name_that_is_no_utf_8_is_refused_in_words(
    warm: str, tmp_path: Path, command: str
) -> None:
    plan = repository(tmp_path)
    name = os.fsdecode(b"plans/\xff.yaml")
    (plan.parents[1] / name).write_text(PLAN, encoding="utf-8")
    done = run(warm, plan.parents[1], command, name)
    assert (done.status, "not UTF-8" in done.err) == (2, True), done


@pytest.mark.parametrize("name", ["link to a file outside", "pipe", "sparse", "socket"])
def test_an_approval_that_is_no_file_approves_nothing(warm: str, tmp_path: Path, name: str) -> None:
    plan = repository(tmp_path)
    plan.write_text(PLAN + "approval: {required: true}\n", encoding="utf-8")
    folder = plan.with_name("approvals")
    folder.mkdir()
    HOSTILE[name][0](folder / "test.yaml")
    done = run(warm, plan.parents[1], "run", plan, "--yes")
    assert (done.status, "needs an approval" in done.err) == (4, True), done


def test_handlers_outside_the_repository_are_not_imported(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    (tmp_path / "stranger.py").write_text(f"print('{SECRET}')\n", encoding="utf-8")
    plan.with_name("stranger.py").symlink_to("../../stranger.py")
    plan.write_text(PLAN + "handlers: {app/sync: stranger:f}\n", encoding="utf-8")
    done = run(warm, plan.parents[1], "run", plan)
    assert (done.status, "lies outside" in done.err) == (4, True), done


# These are not a user's: parts of our package, the machine's boot id, git's trees and our mirror
# of one, which have their own opener.
OWN = {
    "runner/adapters/extras.py",
    "runner/adapters/git_files.py",
    "runner/adapters/git_mirror.py",
    "runner/adapters/journal/leases.py",
    "runner/cli/skill.py",
    "runner/output/page.py",
    "runner/spec/catalog.py",
    "runner/spec/schema.py",
}
OPENER, WRITERS = "runner/spec/files.py", {"runner/adapters/files.py", "runner/cli/printing.py"}
READS = {"read_bytes", "read_text", "open", "fdopen", "open_code"}
WRITES = {"write_bytes", "write_text", "NamedTemporaryFile", "mkstemp", "mkdir", "makedirs"}
WRITES |= {"touch", "copyfile", "symlink_to", "hardlink_to"}


def _calls(path: Path) -> set[str]:
    """Return the names of `x.NAME(...)`, and `open(...)`, except where that is a method of ours."""
    names = set[str]()
    source = path.read_text(encoding="utf-8")
    if not any(f"{name}(" in source for name in READS | WRITES):
        return names  # without parsing it
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                if ast.unparse(node.func.value) not in {"opener", "self.dialect"}:
                    names.add(node.func.attr)
            elif isinstance(node.func, ast.Name) and node.func.id == "open":
                names.add("open")
    return names


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18])
def test_a_digest_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(os.urandom(size))
    assert digest_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", sorted({*ODD} - {"LFS pointer"}))  # which has a digest, too
def test_an_odd_file_has_no_digest(tmp_path: Path, name: str) -> None:
    make, words = ODD[name]
    replaced(tmp_path / "file", make)
    with pytest.raises(FileRefused) as refused:
        digest_of(tmp_path / "file")
    assert words in str(refused.value)


def test_one_module_opens_users_files_and_one_writes_them() -> None:
    found = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name in OWN or name in WRITERS:
            continue
        if calls := _calls(path) & (WRITES if name == OPENER else READS | WRITES):
            found[name] = calls
    assert found == {}
    assert _calls(ROOT / OPENER) & READS
    assert _calls(ROOT / "runner/adapters/files.py") & WRITES
