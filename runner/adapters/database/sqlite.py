"""A SQLite file, opened read only and for a limited time."""

from __future__ import annotations

import re
import sqlite3
import stat
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.adapters.database import bounds, values
from runner.adapters.database.statement import Statement
from runner.adapters.database.url import DatabaseUrl
from runner.errors import BackfillError, TargetDown, TargetError
from runner.model import QueryRefused

_RENAMED = re.compile(r":\d+$")  # SQLite calls the second `id` of a subquery `id:1`
_AWAY = {  # codes and hints
    sqlite3.SQLITE_BUSY: "another process keeps writing to it; try again later",
    sqlite3.SQLITE_LOCKED: "another process keeps writing to it; try again later",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_FULL: "free some disk: sorting needs room",
    sqlite3.SQLITE_CANTOPEN: "check that the file can be read and its folder exists; in WAL mode "
    "it needs its -shm file or a writable folder",
    sqlite3.SQLITE_PERM: "check that the file can be read",
}
_NO_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_INSTRUCTIONS = 10_000  # of SQLite's virtual machine between two looks at the clock
_PATTERN = 1_000  # bytes of a LIKE pattern: the time it takes grows with its length


def read(
    url: DatabaseUrl, statement: Statement
) -> tuple[list[str], list[tuple[Any, ...]], Sequence[values.Convert | None]]:
    """Return the columns, the rows, and the conversion to JSON of each column.

    Raises the errors of `runner.model.Database`.
    """
    try:
        with closing(_opened(url)) as connection:
            cursor = connection.execute(statement.sql, statement.bound)
            given = [column[0] for column in cursor.description]
            meant = [_RENAMED.sub("", name) for name in given]
            names = [own if own in given else name for own, name in zip(meant, given, strict=True)]
            rows = _rows(connection, cursor, names, statement)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refusal(error, url) from None
    except (OverflowError, UnicodeError) as error:  # a parameter, or a column's name
        raise QueryRefused(
            f"a parameter has a value that SQLite does not accept: {error}"
        ) from None
    return names, rows, [values.of_sqlite] * len(names)


def _opened(url: DatabaseUrl) -> sqlite3.Connection:
    if url.path:
        path = Path(url.path)
        if what := _why_not(path):
            message = f"the database of {url.name} cannot be reached: {path} {what}"
            raise TargetDown(
                message, hint="a path without a leading / is relative to the working directory"
            )
        where = f"{path.absolute().as_uri()}?mode=ro"  # else a wrong path makes an empty file
    else:
        where = "file::memory:"
    connection = sqlite3.connect(where, uri=True, timeout=10, isolation_level=None)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, bounds.MAX_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _PATTERN)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    end = time.monotonic() + bounds.PATIENCE
    connection.set_progress_handler(lambda: int(time.monotonic() > end), _INSTRUCTIONS)
    return connection


def _why_not(path: Path) -> str | None:
    """Say why the path cannot be a database file, or return None."""
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "is not a file"
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _rows(
    connection: sqlite3.Connection,
    cursor: sqlite3.Cursor,
    names: Sequence[str],
    statement: Statement,
) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    weight = 0
    try:
        for row in cursor:
            rows.append(row)
            weight += bounds.ROW + bounds.VALUE * len(row)
            weight += sum(len(value) for value in row if isinstance(value, str | bytes))
            if weight > bounds.MAX_BYTES:
                raise QueryRefused(bounds.too_large(), bounds.NARROW)
    except sqlite3.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):
            raise
        # Python's own error: a text is not UTF-8. Read the same row as bytes to find the column.
        connection.text_factory = bytes
        again = connection.execute(statement.sql, statement.bound)
        for _ in rows:
            again.fetchone()
        spoiled = zip(names, again.fetchone() or (), strict=False)
        column = next((name for name, value in spoiled if not _is_text(value)), "?")
        why = "holds text that is not UTF-8"
        raise values.unfit(column, len(rows) + 1, why, "leave it out, or hex(COLUMN)") from None
    return rows


def _is_text(value: Any) -> bool:
    try:
        return not isinstance(value, bytes) or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _refusal(error: Exception, url: DatabaseUrl) -> BackfillError | QueryRefused:
    exact = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code, words = exact & 0xFF, url.clean(str(error))
    if code == sqlite3.SQLITE_INTERRUPT:
        return QueryRefused(f"the query has no answer within {bounds.PATIENCE} s", "narrow it")
    if code == sqlite3.SQLITE_TOOBIG:
        return QueryRefused(bounds.too_large(), bounds.NARROW)
    if exact == sqlite3.SQLITE_READONLY_ROLLBACK:  # which may only be done by who may write
        message = f"the database of {url.name} cannot be read: a program died while it wrote to it"
        hint = f"start that program again, or run `sqlite3 {url.path} .tables`: it undoes that"
        return TargetDown(message, hint=hint)
    message = f"the database of {url.name} cannot be reached: {words}"
    if code in _AWAY:
        return TargetDown(message, hint=_AWAY[code])
    if code in _NO_DATABASE:
        return TargetError(message, hint=f"{url.path} is not a SQLite database, or is damaged")
    return QueryRefused(words)
