"""What a command writes is complete, or as it was before; it never overwrites what it reads."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner.adapters.files import CannotWrite, append_file, write_file
from tests.depth import crossed
from tests.security.commands import repository, run
from tests.warm import CLIENT

_LOOP = os.strerror(errno.ELOOP)


@pytest.fixture(scope="module")
def once(warm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = repository(tmp_path_factory.mktemp("ran"))
    run(warm, plan.parent, "run", "plan.yaml")
    return plan.parents[1]


@pytest.fixture
def ran(once: Path, tmp_path: Path) -> Path:
    """Return the plan of a repository of the test's own, in which it was run."""
    return shutil.copytree(once, tmp_path / "repository") / "plans" / "plan.yaml"


INPUTS = ("plan.yaml", "catalog.yaml", "repos.csv", "hard.yaml", "link.yaml", "vars.yaml")


@pytest.mark.parametrize(("name", "option"), crossed(INPUTS, ["--out", "--html"]))
def test_plan_writes_over_nothing_that_it_reads(
    warm: str, tmp_path: Path, option: str, name: str
) -> None:
    plan = repository(tmp_path)
    plan.with_name("hard.yaml").hardlink_to(plan)
    plan.with_name("link.yaml").symlink_to("catalog.yaml")
    plan.with_name("vars.yaml").write_text("{}\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in plan.parent.iterdir()}
    variables = ["--var-file", "vars.yaml"]
    done = run(warm, plan.parent, "plan", "plan.yaml", *variables, option, name)
    assert (done.status, done.out) == (2, "")
    assert "would overwrite" in done.err
    assert {path: path.read_bytes() for path in plan.parent.iterdir()} == before


BESIDE = {
    "backfill.yaml": "apiVersion: backfill/v1\nkind: BackfillProject\n",
    "policy.yaml": "apiVersion: backfill/v1\nkind: BackfillProject\n"
    'policy: [{name: any, require: "true"}]\n',
    "app.db": "the user's data",
    "staging.db": "the user's data",
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    crossed(
        BESIDE,
        [
            ("plan", "plan.yaml", "--out"),
            ("plan", "plan.yaml", "--html"),
            ("plan", "plan.yaml", "--record"),
            ("plan", ".", "--record"),
            ("run", "plan.yaml", "--summary-file"),
            ("apply", "plan.yaml", "--summary-file"),
        ],
    ),
)
def test_nothing_is_written_over_a_project_a_policy_or_a_database(
    warm: str, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    plan = repository(tmp_path)
    for beside, text in BESIDE.items():
        plan.with_name(beside).write_text(text, encoding="utf-8")
    staging = plan.with_name("staging.db")
    env = {"BACKFILL_DATABASE_URL": "sqlite:///app.db", "STAGING_URL": f"sqlite:///{staging}"}
    done = run(warm, plan.parent, *arguments, name, "--policy", "policy.yaml", env=env)
    assert (done.status, "would overwrite" in done.err) == (2, True), done
    assert plan.with_name(name).read_text(encoding="utf-8") == BESIDE[name]


@pytest.mark.parametrize(
    "name", ["plans/plan.yaml", "plans/catalog.yaml", "plans/repos.csv", "vars.yaml"]
)
def test_facts_of_a_folder_are_written_over_nothing_that_is_read(
    warm: str, tmp_path: Path, name: str
) -> None:
    top = repository(tmp_path).parents[1]
    (top / "vars.yaml").write_text("{}\n", encoding="utf-8")
    before = (top / name).read_bytes()
    done = run(warm, top, "plan", "plans", "--var-file", "vars.yaml", "--record", name)
    assert (done.status, "would overwrite" in done.err) == (2, True), done
    assert (top / name).read_bytes() == before


def test_two_options_do_not_share_a_file(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    done = run(warm, plan.parent, "plan", "plan.yaml", "--out", "new", "--html", "./new")
    assert (done.status, "name the same file" in done.err) == (2, True)
    assert not plan.with_name("new").exists()


@pytest.mark.parametrize("name", INPUTS[:3])
@pytest.mark.parametrize("command", ["run", "apply"])
def test_a_summary_is_not_added_to_what_is_read(
    warm: str, tmp_path: Path, command: str, name: str
) -> None:
    plan = repository(tmp_path)
    before = plan.with_name(name).read_bytes()
    done = run(warm, plan.parent, command, "plan.yaml", "--summary-file", name)
    assert (done.status, "would overwrite" in done.err) == (2, True), done
    assert plan.with_name(name).read_bytes() == before
    assert "sent" not in done.err


@pytest.mark.parametrize("name", ["saved.json", "vars.yaml"])
def test_a_summary_is_not_added_to_what_an_argument_names(
    warm: str, tmp_path: Path, name: str
) -> None:
    folder = repository(tmp_path).parent
    assert run(warm, folder, "plan", "plan.yaml", "--out", "saved.json").status == 0
    (folder / "vars.yaml").write_text("{}\n", encoding="utf-8")
    before = (folder / name).read_bytes()
    what = ["saved.json"] if name == "saved.json" else ["plan.yaml", "--var-file", "vars.yaml"]
    done = run(warm, folder, "run", *what, "--summary-file", name)
    assert (done.status, "would overwrite" in done.err) == (2, True), done
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "plan.yaml", "--out"],
        ["plan", "plan.yaml", "--html"],
        ["plan", "plan.yaml", "--record"],
        ["run", "plan.yaml", "--summary-file"],
        ["resume", "latest", "--summary-file"],
        ["retry", "latest", "--summary-file"],
        ["apply", "plan.yaml", "--summary-file"],
        ["report", "--html"],
    ],
    ids=" ".join,
)
def test_nothing_is_written_over_the_state(warm: str, ran: Path, arguments: list[str]) -> None:
    """It is the only record of what was sent."""
    before = run(warm, ran.parent, "status", "--format", "json")
    done = run(warm, ran.parent, *arguments, ran.parent / ".backfill" / "state.db")
    assert (done.status, "would overwrite" in done.err) == (2, True), done
    assert run(warm, ran.parent, "status", "--format", "json") == before
    assert before.status == 0
    assert run(warm, ran.parent, *arguments, "other").status in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["plan", "plan.yaml", "--out"], 2, _LOOP),
        (["plan", "plan.yaml", "--html"], 2, _LOOP),
        (["plan", "plan.yaml", "--record"], 2, _LOOP),
        (["report", "--html"], 2, _LOOP),
        (["run", "plan.yaml", "--summary-file"], 1, _LOOP),  # a note: the run has ended by then
        (["status", "--state"], 6, _LOOP),
        (["run", "plan.yaml", "--state"], 6, "the state in loop cannot be used"),
    ],
    ids=str,
)
def test_a_link_to_itself_is_a_user_s_mistake(
    warm: str, ran: Path, arguments: list[str], status: int, words: str
) -> None:
    ran.with_name("loop").symlink_to("loop")
    done = run(warm, ran.parent, *arguments, "loop")
    assert (done.status, words in done.err) == (status, True), done


