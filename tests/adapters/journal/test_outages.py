"""A state that is away for a while: what was under way is made again, once, and nothing is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from runner.adapters.journal.database import Connection
from runner.adapters.journal.outage import Outage
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.errors import TargetError
from runner.model import Patience
from tests.support import make_plan, repos, start_journal

BODY = repos(3) + "operations: [sync]\n"
NOTE = "INSERT INTO notes (run_id, at, message) VALUES (:run, 1.0, :message)"


class Away(NamedTuple):
    store: Store
    journal: JournalWriter
    name: str
    operator: psycopg.Connection[Any]

    def breaks(self) -> None:
        """Every connection of the store ends, as at a restart of the server."""
        self.operator.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = %s",
            [self.name],
        )

    def write(self, connection: Connection, message: str) -> None:
        connection.change(NOTE, run=self.journal.run_id, message=message)

    @property
    def notes(self) -> list[str]:
        return [note.message for note in self.store.notes(self.store.find("latest"))]


@pytest.fixture
def away(new_schema: Callable[[str], str], tmp_path: Path) -> Iterator[Away]:
    url, name = new_schema("outage"), f"outage_{time.monotonic_ns()}"
    with (
        psycopg.connect(url, autocommit=True) as operator,
        Store(f"{url}&application_name={name}") as store,
    ):
        yield Away(store, start_journal(store, make_plan(tmp_path, BODY)), name, operator)


def _patient(away: Away, notes: list[str] | None = None) -> Any:
    return away.store.patient(Patience(begun=True), ([] if notes is None else notes).append)


@pytest.mark.parametrize("when", ["before", "within", "at the commit"])
def test_a_transaction_whose_connection_breaks_is_made_again_once(away: Away, when: str) -> None:
    if when == "before":
        away.breaks()
    with _patient(away), away.store._database.write() as connection:
        away.write(connection, "one")
        if when == "within":
            away.breaks()
        away.write(connection, "two")
        if when == "at the commit":
            away.breaks()
    assert away.notes == ["one", "two"]


class Brittle:
    """A connection that breaks after so many statements."""

    def __init__(self, raw: Any, left: int) -> None:
        self.raw, self.left = raw, left

    def execute(self, *given: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.raw.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return self.raw.execute(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@pytest.mark.parametrize("left", range(5))  # begin, token, two writes, commit
def test_what_breaks_again_as_it_comes_back_is_made_again_once(
    away: Away, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    really = away.store._database.dialect.open
    opened: list[Brittle] = []

    def brittle() -> tuple[Any, bool]:
        raw, again = really()
        if len(opened) == 3:
            return raw, again
        opened.append(Brittle(raw, left))
        return opened[-1], again

    monkeypatch.setattr("runner.adapters.journal.outage._sleep", lambda *_: None)
    with _patient(away), away.store._database.write() as connection:
        away.write(connection, "one")
        monkeypatch.setattr(away.store._database.dialect, "open", brittle)
        away.breaks()
        away.write(connection, "two")
    assert away.notes == ["one", "two"]
    assert opened


def test_a_commit_whose_answer_was_lost_is_not_made_twice(away: Away) -> None:
    class Lost:
        """Commits, and its answer does not arrive."""

        closed = True

        def __init__(self, raw: Any) -> None:
            self.raw = raw

        def execute(self, statement: str) -> None:
            self.raw.execute(statement)
            raise psycopg.OperationalError("the connection is closed")

        def close(self) -> None:
            self.raw.close()

    with _patient(away), away.store._database.write() as connection:
        away.write(connection, "one")
        transaction: Any = connection._do
        transaction.__self__.raw = Lost(transaction.__self__.raw)
    assert away.notes == ["one"]


def test_what_has_changed_meanwhile_is_not_built_upon(away: Away) -> None:
    def read(connection: Connection) -> None:
        connection.value("SELECT count(*) FROM notes")
        away.journal.note("another's")
        away.breaks()
        connection.value("SELECT count(*) FROM notes")

    changed = pytest.raises(TargetError, match="has changed since")
    with _patient(away), changed, away.store._database.read() as connection:
        read(connection)


def test_without_patience_a_connection_that_breaks_ends_it(away: Away) -> None:
    def read(connection: Connection) -> None:
        away.breaks()
        connection.value("SELECT count(*) FROM notes")

    with pytest.raises(TargetError), away.store._database.read() as connection:
        read(connection)


def _refuse(*_: object) -> Any:
    raise psycopg.OperationalError("connection refused\nis it running?")


def test_each_try_is_told_until_it_is_back(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    opens = iter([_refuse, _refuse, _refuse])
    really = away.store._database.dialect.open
    monkeypatch.setattr(away.store._database.dialect, "open", lambda: next(opens, really)())
    monkeypatch.setattr("runner.adapters.journal.outage._sleep", lambda *_: None)
    away.breaks()
    with _patient(away, told):
        away.journal.note("it is back")
    assert away.notes == ["it is back"]
    assert len(told) == 3
    assert all("is away (connection refused); trying again in" in one for one in told)
    assert "(try 4, for " in told[-1]


def test_a_signal_ends_the_wait_and_is_handed_on(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(away.store._database.dialect, "open", _refuse)
    away.breaks()
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    try:
        with _patient(away), pytest.raises(TargetError, match="cannot be used"):
            away.journal.note("never")
    finally:
        signal.signal(signal.SIGTERM, before)
        timer.join()
    assert heard == [signal.SIGTERM]


def test_blocks_that_end_in_another_order_leave_the_handlers_as_they_were() -> None:
    """As those of steps that one process takes at a time."""
    heard: list[int] = []

    def handler(number: int, _frame: object) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        first, second = (Outage(Patience(60.0), print, "here") for _ in range(2))
        one, other = first.heard(), second.heard()
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        signal.raise_signal(signal.SIGTERM)
        assert (first.came, second.came, heard) == ([], [signal.SIGTERM], [signal.SIGTERM])
        other.__exit__(None, None, None)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
