"""Answers that would fill the memory or never end: refused in bounded time and memory, in a
child."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from runner.adapters.database import bounds
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.errors import TargetDown, TargetError
from runner.model import Query, QueryRefused
from tests.depth import some

_GIB = 1 << 20  # in KiB, the kernel's unit
_CHILD = """
import json, sys, time
from runner.adapters.database import bounds
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.model import Query, QueryRefused

url, sql, patience = sys.argv[1:]
bounds.PATIENCE, began = int(patience), time.monotonic()
try:
    said = len(SqlDatabase(parse_url(url, "URL")).ask(Query(sql, max_rows=10**9), {}).rows)
except QueryRefused as refused:
    said = str(refused)
# What getrusage says begins with the most that the parent had.
most = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(json.dumps([said, time.monotonic() - began, most]))
"""
_COUNT = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
LARGE, LATE = "its answer is larger than 32 MiB", "the query has no answer within 1 s"

# Each hostile query beside one of the same form and ordinary size, and the answer to that.
POSTGRESQL = [
    ("SELECT repeat('x', {}) AS x FROM generate_series(1, 60)", 20_000_000, LARGE, 300_000),
    ("SELECT repeat('x', {}) AS x", 100_000_000, LARGE, 20_000_000),
    ("SELECT array_fill('ab'::text, ARRAY[{}]) AS x", 3_500_000, LARGE, 100_000),
    ("SELECT ('[' || repeat('[],', {}) || '1]')::json AS x", 8_000_000, "more JSON", 10_000),
    ("SELECT pg_sleep({})::text AS x", 60, LATE, 0),
]
SQLITE = [
    ("SELECT length(zeroblob({})) AS x", 900_000_000, LARGE, 1000),
    (
        "SELECT hex(zeroblob({})) AS x UNION ALL SELECT hex(zeroblob(15000000))",
        15_000_000,
        LARGE,
        9,
    ),
    (_COUNT + " SELECT max(n) AS x FROM (SELECT n FROM r LIMIT {})", 10**15, LATE, 1000),
    (_COUNT + " SELECT n AS x FROM r LIMIT {}", 10**15, LARGE, 1000),
    ("SELECT 'a' LIKE hex(zeroblob({})) AS x", 600, "too complex", 6),
]


def child(url: str, sql: str, words: str) -> tuple[str | int, float, int]:
    patience = "1" if words == LATE else "9"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, url, sql, patience],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, seconds, most = json.loads(done.stdout)
    return said, seconds, most


@pytest.mark.parametrize(("sql", "size", "words", "_usual"), some(POSTGRESQL, 2))
def test_what_postgresql_answers_is_bounded(
    database_url: str, sql: str, size: int, words: str, _usual: int
) -> None:
    said, seconds, most = child(database_url, sql.format(size), words)
    assert words in str(said)
    assert seconds < 10
    assert most < _GIB


@pytest.mark.parametrize(("sql", "size", "words", "_usual"), some(SQLITE, 2))
def test_what_sqlite_answers_is_bounded(sql: str, size: int, words: str, _usual: int) -> None:
    said, seconds, most = child("sqlite://", sql.format(size), words)
    assert words in str(said)
    assert seconds < 10
    assert most < _GIB


@pytest.mark.parametrize(("sql", "_size", "_words", "usual"), POSTGRESQL + SQLITE)
def test_the_same_of_an_ordinary_size_is_answered(
    request: pytest.FixtureRequest, sql: str, _size: int, _words: str, usual: int
) -> None:
    of_sqlite = any(sql == other[0] for other in SQLITE)
    url = "sqlite://" if of_sqlite else request.getfixturevalue("database_url")
    if usual == 9:  # the large part is the second one
        sql = sql.replace("15000000", "9")
    found = SqlDatabase(parse_url(url, "URL")).ask(Query(sql.format(usual)), {})
    assert found.columns == ("x",)
    assert found.rows


def test_an_extension_is_refused_and_nothing_is_attached(tmp_path: Path) -> None:
    database = SqlDatabase(parse_url("sqlite://", "URL"))
    for sql in ("SELECT load_extension('x') AS x", f"ATTACH '{tmp_path}/new.db' AS other"):
        with pytest.raises(QueryRefused, match=r"not authorized|syntax error"):
            database.ask(Query(sql), {})
    assert not list(tmp_path.iterdir())


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that says what `talk` says to its one client, and then nothing."""
    over = threading.Event()

    def serve() -> None:
        with closing(listener), closing(listener.accept()[0]) as client:
            client.settimeout(20)
            try:
                talk(client)
            except OSError:
                return
            over.wait(20)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    yield f"postgresql://me:pw@127.0.0.1:{port}/app?sslmode=disable&connect_timeout=2"
    over.set()
    thread.join(20)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def welcome(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(
        message(b"R", struct.pack("!I", 0))
        + message(b"S", b"server_version\x0018.0\0")
        + message(b"S", b"client_encoding\0UTF8\0")
        + message(b"Z", b"I")
    )
    client.recv(4096)


def test_a_server_that_takes_the_connection_and_never_answers_is_away() -> None:
    with server(lambda _client: None) as url, pytest.raises(TargetDown, match="cannot be reached"):
        ask(url)


def test_a_server_that_never_answers_the_question_has_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "PATIENCE", 1)
    monkeypatch.setattr("runner.adapters.database.postgresql._GRACE", 0)
    with server(welcome) as url, pytest.raises(QueryRefused, match="no answer within 1 s"):
        ask(url)


def test_a_server_that_speaks_something_else_is_no_crash() -> None:
    def babble(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000)

    with server(babble) as url, pytest.raises(TargetError, match="cannot be reached"):
        ask(url)


def test_a_server_that_breaks_off_is_away() -> None:
    def leave(client: socket.socket) -> None:
        welcome(client)
        client.shutdown(socket.SHUT_RDWR)

    with server(leave) as url, pytest.raises(TargetDown, match="cannot be reached"):
        ask(url)


def ask(url: str) -> None:
    SqlDatabase(parse_url(url, "URL")).ask(Query("SELECT 1 AS x"), {})