@pytest.mark.parametrize("command", ["status", "run plan.yaml", "apply --dry-run ."])
def test_a_state_with_an_impossible_name_is_named_once(
    warm: str, tmp_path: Path, command: str
) -> None:
    plan = repository(tmp_path)
    done = run(warm, plan.parent, *command.split(), "--state", "x" * 300)
    assert (done.status, done.err.count("the state in xxx")) == (2, 1), done
    assert os.strerror(errno.ENAMETOOLONG) in done.err
    given = {"BACKFILL_STATE": "x" * 300}
    assert run(warm, plan.parent, "plan", "plan.yaml", env=given).status == 0  # needs no state


@pytest.mark.parametrize(
    "arguments", [["skill", "--install", "link"], ["init", "link/a/plan.yaml"]]
)
def test_no_folder_is_made_beyond_a_link_out_of_the_repository(
    warm: str, tmp_path: Path, arguments: list[str]
) -> None:
    folder, outside = repository(tmp_path).parent, tmp_path / "outside"
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    done = run(warm, folder, *arguments)
    assert (done.status, "lies outside" in done.err) == (2, True), done
    assert list(outside.iterdir()) == []


WRITING = {
    "plan --out": ("plan", "plan.yaml", "--out"),
    "plan --html": ("plan", "plan.yaml", "--html"),
    "report --html": ("report", "--html"),
}


@pytest.mark.parametrize("command", ["plan --out", "plan --html"])
def test_a_full_disk_leaves_what_was_there(warm: str, tmp_path: Path, command: str) -> None:
    plan = repository(tmp_path)
    there = plan.with_name("there")
    there.write_text("as it was", encoding="utf-8")
    before = {*plan.parent.iterdir()}
    full = {"RLIMIT_FSIZE": 500}
    done = run(warm, plan.parent, *WRITING[command], "there", limits=full)
    assert done.status == 2, done
    assert "there cannot be written: File too large" in done.err
    assert "hint: " in done.err
    assert there.read_text(encoding="utf-8") == "as it was"
    assert {*plan.parent.iterdir()} == before
    assert run(warm, plan.parent, *WRITING[command], "there").status == 0  # the control
    assert there.read_text(encoding="utf-8") != "as it was"


PLACES = {
    "nowhere/file": "nowhere/file cannot be written: No such file or directory",
    "plan.yaml/file": "plan.yaml/file cannot be written: Not a directory",
    "pipe": "pipe cannot be written: it exists and is not a file",
    "outside": "outside cannot be written: it lies outside",
    "-": "- cannot be written: it is not the name of a file",
    "/dev/stdout": "/dev/stdout cannot be written: it exists and is not a file",
}


@pytest.mark.parametrize(("command", "name"), crossed(WRITING, PLACES))
def test_a_place_that_takes_no_file_is_named(
    warm: str, ran: Path, tmp_path: Path, command: str, name: str
) -> None:
    os.mkfifo(ran.with_name("pipe"))
    ran.with_name("outside").symlink_to(tmp_path / "victim")
    done = run(warm, ran.parent, *WRITING[command], name)
    assert (done.status, PLACES[name] in done.err) == (2, True), done
    assert not (tmp_path / "victim").exists()


