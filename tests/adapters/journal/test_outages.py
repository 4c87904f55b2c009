"""A state that is away for a while: what was under way is repeated once, and nothing is lost.

Most tests use a stand-in: SQLite behind connections that break. PostgreSQL breaks in the same way.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from runner.adapters.journal.database import Connection, Database
from runner.adapters.journal.outage import Outage
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.errors import TargetError
from runner.model import Patience
from tests.support import make_plan, new_store, repos, start_journal

BODY = repos(3) + "operations: [sync]\n"
NOTE = "INSERT INTO notes (run_id, at, message) VALUES (:run, 1.0, :message)"


class Line:
    """A connection that may break: after `left` statements, or at its commit, whose answer is lost.

    Its transaction ends with it, as on a server.
    """

    read = None  # as of one that writes

    def __init__(self, server: Faraway, raw: Any, left: float = float("inf")) -> None:
        self.server, self.raw, self.left = server, raw, left
        self.loses_answer = self.gone = self.closed = False
        self.began, self.token = "", 0

    def execute(self, statement: str, *given: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.breaks()
        if self.gone:
            raise sqlite3.OperationalError("the connection is closed")
        if statement.startswith("BEGIN"):
            self.began = statement
        found = self.raw.execute(statement, *given)
        if statement == "COMMIT":
            self.server.committed.add(self.token)
            if self.loses_answer:
                self.breaks()
                raise sqlite3.OperationalError("the connection is closed")
        return found

    def cursor(self) -> Any:
        return self.raw.cursor()

    def breaks(self) -> None:
        self.gone = True
        self.raw.close()

    def close(self) -> None:
        self.closed = True
        self.raw.close()


class Faraway:
    """A dialect: SQLite as if it were a server. `opens`: the next attempts to connect: after how
    many statements the connection breaks, or None if it is refused."""

    def __init__(self, really: Any) -> None:
        self.really, self.lines, self.tokens = really, list[Line](), count(1)
        self.committed, self.opens = set[int](), iter(list[float | None]())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.really, name)

    def open(self) -> tuple[Any, bool]:
        left = next(self.opens, float("inf"))
        if left is None:
            raise sqlite3.OperationalError("connection refused\nis it running?")
        raw, again = self.really.open()
        self.lines.append(Line(self, raw, left))
        return self.lines[-1], again

    def is_away(self, line: Line, _error: Exception) -> bool:
        return line.gone

    def token(self, line: Line) -> int:
        assert line.began == self.really.begin_write, "who reads needs none"
        line.execute("SELECT 1")
        line.token = next(self.tokens)
        return line.token

    def has_committed(self, line: Line, token: int) -> bool:
        line.execute("SELECT 1")
        return token in self.committed


class Away:
    """A store whose server can go away."""

    def __init__(self, folder: Path) -> None:
        self.store = new_store(folder)
        self.journal: JournalWriter = start_journal(self.store, make_plan(folder, BODY))
        self.server = Faraway(self.store._database.dialect)
        while idle := self.store._database._kept():
            idle.close()
        self.store._database.dialect = self.server

    def breaks(self) -> None:
        """Break all connections of the store, as a restart of the server does."""
        for line in self.server.lines:
            line.breaks()

    def write(self, connection: Connection, message: str) -> None:
        connection.change(NOTE, run=self.journal.run_id, message=message)

    @property
    def notes(self) -> list[str]:
        return [note.message for note in self.store.notes(self.store.find("latest"))]


class AwayPostgresql(Away):
    def __init__(self, store: Store, folder: Path, operator: Any, name: str) -> None:
        self.store, self.operator, self.name = store, operator, name
        self.journal = start_journal(self.store, make_plan(folder, BODY))

    def breaks(self) -> None:
        self.operator.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = %s",
            [self.name],
        )


@pytest.fixture
def away(tmp_path: Path) -> Away:
    return Away(tmp_path)


@pytest.fixture(params=["stand-in", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    if request.param == "stand-in":
        yield Away(tmp_path)
        return
    url, name = request.getfixturevalue("new_schema")("outage"), f"outage_{time.monotonic_ns()}"
    with (
        psycopg.connect(url, autocommit=True) as operator,
        Store(f"{url}&application_name={name}") as store,
    ):
        yield AwayPostgresql(store, tmp_path, operator, name)


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.adapters.journal.outage._sleep", lambda *_: None)


def _patient(away: Away, notes: list[str] | None = None) -> Any:
    return away.store.patient(Patience(begun=True), ([] if notes is None else notes).append)


@pytest.mark.parametrize("when", ["before", "within", "at the commit"])
def test_a_transaction_whose_connection_breaks_is_made_again_once(either: Away, when: str) -> None:
    if when == "before":
        either.breaks()
    with _patient(either), either.store._database.write() as connection:
        either.write(connection, "one")
        if when == "within":
            either.breaks()
        either.write(connection, "two")
        if when == "at the commit":
            either.breaks()
    assert either.notes == ["one", "two"]


@pytest.mark.usefixtures("no_sleep")
@pytest.mark.parametrize("left", range(5))  # begin, token, two writes, commit
@pytest.mark.parametrize("when", ["within", "at the commit"])
def test_what_breaks_again_as_it_comes_back_is_made_again_once(
    away: Away, left: int, when: str
) -> None:
    with _patient(away), away.store._database.write() as connection:
        away.write(connection, "one")
        away.server.opens = iter([left, left, left])
        if when == "within":
            away.breaks()
        away.write(connection, "two")
        if when == "at the commit":
            away.breaks()
    assert away.notes == ["one", "two"]
    assert all(line.closed for line in away.server.lines[:-1])


@pytest.mark.usefixtures("no_sleep")
@pytest.mark.parametrize("left", [None, 0, 1, 2])
def test_a_commit_whose_answer_was_lost_is_not_made_twice(away: Away, left: int | None) -> None:
    """Even if the server is away again while it is asked about the commit."""
    with _patient(away), away.store._database.write() as connection:
        away.write(connection, "one")
        away.server.lines[-1].loses_answer = True
        away.server.opens = iter([left])
    assert away.notes == ["one"]


def test_postgresql_tells_of_a_commit_whose_answer_was_lost(
    new_schema: Callable[[str], str], tmp_path: Path
) -> None:
    class Lost:
        """Commits, and loses the answer."""

        closed = True

        def __init__(self, raw: Any) -> None:
            self.raw = raw

        def execute(self, statement: str) -> None:
            self.raw.execute(statement)
            raise psycopg.OperationalError("the connection is closed")

        def close(self) -> None:
            self.raw.close()

    with Store(new_schema("outage")) as store:
        away = AwayPostgresql(store, tmp_path, None, "")
        with _patient(away), away.store._database.write() as connection:
            away.write(connection, "one")
            transaction: Any = connection._do
            transaction.__self__.raw = Lost(transaction.__self__.raw)
        assert away.notes == ["one"]


@pytest.fixture
def locked(
    new_schema: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Away, psycopg.Connection[Any]]]:
    """A state, and who keeps one of its tables locked, as for maintenance."""
    monkeypatch.setattr("runner.adapters.driver.PATIENCE", 0.1)
    url = new_schema("locked")
    with Store(url) as store, psycopg.connect(url) as other:
        away = AwayPostgresql(store, tmp_path, None, "")
        other.execute("LOCK TABLE notes")
        yield away, other


@pytest.mark.usefixtures("no_sleep")
def test_a_table_that_somebody_keeps_locked_is_away_until_it_is_free(
    locked: tuple[Away, psycopg.Connection[Any]],
) -> None:
    away, other = locked
    told: list[str] = []

    def hear(note: str) -> None:
        told.append(note)
        if len(told) == 2:
            other.rollback()

    patient = away.store.patient(Patience(begun=True), hear)
    with patient, away.store._database.write() as connection:
        connection.value("SELECT count(*) FROM runs")
        away.write(connection, "one")
    assert away.notes == ["one"]
    assert len(told) == 2
    assert "is away (canceling statement due to lock timeout" in told[0]


@pytest.mark.usefixtures("no_sleep")
def test_who_loses_a_deadlock_tries_again(new_schema: Callable[[str], str], tmp_path: Path) -> None:
    url, told = new_schema("deadlock"), list[str]()
    with psycopg.connect(url, autocommit=True) as operator, Store(url) as store:
        away = AwayPostgresql(store, tmp_path, None, "")
        operator.execute(
            "CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE SQLSTATE '40P01'; END $$"
        )
        operator.execute("CREATE TRIGGER t BEFORE INSERT ON notes EXECUTE FUNCTION loses()")

        def hear(note: str) -> None:
            told.append(note)
            operator.execute("DROP TRIGGER t ON notes")

        patient = away.store.patient(Patience(begun=True), hear)
        with patient, away.store._database.write() as connection:
            away.write(connection, "one")
        assert (away.notes, len(told)) == (["one"], 1)


def test_who_only_asks_is_told_that_a_table_is_locked(
    locked: tuple[Away, psycopg.Connection[Any]],
) -> None:
    away, _ = locked
    with pytest.raises(TargetError, match="lock timeout") as refused:
        assert away.notes
    assert "another process keeps it locked" in (refused.value.hint or "")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_roles_default_isolation_makes_no_write_fail(
    new_schema: Callable[[str], str], tmp_path: Path, level: str
) -> None:
    url, role = new_schema("isolation"), f"isolated_{time.monotonic_ns()}"
    write = "UPDATE runs SET status = :status"
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(f"CREATE ROLE {role} SUPERUSER LOGIN".encode())
        operator.execute(
            f"ALTER ROLE {role} SET default_transaction_isolation = '{level}'".encode()
        )
        parts = urlsplit(url)
        mine = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        with Store(mine) as store, Store(mine) as other:
            start_journal(store, make_plan(tmp_path, BODY))
            with store._database.write() as connection:
                connection.value("SELECT count(*) FROM runs")
                with other._database.write() as meanwhile:
                    meanwhile.change(write, status="failed")
                connection.change(write, status="completed")
        operator.execute(f"DROP OWNED BY {role}".encode())
        operator.execute(f"DROP ROLE {role}".encode())


def test_what_has_changed_meanwhile_is_not_built_upon(either: Away) -> None:
    def read(connection: Connection) -> None:
        connection.value("SELECT count(*) FROM notes")
        either.journal.note("another's")
        either.breaks()
        connection.value("SELECT count(*) FROM notes")

    changed = pytest.raises(TargetError, match="has changed since")
    with _patient(either), changed, either.store._database.read() as connection:
        read(connection)
    assert either.notes == ["another's"]


@pytest.mark.parametrize(("statements", "made_again"), [(1_000, True), (1_001, False)])
def test_of_a_very_long_transaction_not_all_is_kept_to_be_made_again(
    away: Away, statements: int, *, made_again: bool
) -> None:
    def write() -> None:
        with _patient(away), away.store._database.write() as connection:
            for _ in range(statements):
                connection.value("SELECT 1")
            away.breaks()
            away.write(connection, "one")

    if made_again:
        write()
    else:
        with pytest.raises(TargetError, match="has changed since"):
            write()
    assert away.notes == (["one"] if made_again else [])


def test_what_a_connection_that_is_there_refuses_is_not_tried_again(away: Away) -> None:
    told: list[str] = []
    for broken in (False, True):
        refused = pytest.raises(TargetError, match="no such table: nowhere")
        with _patient(away, told), refused, away.store._database.write() as connection:
            away.write(connection, "one")
            if broken:
                away.breaks()
            connection.change("DELETE FROM nowhere")
    assert (away.notes, told) == ([], [])


def test_without_patience_a_connection_that_breaks_ends_it(away: Away) -> None:
    for act in (
        lambda connection: connection.value("SELECT count(*) FROM notes"),
        lambda _connection: None,
    ):
        ended = pytest.raises(TargetError, match="the connection is closed")
        with ended, away.store._database.write() as connection:
            away.write(connection, "one")
            away.breaks()
            act(connection)
    assert away.notes == []


@pytest.mark.usefixtures("no_sleep")
def test_each_try_is_told_until_it_is_back(away: Away) -> None:
    told: list[str] = []
    away.breaks()
    away.server.opens = iter([None, None, None])
    with _patient(away, told):
        away.journal.note("it is back")
    assert away.notes == ["it is back"]
    assert len(told) == 3
    assert all("is away (connection refused); trying again in" in one for one in told)
    assert "(try 4, for " in told[-1]


def test_a_signal_ends_the_wait_and_is_handed_on(away: Away) -> None:
    heard: list[int] = []
    away.breaks()
    away.server.opens = iter([None] * 100)
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


class Watch:
    """A clock, and an attempt that fails so many times, each time after ten seconds."""

    def __init__(self, fails: int) -> None:
        self.now, self.fails, self.made = 100.0, fails, 0

    def __call__(self) -> float:
        return self.now

    def attempt(self) -> str:
        self.made += 1
        self.now += 10.0
        if self.made <= self.fails:
            raise ValueError("refused")
        return "found"


@pytest.mark.usefixtures("no_sleep")
def test_what_is_away_is_tried_for_as_long_as_one_is_patient() -> None:
    told: list[str] = []
    watch = Watch(3)
    outage = Outage(Patience(60.0, begun=True), told.append, "here", watch)
    assert outage.over(watch.attempt, ValueError) == "found"
    assert [one.split("(")[-1] for one in told] == [
        "try 2, for 50s more)",
        "try 3, for 40s more)",
        "try 4, for 30s more)",
    ]
    for_ever = Watch(99)
    with pytest.raises(ValueError, match="refused"):
        Outage(Patience(60.0, begun=True), told.append, "here", for_ever).over(
            for_ever.attempt, ValueError
        )
    assert for_ever.made == 6


@pytest.mark.usefixtures("no_sleep")
def test_a_signal_that_came_before_ends_no_later_wait() -> None:
    watch = Watch(2)
    outage = Outage(Patience(60.0, begun=True), lambda _: None, "here", watch)
    outage.came.append(signal.SIGTERM)
    assert outage.over(watch.attempt, ValueError) == "found"


def test_a_wait_takes_its_time_without_a_signal() -> None:
    watch = Watch(1)
    outage = Outage(Patience(60.0, begun=True), lambda _: None, "here", watch)
    began = time.monotonic()
    outage.over(watch.attempt, ValueError)
    assert 0.01 < time.monotonic() - began < 3


def test_signals_are_heard_in_the_main_thread_and_only_where_somebody_handles_them() -> None:
    outages = [Outage(Patience(60.0), print, "here") for _ in range(2)]
    ended: list[bool] = []

    def beside() -> None:
        with outages[0].heard():
            ended.append(True)

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert ended == [True]
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with outages[1].heard():
            pass
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with outages[1].heard():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_blocks_that_end_in_another_order_leave_the_handlers_as_they_were() -> None:
    """As the steps do that one process runs at the same time."""
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


def kept(database: Database) -> int:
    return len(database._idle)


def test_two_connections_are_kept_and_all_are_closed_at_the_end(away: Away) -> None:
    database, lines = away.store._database, away.server.lines
    with database.read(), database.read(), database.read():
        assert len(lines) == 3
    assert (kept(database), [line.closed for line in lines]) == (2, [True, False, False])
    with database.read(), database.read():
        assert len(lines) == 3, "those are used again"
    database.close()
    assert all(line.closed for line in lines)


def test_a_transaction_that_fails_leaves_nothing_behind_and_its_connection_for_the_next(
    away: Away,
) -> None:
    database, lines = away.store._database, away.server.lines

    def fail() -> None:
        with database.write() as connection:
            away.write(connection, "one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert away.notes == []
    assert (len(lines), lines[0].closed) == (1, False)


def test_a_connection_that_broke_is_closed_and_not_kept(away: Away) -> None:
    database, lines = away.store._database, away.server.lines

    def fail() -> None:
        with database.write() as connection:
            away.breaks()
            away.write(connection, "one")

    with pytest.raises(TargetError):
        fail()
    assert (kept(database), lines[0].closed) == (0, True)
    assert away.notes == []


def test_one_that_broke_while_nobody_used_it_is_closed_and_another_opened(away: Away) -> None:
    assert away.notes == []
    away.breaks()
    assert away.notes == []
    assert [line.closed for line in away.server.lines] == [True, False]


@pytest.mark.usefixtures("no_sleep")
@pytest.mark.parametrize("left", [0, 1])
def test_a_connection_that_cannot_begin_is_closed(away: Away, left: int) -> None:
    away.server.opens = iter([left])
    with _patient(away):
        away.journal.note("one")
    assert [line.closed for line in away.server.lines] == [True, False]
    assert away.notes == ["one"]


def test_a_file_is_never_away(tmp_path: Path) -> None:
    """SQLite would refuse again what it has refused."""
    told: list[str] = []
    store = new_store(tmp_path)
    patient = store.patient(Patience(begun=True), told.append)
    with patient, pytest.raises(TargetError), store._database.write() as connection:
        connection.change("DELETE FROM nowhere")
    assert told == []
