"""PostgreSQL, with or without a pooler: one read-only transaction for each question, with limits
applied while reading.

libpq reports a failed connection only as text, without a SQLSTATE. What is known then is how far it
came: whether the server asked for a password. It may accept the password and still be full or stop,
so a refusal must also say that it is one.
"""

from __future__ import annotations

import array
import fcntl
import re
import socket
import termios
import time
from collections.abc import Generator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.adapt import AdaptersMap
from psycopg.types.string import TextLoader

from runner.adapters import driver
from runner.adapters.database import bounds, values
from runner.adapters.database.statement import LIMIT, Statement
from runner.adapters.database.url import DatabaseUrl
from runner.errors import BackfillError, KeyRefused, TargetDown, TargetError
from runner.model import QueryRefused, RowSecurity

_T = TypeVar("_T")
# Connection, transaction taken back (as on a replica), resources, shutdown, system error.
_AWAY = ("08", "40", "53", "57P", "58")
_REFUSED = "28"
# How PostgreSQL (in several languages) and poolers refuse a user, a password or a database.
_REFUSES = re.compile(r"auth?enti|passw|permi|not exist|no such", re.IGNORECASE)
_NO_DATABASE = "3D"
_GRACE = 5  # seconds after which a server that does not end a question itself is abandoned
_CHUNK = 16  # rows in each chunk from libpq
# How much may arrive before a chunk is complete. A rough figure, measured by what waits in the
# socket: what is not read at once counts again.
_MAX_WAITING = 4 * bounds.MAX_BYTES
# Types with Python values of their own; all others come as PostgreSQL writes them.
_OWN = frozenset(("bool", "int2", "int4", "int8", "oid", "float4", "float8"))
_QUOTED = re.compile(r'["«„](.+?)["»“]')  # how its messages quote names
# Tables that a question or its refusal names, and that this transaction has asked: a view's own
# tables are not in the query, and other schemas may have tables of the same name. Anyone may read
# a table's size; a partitioned table has none of its own.
_FILTERED = """
SELECT c.relname, c.oid::regclass::text, (
    SELECT coalesce(sum(pg_relation_size(t.relid)), 0) FROM pg_partition_tree(c.oid) t
  ) + pg_relation_size(c.oid)
FROM pg_class c
WHERE c.oid IN (SELECT relation FROM pg_locks WHERE pid = pg_backend_pid())
  AND c.relrowsecurity AND row_security_active(c.oid)
  AND has_table_privilege(c.oid, 'SELECT')
  AND (c.relname = ANY(%(named)s) OR %(sql)s ~* ('(?<![\\w$])'
    || regexp_replace(replace(c.relname, '"', '""'), '(\\W)', '\\\\\\1', 'g') || '(?![\\w$])'))
ORDER BY c.relname
"""
# The default formats, which a role may have changed.
_WRITING = "SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres;"


class _Unbounded(Exception):
    """The answer is too large or too late."""


class _Connection(psycopg.Connection[Any]):
    """Checks the time and the amount of data whenever libpq waits."""

    end = float("inf")
    waiting = 0

    def wait(self, gen: Generator[Any, Any, _T], *args: Any, **kwargs: Any) -> _T:
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    self.waiting += _arrived(self.fileno())
                if self.waiting > _MAX_WAITING or time.monotonic() > self.end:
                    self.close()
                    raise _Unbounded
                wanted = gen.send(ready)
        except StopIteration as done:
            found: _T = done.value
            return found


def read(
    url: DatabaseUrl, statement: Statement
) -> tuple[list[str], list[tuple[Any, ...]], Sequence[values.Convert | None]]:
    """Return the columns, the rows, and the conversion to JSON of each column.

    Raises the errors of `runner.model.Database`.
    """
    connection = _connected(url, _adapters())
    rows: list[tuple[Any, ...]] = []
    try:
        with connection:
            _begin(connection, url, statement)
            cursor = connection.cursor()
            _stream(connection, cursor, statement, rows)
            if not rows:  # the stream then tells nothing, not even the columns
                cursor.execute(statement.sql.encode(), {**statement.bound, LIMIT: 0})
            described = cursor.description or ()
            connection.execute("ROLLBACK")
    except _Unbounded:
        if time.monotonic() > connection.end:
            raise _too_late() from None
        raise QueryRefused(bounds.too_large(), bounds.NARROW) from None
    except psycopg.Error as error:
        raise _refusal(error, url, connection.end) from None
    except UnicodeDecodeError:
        message = f"a text after row {len(rows):,} is not UTF-8"
        hint = "leave the column out, or encode(COLUMN::bytea, 'hex')"
        raise QueryRefused(message, hint) from None
    except (OverflowError, UnicodeEncodeError) as error:
        raise QueryRefused(f"a parameter is not one that PostgreSQL takes: {error}") from None
    converts = _by_number()
    return (
        [column.name for column in described],
        rows,
        [converts.get(column.type_code) for column in described],
    )


def row_security(url: DatabaseUrl, statement: Statement) -> list[RowSecurity]:
    """Return the tables of a question that policies filter for this role.

    PostgreSQL itself tells, one table at a time: with `row_security` off it refuses a query that a
    policy would filter. Raises the errors of `read`.
    """
    connection = _connected(url)
    try:
        return _filtering(connection, url, statement)
    except _Unbounded:
        raise _too_late() from None
    except psycopg.Error as error:
        raise _refusal(error, url, connection.end) from None


def _connected(url: DatabaseUrl, context: AdaptersMap | None = None) -> _Connection:
    try:
        opened = driver.connect(url, _Connection, autocommit=True, context=context)
    except psycopg.Error as error:
        raise _unconnected(error, url) from None
    return cast("_Connection", opened)


