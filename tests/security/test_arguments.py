"""What cannot be a path, a text or a state is refused with a message, wherever it is given."""

from __future__ import annotations

import os
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.depth import some
from tests.security.commands import repository, run


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


LONG = "x" * 3_000
NO_TEXT = os.fsdecode(b"http://\xff")
TOO_LONG, NO_UTF8, TOO_DEEP = "File name too long", "is not UTF-8", "levels deep"
PLAN_FILE = "plan.yaml"
ODD: dict[str, tuple[list[str], str]] = {
    **{
        " ".join(arguments): ([*arguments, LONG], TOO_LONG)
        for arguments in (
            ["validate"],
            ["plan"],
            ["coverage"],
            ["doctor"],
            ["run"],
            ["runs", "--state"],
            ["status", "x", "--state"],
            ["events", "x", "--state"],
            ["plan", PLAN_FILE, "--out"],
            ["plan", PLAN_FILE, "--var-file"],
        )
    },
    "two paths of diff": (["diff", PLAN_FILE, LONG], TOO_LONG),
    "a target": (["run", PLAN_FILE, "--yes", "--target", NO_TEXT], NO_UTF8),
    "a repository": (["sync", "--once", "--repo", NO_TEXT], NO_UTF8),
    "a variable": (["plan", PLAN_FILE, "--var", f"a={NO_TEXT}"], NO_UTF8),
    "a branch": (["sync", "--once", "--repo", ".", "--branch", NO_TEXT], NO_UTF8),
    "lists in lists in lists": (
        ["plan", PLAN_FILE, "--var", "a=" + 3_000 * "[" + 3_000 * "]"],
        TOO_DEEP,
    ),
    "lists in lists": (["plan", PLAN_FILE, "--var", "a=" + "[" * 200 + "]" * 200], TOO_DEEP),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_argument_is_refused_in_words(warm: str, tmp_path: Path, name: str) -> None:
    arguments, words = ODD[name]
    done = run(warm, repository(tmp_path).parent, *arguments)
    assert (done.status, words in done.err) == (2, True), done


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("BACKFILL_STATE", "x" * 5_000, TOO_LONG),
        ("BACKFILL_STATE", NO_TEXT, NO_UTF8),
        ("INNGEST_BASE_URL", NO_TEXT, NO_UTF8),
        ("INNGEST_SIGNING_KEY", os.fsdecode(b"s3cret-of-somebody-else\xff"), NO_UTF8),
    ],
)
def test_so_is_an_odd_variable(
    warm: str, tmp_path: Path, variable: str, value: str, words: str
) -> None:
    done = run(warm, tmp_path, "runs", env={variable: value})
    assert (done.status, words in done.err) == (2, True), done


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "not a file but a pipe"),
        (Path.mkdir, "not a file but a folder"),
        (a_socket, "not a file but a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "not a file but a device"),
        (lambda path: path.symlink_to("/dev/null"), "not a file but a device"),
    ],
)
@pytest.mark.parametrize("command", [["run", PLAN_FILE, "--yes"], ["runs"], ["status", "x"]])
def test_a_state_that_is_no_file_is_refused_by_its_kind(
    warm: str,
    tmp_path: Path,
    make: Callable[[Path], object],
    words: str,
    command: list[str],
) -> None:
    state = tmp_path / "state"
    make(state)
    done = run(warm, repository(tmp_path).parent, *command, env={"BACKFILL_STATE": str(state)})
    assert (done.status, words in done.err) == (2, True), done


FOR_EVER = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
PROGRAMS = {
    "a view in a table's place": (
        "ALTER TABLE runs RENAME TO runs_",
        f"CREATE VIEW runs AS {FOR_EVER} SELECT runs_.* FROM runs_, r WHERE n < 0",
    ),
    "one in capitals": (
        "ALTER TABLE runs RENAME TO runs_",
        f"CREATE VIEW RUNS AS {FOR_EVER} SELECT runs_.* FROM runs_, r WHERE n < 0",
    ),
    "a view of the version": (
        "DROP TABLE backfill_version",
        f"CREATE VIEW backfill_version AS {FOR_EVER} SELECT n AS version FROM r WHERE n < 0",
    ),
    "a trigger": (
        f"CREATE TRIGGER t BEFORE INSERT ON runs BEGIN {FOR_EVER} SELECT n FROM r; END",
    ),
    "a column that is computed": (
        "DROP TABLE backfill_version",
        "CREATE TABLE backfill_version (a INTEGER, version AS (length(zeroblob(900000000))))",
        "INSERT INTO backfill_version (a) VALUES (1)",
    ),
    "an index that computes": ("CREATE INDEX i ON runs (length(plan))",),
}  # fmt: skip


@pytest.mark.parametrize("name", some(PROGRAMS, 2))
def test_a_state_of_a_checkout_runs_nothing(warm: str, tmp_path: Path, name: str) -> None:
    """Whoever can commit plans can also commit `.backfill/state.db`."""
    folder = repository(tmp_path).parent
    assert run(warm, folder, "run", PLAN_FILE, "--yes").status == 1  # nothing listens
    assert run(warm, folder, "runs").status == 0
    state = folder / ".backfill" / "state.db"
    with closing(sqlite3.connect(state)) as connection:
        for statement in PROGRAMS[name]:
            connection.execute(statement)
        connection.commit()
    for command in (["runs"], ["status", "latest"], ["apply", "--dry-run", "."]):
        done = run(warm, folder, *command)
        assert (done.status, "is not as backfill creates it" in done.err) == (6, True), done
    assert run(warm, folder, "plan", PLAN_FILE).status == 0


def test_a_state_of_a_checkout_deletes_no_file(warm: str, tmp_path: Path) -> None:
    """SQLite deletes the file that the journal beside a database names as the one above it."""
    folder, victim = repository(tmp_path).parent, tmp_path / "precious"
    assert run(warm, folder, "run", PLAN_FILE, "--yes").status == 1  # nothing listens
    victim.write_text("precious")
    state = folder / ".backfill" / "state.db"
    with closing(sqlite3.connect(state)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        [size] = connection.execute("PRAGMA page_size").fetchone()
        [pages] = connection.execute("PRAGMA page_count").fetchone()
    magic, name = bytes.fromhex("d9d505f920a163d7"), bytes(victim)
    head = magic + struct.pack(">5I", 0, 1, pages, 512, size)
    tail = struct.pack(">I", (1 << 30) // size + 1) + name
    tail += struct.pack(">2I", len(name), sum(name)) + magic
    Path(f"{state}-journal").write_bytes(head.ljust(512, b"\0") + tail)
    for command in (["runs"], ["run", PLAN_FILE, "--yes"]):
        done = run(warm, folder, *command)
        assert (done.status, "with a journal that is not backfill's" in done.err) == (6, True), done
    assert victim.read_text() == "precious"


def test_so_is_a_command_where_the_working_directory_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "sync", "--once", "--repo", "."]
    gone = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", gone, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "working directory no longer exists" in done.stderr) == (2, True), done


@pytest.mark.parametrize(
    "command", [["run", PLAN_FILE, "--yes"], ["runs"], ["status", "x"], ["events", "x"]]
)
def test_another_programs_database_is_no_state_and_stays_as_it_was(
    warm: str, tmp_path: Path, command: list[str]
) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
        connection.commit()
    before = other.read_bytes()
    done = run(warm, repository(tmp_path).parent, *command, "--state", other)
    assert (done.status, "of another program" in done.err) == (2, True), done
    assert other.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "repository"], "no log beside it"
