"""The database of the state: SQLite or PostgreSQL, and everything that differs between them.

Statements are plain SQL that both understand. Parameters are named, as in `:name`; `{now}`,
`{lower}`, `{lock}`, `{bytes}`, `{serial}` and `{rowless}` stand for what the two spell differently.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import time
from collections import namedtuple
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from runner.adapters import driver
from runner.adapters.database.url import FORM, DatabaseUrl, parse_url
from runner.adapters.files import CannotWrite, make_folder, write_file
from runner.adapters.journal.outage import Kept, Outage
from runner.errors import NoState, TargetError, UsageError
from runner.model import Patience
from runner.planning.event_blocks import RESTORE, damaged
from runner.spec.files import ends_with, odd_kind
from runner.spec.secrets import redact

T = TypeVar("T")
# A power cut may undo the last commits of SQLite; what is then sent again has the same event ids,
# which the server deduplicates.
_SYNCHRONOUS = "synchronous=NORMAL"
# How a rollback journal of SQLite ends that names another one: https://sqlite.org/fileformat.html
_NAMES_A_FILE = bytes.fromhex("d9d505f920a163d7")
_IDLE = 2  # connections kept open; each serves one statement or stream of rows at a time


class _Do(Protocol):
    def __call__(self, statement: Callable[[Any], T], /) -> T: ...


class Connection:
    """Executes the statements of one transaction.

    Text from outside is redacted here before it is stored, and what no database takes of it is
    replaced: it only occurs in the columns `message`, `reason` and `item`.
    """

    def __init__(self, do: _Do, spell: Callable[[str], str]) -> None:
        self._do, self._spell = do, spell

    def change(self, statement: str, **given: Any) -> int:
        """Execute a statement; return the number of changed rows."""
        spelled, clean = self._spell(statement), _clean(given)
        return self._do(lambda raw: int(raw.execute(spelled, clean).rowcount))

    def change_each(self, statement: str, rows: Collection[dict[str, Any]]) -> None:
        """Execute the statement once for each of the `rows`."""
        if rows:
            spelled, each = self._spell(statement), [_clean(row) for row in rows]
            self._do(lambda raw: raw.cursor().executemany(spelled, each))

    def rows(self, query: str, **given: Any) -> list[Any]:
        """Return the rows as named tuples."""
        spelled = self._spell(query)

        def ask(raw: Any) -> list[Any]:
            found = raw.execute(spelled, given)
            return list(map(_named(tuple(column[0] for column in found.description)), found))

        return self._do(ask)

    def row(self, query: str, **given: Any) -> Any:
        """Return the first row, or None."""
        return next(iter(self.rows(query, **given)), None)

    def values(self, query: str, **given: Any) -> list[Any]:
        """Return the first column."""
        spelled = self._spell(query)
        return self._do(lambda raw: [value for value, *_ in raw.execute(spelled, given)])

    def value(self, query: str, **given: Any) -> Any:
        """Return the first column of the first row; None without rows."""
        spelled = self._spell(query)
        found = self._do(lambda raw: raw.execute(spelled, given).fetchone())
        return None if found is None else found[0]


def _clean(given: dict[str, Any]) -> dict[str, Any]:
    for name in ("message", "reason", "item"):
        if text := given.get(name):
            text = text if name == "item" else redact(text).encode(errors="replace").decode()
            given[name] = text.replace("\0", "\ufffd")  # PostgreSQL takes no zero byte
    return given


def listed(name: str, values: Collection[Any]) -> tuple[str, dict[str, Any]]:
    """Return the inside of an ``IN (...)``, and its parameters."""
    given = {f"{name}_{number}": value for number, value in enumerate(values)}
    return ", ".join(f":{key}" for key in given) or "NULL", given


@cache
def _named(columns: tuple[str, ...]) -> Callable[[Any], Any]:
    kind: Any = namedtuple("Row", columns)  # type: ignore[misc]  # noqa: PYI024
    made: Callable[[Any], Any] = kind._make
    return made


class Dialect(Protocol):
    """What differs between the databases."""

    where: str  # for people, without a password
    errors: type[Exception]
    words: Mapping[str, str]
    begin_read: str
    begin_write: str
    one_at_a_time: str | None  # the first statement in a transaction that creates the tables
    has_table: str
    made_of: str | None  # selects the definitions in a file that others may have tampered with

    def open(self) -> tuple[Any, bool]:
        """Return a connection, and whether it may be reused."""

    def spell(self, statement: str) -> str: ...

    def is_away(self, connection: Any, error: Exception) -> bool:
        """Whether the statement that failed may succeed later, on another connection."""

    def is_replaced(self, connection: Any) -> bool:
        """Whether the state that the connection reads is no longer the one that is there."""

    def token(self, connection: Any) -> Any:
        """Return an id of the transaction; None if a commit's answer cannot get lost."""

    def has_committed(self, connection: Any, token: Any) -> bool:
        """Ask on another connection whether a transaction was committed, if the answer was lost."""

    def explain(self, error: Exception) -> tuple[str, str]:
        """Return what is wrong, and a hint."""