def _filtering(
    connection: _Connection, url: DatabaseUrl, statement: Statement
) -> list[RowSecurity]:
    with connection:
        _begin(connection, url, statement)
        cursor = connection.cursor()
        connection.execute("SET LOCAL row_security = off")
        try:
            cursor.execute(statement.sql.encode(), {**statement.bound, LIMIT: 0})
        except errors.InsufficientPrivilege as error:
            named = _QUOTED.findall(driver.first_line(error))
        else:
            return []
        finally:
            if not connection.closed:
                connection.execute("ROLLBACK")
        _begin(connection, url, statement)
        cursor.execute(statement.sql.encode(), {**statement.bound, LIMIT: 0})
        asked = statement.sql.replace("%%", "%")
        tables = cursor.execute(_FILTERED, {"named": named, "sql": asked}).fetchall()
        found = [RowSecurity(name, _is_blind(cursor, where, size)) for name, where, size in tables]
        connection.execute("ROLLBACK")
    return found


def _is_blind(cursor: psycopg.Cursor[Any], table: str, size: int) -> bool:
    """Whether the table has rows and shows none. Its `size` covers all rows, whoever may see
    them."""
    seen = cursor.execute(f"SELECT EXISTS (SELECT FROM {table})".encode()).fetchone()  # noqa: S608
    return bool(size) and seen == (False,)


def _begin(connection: _Connection, url: DatabaseUrl, statement: Statement) -> None:
    connection.end = time.monotonic() + bounds.PATIENCE + _GRACE
    limit = f"SET LOCAL statement_timeout = '{bounds.PATIENCE}s';"
    begin = f"BEGIN READ ONLY; {driver.settings(url)} {_WRITING} {limit}"
    if statement.timezone:
        begin += f" SET LOCAL TimeZone = {driver.literal(statement.timezone)};"
    connection.execute(begin.encode())


def _stream(
    connection: _Connection,
    cursor: psycopg.Cursor[Any],
    statement: Statement,
    rows: list[tuple[Any, ...]],
) -> None:
    size = _CHUNK if psycopg.capabilities.has_stream_chunked() else 1
    weight = 0
    for row in cursor.stream(statement.sql.encode(), statement.bound, size=size):
        connection.waiting = 0
        rows.append(row)
        weight += bounds.ROW + _weight(row)
        if weight > bounds.MAX_BYTES:
            connection.close()
            raise _Unbounded


def _weight(values: Sequence[Any]) -> int:
    weight = bounds.VALUE * len(values)
    for value in values:
        if isinstance(value, str):
            weight += len(value)
        elif isinstance(value, list):
            weight += _weight(value)
    return weight


def _arrived(descriptor: int) -> int:
    """Return the number of bytes that wait to be read."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


@cache
def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    for info in psycopg.adapters.types:
        if info.name not in _OWN:
            adapters.register_loader(info.oid, TextLoader)
    return adapters


def _by_number() -> dict[int, values.Convert]:
    found: dict[int, values.Convert] = {}
    for name, convert in values.by_type().items():
        info = psycopg.adapters.types[name]
        found[info.oid] = convert
        found[info.array_oid] = values.each(convert)
    return found


def _too_late() -> QueryRefused:
    return QueryRefused(
        f"the query has no answer within {bounds.PATIENCE} s", "narrow the query, or add an index"
    )


def _unconnected(error: psycopg.Error, url: DatabaseUrl) -> BackfillError:
    words = url.clean(driver.first_line(error))
    pgconn = error.pgconn
    if pgconn is not None and pgconn.needs_password:
        message = f"the database of {url.name} refuses access: {words}"
        return KeyRefused(message, hint=f"{url.name} has no password, but the server requires one")
    why = words.rpartition("failed: ")[2]
    if pgconn is not None and pgconn.used_password and _REFUSES.search(why):
        hint = f"the server requires a password: check user, password and database in {url.name}"
        return KeyRefused(f"the database of {url.name} refuses access: {words}", hint=hint)
    message = f"the database of {url.name} cannot be reached: {words}"
    return TargetDown(message, hint=_unreached(url, words))


def _unreached(url: DatabaseUrl, words: str) -> str:
    """Choose a hint by the text; it never decides what kind of error it is."""
    host = url.options.get("host", "")
    if host and not host.startswith(("/", "@")) and "," not in host:
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            return f"no address is known for {host}: check the host in {url.name}"
    if "certificate" in words or "SSL" in words:
        return "name the authority of the server's certificate with sslrootcert=FILE in the URL"
    return f"check {url.name} and the network"


def _refusal(error: psycopg.Error, url: DatabaseUrl, end: float) -> BackfillError | QueryRefused:
    """`end`: when the question would have been abandoned. It may also be cancelled by others."""
    state, words = error.sqlstate or "", url.clean(driver.first_line(error))
    if isinstance(error, errors.QueryCanceled) and time.monotonic() > end - _GRACE:
        return _too_late()
    if state.startswith(_REFUSED):
        return KeyRefused(f"the database of {url.name} refuses access: {words}")
    lost = not state and isinstance(error, psycopg.OperationalError)
    message = f"the database of {url.name} cannot be reached: {words}"
    if lost or state.startswith(_AWAY):
        return TargetDown(message, hint=f"check {url.name} and the network")
    if state.startswith(_NO_DATABASE):
        return TargetError(message, hint=f"name the database after the host in {url.name}")
    if isinstance(error, errors.InsufficientPrivilege):
        return QueryRefused(words, "grant the role SELECT on it")
    return QueryRefused(words, error.diag.message_hint)
