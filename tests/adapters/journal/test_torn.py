"""A journal that is on a full disk, damaged, read-only, locked, or of another version."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.journal.store import Store
from runner.errors import TargetError
from tests.adapters.journal.lives import Life
from tests.cli.conftest import served
from tests.support import make_plan, new_store, repos, start_journal, write_plan

BODY = repos(3) + "operations: [sync]\n"
ROOT = Path(__file__).parents[3]


def _run(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a process whose files may not exceed `limit` bytes, as on a full disk."""

    def full_disk() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=full_disk,
        check=False,
    )


def test_a_full_disk_stops_the_sending_and_the_run_can_be_carried_on(tmp_path: Path) -> None:
    """Nothing is sent that was not recorded first."""
    effects: list[str] = []
    plan = write_plan(tmp_path, repos(150) + "operations: [fire]\nbatch_size: 1\ndelay: 0s\n")
    with served(create_app({"app/fire": lambda event: effects.append(event["id"])})) as url:
        arguments = ("run", plan, "--target", url)
        stopped = _run(*arguments, limit=300_000)
        assert stopped.returncode == 6, stopped.stderr
        assert "state.db cannot be used" in stopped.stderr
        assert "free some disk" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert 0 < len(effects) < 150
        resumed = _run("resume", "latest")
    assert resumed.returncode == 0, resumed.stderr
    assert len(effects) == len(set(effects)) == 150


def _damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)


def test_a_damaged_file_is_said_with_what_can_be_saved(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, BODY)
    store = new_store(tmp_path)
    start_journal(store, plan)
    store.close()
    _damage(tmp_path / "state.db")
    with pytest.raises(TargetError, match=r"state\.db cannot be used") as error:
        Store(str(tmp_path / "state.db")).find("RUN1")
    assert ".recover" in str(error.value.hint)


def _load(store: Store) -> None:
    """Read all that a resume reads, and what the displays show."""
    record = store.find("RUN1")
    store.hooks("RUN1")
    store.answers(record)
    list(store.events(record))
    for stage in store.plan_of(record).stages:
        list(stage.items.lines())


@pytest.mark.parametrize(
    "change",
    [
        "runs SET head = '[' || head",
        "runs SET head = replace(head, '\"stages\":', '\"stagez\":')",
        "runs SET head = CAST(head || x'ff' AS TEXT)",
        "runs SET variables = '{'",
        "runs SET notify = '{'",
        "chunks SET ids = '{'",
        "answers SET value = '{'",
        "blocks SET body = x'00'",
    ],
)
def test_a_value_that_is_no_longer_as_it_was_written_is_no_mistake_of_ours(
    tmp_path: Path, change: str
) -> None:
    life = Life(tmp_path, BODY)
    life.take(1, range(3))
    life.journal.remember("a question", 1)
    _load(life.store)
    with life.store._database.write() as connection:
        assert connection.change(f"UPDATE {change}") == 1
    with pytest.raises(TargetError, match=r"cannot be read|Could not decode") as error:
        _load(life.store)
    assert "restore the state" in str(error.value.hint)
    assert len(str(error.value)) < 200


def test_a_truncated_file_is_said(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    start_journal(store, make_plan(tmp_path, BODY))
    store.close()
    path = tmp_path / "state.db"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TargetError, match="cannot be used"):
        Store(str(path)).find("RUN1")


def test_a_table_that_is_gone_is_no_mistake_of_ours(tmp_path: Path) -> None:
    journal = start_journal(new_store(tmp_path), make_plan(tmp_path, BODY))
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("DROP TABLE chunks")
    connection.close()
    with pytest.raises(TargetError, match=r"state\.db cannot be used: no such table"):
        journal.next_position()


def test_a_file_that_another_process_keeps_locked_is_said(
    tmp_path: Path,
) -> None:
    journal = start_journal(new_store(tmp_path), make_plan(tmp_path, BODY))
    with journal._database.read() as connection:
        connection.value("PRAGMA busy_timeout=50")
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(TargetError, match="database is locked") as error:
            journal.keep_lease()
    finally:
        other.close()
    assert "another process keeps it locked" in str(error.value.hint)


def test_a_postgresql_that_is_away_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as error:
        Store("postgresql://me:s3cret-word@127.0.0.1:1/nowhere")
    said = f"{error.value} {error.value.hint}"
    assert "the state in postgresql://127.0.0.1/nowhere cannot be used" in said
    assert "s3cret-word" not in said


def test_a_connection_that_broke_while_it_was_idle_is_opened_anew(
    new_schema: Callable[[str], str], tmp_path: Path
) -> None:
    """As after a restart of the server; nothing in it is done twice."""
    url = new_schema("broken")
    end = "SELECT pg_terminate_backend(:pid)"
    with Store(url) as store, Store(url) as other:
        journal = start_journal(store, make_plan(tmp_path, BODY))
        for work in (lambda: journal.note("a note"), lambda: store.find("RUN1")):
            with store._database.read() as connection:
                pid = connection.value("SELECT pg_backend_pid()")
            with other._database.read() as connection:
                assert connection.value(end, pid=pid)
            work()
        assert journal.notes() == ["a note"]