def test_a_run_ends_as_it_does_where_its_summary_has_no_place(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    done = run(warm, plan.parent, "run", "plan.yaml", "--summary-file", "nowhere/summary.md")
    control = run(warm, plan.parent, "run", "plan.yaml", "--summary-file", "summary.md")
    assert done.status == control.status
    assert "note: nowhere/summary.md cannot be written: No such file or directory" in done.err
    assert "cannot be written" not in control.err
    assert plan.with_name("summary.md").read_text(encoding="utf-8")


def test_init_overwrites_nothing_and_names_what_it_cannot_make(warm: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert run(warm, tmp_path, "init", "file").status == 2
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    done = run(warm, tmp_path, "init", "file/plan.yaml")
    assert (done.status, "file" in done.err) == (2, True)
    full = run(warm, tmp_path, "init", "new.yaml", limits={"RLIMIT_FSIZE": 100})
    assert (full.status, "new.yaml cannot be written" in full.err) == (2, True)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    assert run(warm, tmp_path, "init", "new.yaml").status == 0


def test_a_state_without_a_place_is_named(warm: str, tmp_path: Path) -> None:
    plan = repository(tmp_path)
    done = run(warm, plan.parent, "run", "plan.yaml", "--state", "plan.yaml/x/state.db")
    assert (done.status, "folder for the state cannot be created" in done.err) == (6, True), done


def test_sync_names_a_folder_that_it_cannot_make(warm: str, tmp_path: Path) -> None:
    (tmp_path / ".backfill").write_text("in the way", encoding="utf-8")
    done = run(warm, tmp_path, "sync", "--repo", str(tmp_path), "--once", "--branch", "main")
    assert (done.status, ".backfill" in done.err) == (2, True), done


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(tmp_path: Path) -> None:
    kept, new, own = tmp_path / "kept", tmp_path / "new", tmp_path / "own"
    kept.write_bytes(b"")
    kept.chmod(0o640)
    before = os.umask(0o027)
    try:
        write_file(kept, "a")
        write_file(new, ["a", "b"])
        write_file(own, b"a", private=True)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (kept, new, own)]
    assert modes == [0o640, 0o640, 0o600]
    assert new.read_text(encoding="utf-8") == "ab"


def test_a_disk_that_is_full_when_all_is_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    path.write_text("as it was", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="file cannot be written: No space left") as caught:
        write_file(path, "new")
    with pytest.raises(CannotWrite, match="file cannot be written: No space left"):
        append_file(path, "more", limit=100)
    assert "free some space" in str(caught.value.hint)
    assert path.read_text(encoding="utf-8") == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_what_breaks_off_half_way_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield "half"
        raise KeyError("the state is gone")

    path = tmp_path / "file"
    with pytest.raises(KeyError):
        write_file(path, broken())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_not_added_in_part(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    assert append_file(path, "one\n", limit=10)
    assert not append_file(path, "and more than there is room for", limit=10)
    assert append_file(path, "two\n", limit=10)
    assert path.read_text(encoding="utf-8") == "one\n\ntwo\n"
    with pytest.raises(CannotWrite, match="it exists and is not a file"):
        append_file(tmp_path, "x", limit=10)


@pytest.mark.parametrize(
    ("arguments", "full", "left"),
    [
        (["run", "plan.yaml"], 1, 1),  # this is its normal end: the event has no handler
        (["run", "plan.yaml", "--format", "json"], 1, 1),
        (["validate", "nowhere.yaml"], 2, 2),
        (["validate", "plan.yaml", "--format", "json"], 2, 141),
        (["plan", "plan.yaml"], 2, 141),
        (["schema", "plan"], 2, 141),
    ],
)
def test_a_lost_stdout_has_a_status_of_its_own_where_no_run_has_one(
    warm: str, tmp_path: Path, arguments: list[str], full: int, left: int
) -> None:
    plan = repository(tmp_path)
    with Path("/dev/full").open("wb") as nowhere:
        status, err = _printing(warm, plan.parent, arguments, nowhere.fileno())
    assert status == full
    assert ("cannot write to stdout: No space left" in err) == (arguments[1] != "nowhere.yaml")
    read, write = os.pipe()
    os.close(read)
    status, err = _printing(warm, plan.parent, arguments, write)
    os.close(write)
    assert (status, "stdout" in err) == (left, False)


def _printing(warm: str, folder: Path, arguments: list[str], out: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(CLIENT), *arguments],
        cwd=folder,
        env={**os.environ, "SANDBOX_WARM": warm},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_closed_streams_are_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    plan = repository(tmp_path)
    command = f"exec {sys.executable} -m runner run plan.yaml <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], cwd=plan.parent, timeout=60, check=False)
    assert done.returncode == 1  # the run's normal end
    state = (plan.parent / ".backfill" / "state.db").read_bytes()
    assert state.startswith(b"SQLite format 3\0")
    assert b"Plan test" not in state[:4096]
