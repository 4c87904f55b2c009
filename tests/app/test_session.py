"""What a session opens, what it waits for, and what it leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runner
from runner.app.session import Session, Silent, blocking
from runner.errors import LockHeld
from runner.model import Query
from tests.support import Recorder, make_plan, repos, start_journal


def opened(folder: Path) -> list[str]:
    """List the files of a folder that this process has open."""
    found = []
    for one in Path("/dev/fd").iterdir():
        try:
            found.append(str(one.readlink()))
        except OSError:  # the descriptor of the listing itself
            continue
    return [name for name in found if name.startswith(str(folder))]


def test_what_it_has_opened_is_closed_with_it(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "app.db").close()
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}"}
    with Session(str(tmp_path / "state.db"), environ=environ) as session:
        assert session.store.runs() == []
        database = session.databases(str(tmp_path / "plan.yaml"))
        assert database.ask(Query("select 1 as n"), {}).rows == ((1,),)
        assert opened(tmp_path)
    assert opened(tmp_path) == []
    assert len(session.timings) == 1
    assert session.has_state, "it can be used again"
    session.close()


def test_events_that_are_read_beyond_its_end_leave_nothing_open(tmp_path: Path) -> None:
    """Their connection was kept for a next question, which could not come."""
    with runner.Session(tmp_path / "state.db", environ={}) as session:
        start_journal(session.store, make_plan(tmp_path, repos(2) + "operations: [sync]\n"))
        events = session.events()
        first = next(events)
    assert [first.item, *(one.item for one in events)] == ["o/r0", "o/r1"]
    assert opened(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "file"),
    [
        ("state.db", "state.db"),
        ("sqlite:////data/state.db", "/data/state.db"),
        ("postgresql://host/state", None),
    ],
)
def test_a_state_is_a_file_unless_a_server_has_it(state: str, file: str | None) -> None:
    assert Session(state, environ={}).state_file == (Path(file) if file else None)


def test_an_observer_hears_what_nobody_else_would() -> None:
    heard = Recorder()
    for reporter in (Silent(heard), Silent()):
        reporter.note("a note")
        reporter.say("a word")
    assert heard.notes == ["a note", "a word"]


def test_a_lock_is_waited_for_as_long_as_is_said_and_that_once(tmp_path: Path) -> None:
    heard = Recorder()
    reporter: Any = SimpleNamespace(say=heard.note)
    with Session(str(tmp_path / "state.db"), environ={}, reporter=reporter) as session:
        with session.lock("plan", "address", "RUN1"):
            with pytest.raises(LockHeld), session.lock("plan", "address", "RUN2"):
                pass
            assert heard.notes == []
            with pytest.raises(LockHeld) as held, session.lock("plan", "address", "RUN2", 0.05):
                pass
            assert heard.notes == [f"waiting for the lock: {held.value}"]
        with session.lock("plan", "address", "RUN2"):
            pass


def test_work_is_done_also_within_a_loop_that_runs() -> None:
    async def work() -> int:
        return 7

    async def notebook() -> int:
        return blocking(work())

    assert (blocking(work()), asyncio.run(notebook())) == (7, 7)