class Database:
    """Opens transactions. Raises `TargetError` if the database cannot be reached, read or written.

    `only_reads`: open it without writing anything, even if nothing may be written.
    """

    def __init__(self, url: str, *, only_reads: bool = False) -> None:
        self.dialect = _dialect(url, only_reads=only_reads)
        self.where = self.dialect.where
        self._idle: list[Any] = []
        self._keeps = _IDLE
        self._outage: Outage | None = None

    @contextmanager
    def patient(self, patience: Patience, note: Callable[[str], None]) -> Iterator[None]:
        """Retry a state that is away, until the block ends."""
        outage = Outage(patience, note, self.where)
        before, self._outage = self._outage, outage
        try:
            with outage.heard():
                yield
        finally:
            self._outage = before

    def read(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads a consistent snapshot."""
        return self._transaction(self.dialect.begin_read, writes=False)

    def write(self) -> AbstractContextManager[Connection]:
        return self._transaction(self.dialect.begin_write, writes=True)

    def close(self) -> None:
        """Close what is open; a stream of rows that is still read is closed at its end."""
        self._keeps = 0
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _transaction(self, begin: str, *, writes: bool) -> Iterator[Connection]:
        try:
            transaction = _Transaction(self, begin, writes=writes)
            try:
                yield Connection(transaction.do, self.dialect.spell)
                transaction.commit()
            except BaseException:
                transaction.again = transaction.again and self._rolled_back(transaction.raw)
                raise
            finally:
                self._put_back(transaction)
        except json.JSONDecodeError as error:
            raise damaged() from error
        except self.dialect.errors as error:
            why, hint = self.dialect.explain(error)
            raise TargetError(
                f"the state in {self.where} cannot be used: {why}", hint=hint
            ) from error

    def _put_back(self, transaction: _Transaction) -> None:
        if transaction.again and len(self._idle) < self._keeps:
            self._idle.append(transaction.raw)
        else:
            transaction.raw.close()

    def outlast(self, attempt: Callable[[], T]) -> T:
        """Call `attempt`, and retry it while the state is away and patience lasts."""
        if self._outage is None:
            return attempt()
        found: T = self._outage.over(attempt, self.dialect.errors)
        return found

    @property
    def is_patient(self) -> bool:
        return self._outage is not None

    def begun(self, begin: str) -> tuple[Any, bool]:
        """Begin a transaction on an idle connection, or on a new one if all idle ones are broken
        or read a state that was removed or replaced."""
        while raw := self._kept():
            try:
                replaced = self.dialect.is_replaced(raw)
            except BaseException:
                raw.close()
                raise
            if replaced:
                raw.close()
                continue
            try:
                raw.execute(begin)
            except BaseException as error:
                away = isinstance(error, self.dialect.errors) and self.dialect.is_away(raw, error)
                raw.close()
                if not away:
                    raise
            else:
                return raw, True
        raw, again = self.dialect.open()
        try:
            raw.execute(begin)
        except BaseException:
            raw.close()
            raise
        return raw, again

    def _kept(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _rolled_back(self, raw: Any) -> bool:
        try:
            raw.execute("ROLLBACK")
        except self.dialect.errors:
            return False
        return True


class _Transaction:
    """A transaction that is repeated if its connection breaks. If the answer to a commit was lost,
    it is first checked whether the commit succeeded."""

    def __init__(self, database: Database, begin: str, *, writes: bool) -> None:
        self._database, self._begin = database, begin
        self._writes = writes and database.is_patient
        self._kept = Kept()
        database.outlast(self._open)

    def _open(self) -> None:
        self.raw, self.again = self._database.begun(self._begin)
        try:
            self._token = self._database.dialect.token(self.raw) if self._writes else None
        except BaseException:
            self.raw.close()
            raise

    def do(self, statement: Callable[[Any], T]) -> T:
        try:
            found = statement(self.raw)
        except self._database.dialect.errors as error:
            if not self._is_away(error):
                raise
            found = self._made_again(statement)
        if self._database.is_patient:
            self._kept.add(statement, found)
        return found

    def commit(self) -> None:
        try:
            _commit(self.raw)
        except self._database.dialect.errors as error:
            if not self._is_away(error):
                raise
            self._made_again(_commit)

    def _is_away(self, error: Exception) -> bool:
        return self._database.is_patient and self._database.dialect.is_away(self.raw, error)

    def _made_again(self, last: Callable[[Any], T]) -> T:
        """Repeat all statements, and the `last` one, on another connection, which may break as
        well."""
        dialect, unanswered = self._database.dialect, self._token

        def attempt() -> T:
            nonlocal unanswered
            self.raw.close()
            self._open()
            if last is _commit and unanswered is not None:
                if dialect.has_committed(self.raw, unanswered):
                    return last(self.raw)
                unanswered = self._token
            if not self._kept.again(self.raw):
                message = f"the state in {self._database.where} was away and has changed since"
                raise TargetError(message, hint="`backfill resume RUN` continues the run")
            try:
                return last(self.raw)
            except dialect.errors as error:
                if dialect.is_away(self.raw, error):
                    raise
                raise _Refused(error) from error

        try:
            return self._database.outlast(attempt)
        except _Refused as refused:
            raise refused.error from None


class _Refused(Exception):
    """The error of a state that is not away: a retry would not help."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _commit(raw: Any) -> Any:
    return raw.execute("COMMIT")


_SENT = "what was sent is in it"
_DISK = f"free some disk space; {_SENT}, and `backfill resume RUN` continues the run"
_OTHERWISE = f"{_SENT}; free the disk or the lock, or name another state with --state"
_FREE_THE_LOCK = (
    "another process keeps it locked: end that process, or name another state with --state"
)
_HINTS = {
    "full": _DISK,
    "disk i/o": _DISK,
    "readonly": "make the file and its folder writable, or name another state with --state",
    "locked": _FREE_THE_LOCK,
    "malformed": (
        "the file is damaged: save what can be read with `sqlite3 FILE .recover | "
        "sqlite3 NEW`; resume a run that is in it with --state sqlite:///NEW"
    ),
    "not a database": "this file is not a state: restore it from a backup, or name another",
    "could not decode": RESTORE,
    "unable to open": "make sure its folder exists and is writable, or name another with --state",
}


# Matches a file with tables but none of ours, which are created all at once.
_FOREIGN = """SELECT 1 WHERE EXISTS (SELECT 1 FROM sqlite_master)
AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'backfill_version')"""


def no_state(where: str) -> NoState:
    hint = "`backfill run` creates one; name another with --state"
    return NoState(f"there is no state in {where}, so there are no runs", hint=hint)


def _lower(text: str | None) -> str | None:
    return text and text.lower()


class _File(sqlite3.Connection):
    """A connection that knows which file it has open to read; None: it also writes."""

    read: tuple[int, int] | None = None


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what distinguishes the file from another of that name; None if there is none."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


class _Sqlite:
    errors: type[Exception] = sqlite3.Error
    words: Mapping[str, str] = {
        "{now}": "epoch_now()",
        "{lower}": "unicode_lower",  # its own knows only the letters of ASCII
        "{lock}": "",
        "{bytes}": "BLOB",
        "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "{rowless}": "WITHOUT ROWID",
    }
    begin_read = "BEGIN"
    # A transaction that reads first would notice too late that another has written.
    begin_write = "BEGIN IMMEDIATE"
    one_at_a_time: str | None = None
    has_table = "SELECT 1 FROM sqlite_master WHERE name = :name"
    made_of: str | None = "SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    spell = staticmethod(cache(lambda statement: _spelled(statement, _Sqlite.words)))

    def __init__(self, file: str, *, only_reads: bool) -> None:
        # Absolute, since a handler may change the process's folder.
        self.where, self._file, self._only_reads = file, Path(file).absolute(), only_reads
        self._written: tuple[int, int] | None = None  # the file that this process writes

    def open(self) -> tuple[Any, bool]:
        """Open the file in WAL mode, so that others can read during a run."""
        try:
            return self._opened()
        except OSError as error:  # such as a folder that this user may not enter
            message = f"the state in {self.where} cannot be used: {error.strerror}"
            if error.errno == errno.ENAMETOOLONG:
                raise UsageError(message, hint="name another state with --state") from None
            hint = "let this user reach it, or name another state with --state"
            raise TargetError(message, hint=hint) from None

    def _opened(self) -> tuple[Any, bool]:
        if kind := odd_kind(self._file):
            message = f"--state: {self.where} is not a file but {kind}"
            raise UsageError(message, hint="name a file; it is created if it does not exist")
        self._refuse_foreign_journal()
        if self._only_reads:
            return self._open_to_read()
        self._refuse_another()
        self._make_folder()
        connection = self._connect("mode=rwc", "journal_mode=WAL")
        self._written = self._written or _identity(self._file)
        return connection, True

    def _open_to_read(self) -> tuple[Any, bool]:
        read = _identity(self._file)
        if read is None:
            raise no_state(self.where)
        if os.access(self._file, os.W_OK) and os.access(self._file.parent, os.W_OK):
            # Opened as by writers: here SQLite's own `mode=ro` would leave files behind.
            connection = self._connect("mode=rw", "query_only=ON")
        elif Path(f"{self._file}-wal").exists():
            connection = self._connect("mode=ro")
        else:
            # Nobody writes now; this connection would not see it if somebody did: use it once.
            return self._connect("immutable=1"), False
        connection.read = read
        return connection, True

    def _connect(self, how: str, *settings: str) -> _File:
        connection = sqlite3.connect(
            f"{self._file.as_uri()}?{how}",
            uri=True,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
            factory=_File,
        )
        try:
            connection.create_function("epoch_now", 0, time.time)
            connection.create_function("unicode_lower", 1, _lower)
            if connection.execute(_FOREIGN).fetchone():
                message = f"--state: {self.where} is the database of another program"
                raise UsageError(
                    message, hint="name a separate file: nothing was written to this one"
                )
            for setting in (_SYNCHRONOUS, *settings):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_foreign_journal(self) -> None:
        """Refuse a rollback journal that names another file, which SQLite would delete. We change
        one database at a time, so ours names none: this one came with the state."""
        journal = Path(f"{os.path.realpath(self._file)}-journal")
        if ends_with(journal, _NAMES_A_FILE):
            message = f"the state in {self.where} comes with a journal that is not backfill's"
            raise TargetError(message, hint=f"remove {journal}, or name another state with --state")

    def _make_folder(self) -> None:
        folder = self._file.parent
        try:
            if not folder.exists():
                make_folder(folder)
                write_file(folder / ".gitignore", "*\n")
        except CannotWrite as error:
            message = f"the folder for the state cannot be created: {error}"
            raise TargetError(message, hint="name another place with --state") from None

    def is_away(self, _connection: Any, _error: Exception) -> bool:
        return False

    def _refuse_another(self) -> None:
        """Refuse a file in place of the one that this process has written: what it sent is not in
        it, and in it another process may hold the lock."""
        if self._written is not None and self._written != _identity(self._file):
            message = f"the state in {self.where} was removed or replaced while it was in use"
            raise TargetError(message, hint="put it back: nothing more is sent without it")

    def is_replaced(self, connection: Any) -> bool:
        self._refuse_another()
        return connection.read is not None and connection.read != _identity(self._file)

    def token(self, _connection: Any) -> Any:
        return None

    def has_committed(self, _connection: Any, _token: Any) -> bool:
        return False

    def explain(self, error: Exception) -> tuple[str, str]:
        said = str(error).partition(" with text ")[0]  # which may be a whole plan
        why = said.lower()
        return said, next((hint for word, hint in _HINTS.items() if word in why), _OTHERWISE)


class _Postgresql:
    words: Mapping[str, str] = {
        "{now}": "CAST(extract(epoch FROM now()) AS DOUBLE PRECISION)",
        "{lower}": "lower",
        "{lock}": "FOR UPDATE OF leases",
        "{bytes}": "BYTEA",
        "{serial}": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "{rowless}": "",
    }
    one_at_a_time: str | None = "SELECT pg_advisory_xact_lock(7163204211)"  # a number of our own
    has_table = "SELECT 1 FROM pg_class WHERE oid = to_regclass(:name)"
    made_of: str | None = None
    spell = staticmethod(cache(lambda statement: _spelled(statement, _Postgresql.words, r"%(\1)s")))

    def __init__(self, url: DatabaseUrl) -> None:
        self._url, self.where = url, url.shown
        self.errors: type[Exception] = driver.load().Error
        # No session settings: behind a pooler, the next transaction runs in another session.
        settings = f"SET LOCAL lock_timeout = '{driver.PATIENCE}s'; {driver.settings(url)}"
        self.begin_read = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}"
        # Whatever the role's default is: stricter levels fail if two processes write one row.
        self.begin_write = f"BEGIN ISOLATION LEVEL READ COMMITTED; {settings}"

    def open(self) -> tuple[Any, bool]:
        network: dict[str, Any] = {"keepalives_idle": 30, "tcp_user_timeout": 30_000}
        return driver.connect(self._url, autocommit=True, **network), True

    def is_away(self, connection: Any, error: Exception) -> bool:
        state = getattr(error, "sqlstate", None) or ""
        return bool(connection.closed) or state.startswith(_TAKEN_BACK)

    def is_replaced(self, _connection: Any) -> bool:
        return False

    def token(self, connection: Any) -> Any:
        return connection.execute("SELECT txid_current()").fetchone()[0]

    def has_committed(self, connection: Any, token: Any) -> bool:
        found = connection.execute("SELECT txid_status(%s)", [token]).fetchone()
        return bool(found[0] == "committed")

    def explain(self, error: Exception) -> tuple[str, str]:
        state = getattr(error, "sqlstate", None)
        hint = _REFUSALS.get(state, _AWAY)
        if state is None and any(words in str(error) for words in _UNKNOWN):  # at connect
            hint = "check the role, the password and the database in its URL"
        return self._url.clean(driver.first_line(error)), hint


_AWAY = (
    "nothing is sent while the state is away; once it is back, `backfill resume RUN` "
    "continues what was under way"
)
_OWN = (
    "its role must be able to create, read and write tables in the first schema of its search path"
)
_LOCKED = "55P03"
_TAKEN_BACK = ("40", _LOCKED)  # also a deadlock with somebody who locks the tables
_REFUSALS: Mapping[str | None, str] = {
    "42501": _OWN,
    "3F000": f"{_OWN}: name an existing schema with `schema=` in its URL",
    "25006": f"{_OWN}: this role, or this server, is read-only",
    "22P05": "use a database with the encoding UTF8",
    _LOCKED: _FREE_THE_LOCK,
}
_UNKNOWN = ("does not exist", "authentication failed", "no pg_hba.conf entry")


def _spelled(statement: str, words: Mapping[str, str], parameter: str = r":\1") -> str:
    for word, meaning in words.items():
        statement = statement.replace(word, meaning)
    return re.sub(r":([a-z]\w*)", parameter, statement)


def _dialect(text: str, *, only_reads: bool) -> Dialect:
    """Choose the dialect; a plain path is a SQLite file. Raises `UsageError`, never with the URL in
    it."""
    url = parse_url(text, "--state", paths=True)
    if url.kind == "postgresql":
        return _Postgresql(url)
    if not url.path:
        raise UsageError("--state: a database in memory cannot hold a state", hint=FORM)
    return _Sqlite(url.path, only_reads=only_reads)
