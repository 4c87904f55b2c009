"""Every listener of ours, whatever it serves, is bounded in memory and time.

Each is measured in a process of its own: its peak, as counted by the system.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.adapters.door import Door, hosts_of
from tests.cli.conftest import COMMAND, served, until
from tests.depth import some
from tests.ports import free_port
from tests.support import SIGNING_KEY

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
SECONDS = 0.3  # the door's limit in tests of time
MOST_MEMORY = 300 * MIB


@dataclass
class Listener:
    """A command that listens, and where it accepts a body."""

    command: tuple[str, ...]
    path: str
    taken: int  # the largest body that its door accepts
    refused: int  # the status for such a body, with useless content
    env: tuple[tuple[str, str], ...] = ()
    any_host: bool = False


KEYED = (("INNGEST_SIGNING_KEY", SIGNING_KEY), ("INNGEST_BASE_URL", "http://127.0.0.1:9"))
DEV = (("INNGEST_DEV", "http://127.0.0.1:9"),)
LISTENERS = {
    "serve": Listener(("serve",), "/api/inngest", 4 * MIB, 401, KEYED, any_host=True),
    "serve, dev": Listener(("serve",), "/api/inngest", 4 * MIB, 500, DEV),
    "dev": Listener(("dev",), "/e/key", 16 * MIB, 400),
    "ui": Listener(("ui",), "/", 0, 405),
}


@dataclass
class Process:
    url: str
    host: tuple[str, int]
    process: subprocess.Popen[str]

    def end(self) -> int:
        """Stop the process; return its peak memory in bytes. (wait4's figure would start at its
        parent's.)"""
        lines = Path(f"/proc/{self.process.pid}/status").read_text("utf-8").splitlines()
        most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        self.process.terminate()
        self.process.wait()
        return most * 1024


@contextmanager
def listening(listener: Listener, folder: Path) -> Iterator[Process]:
    port = free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("INNGEST_")}
    env = {**clean, **dict(listener.env), "PYTHONPATH": str(ROOT)}
    env["BACKFILL_STATE"] = f"sqlite:///{folder / 'state.db'}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, *listener.command, "--port", str(port)], env=env, stderr=log, text=True
        )
    address = ("127.0.0.1", port)
    try:
        until(lambda: _open(address))
        yield Process(f"http://127.0.0.1:{port}", address, process)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    assert "Traceback" not in (folder / "log").read_text()


def _open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except OSError:
        return False
    return True


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield b" " * MIB


@pytest.mark.parametrize("name", some(LISTENERS, 2))
def test_a_huge_body_takes_neither_memory_nor_time_declared_or_not(
    name: str, tmp_path: Path
) -> None:
    listener = LISTENERS[name]
    with listening(listener, tmp_path) as one, httpx.Client(base_url=one.url, timeout=20) as client:
        began = time.monotonic()
        method = "PUT" if name.startswith("serve") else "POST"
        for size in (listener.taken + 1, 1200 * MIB):
            with socket.create_connection(one.host, 10) as raw:  # refused before the body is sent
                head = f"{method} {listener.path} HTTP/1.1\r\nhost: localhost\r\n"
                raw.sendall(f"{head}content-length: {size}\r\n\r\n".encode())
                assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
        try:
            answer = client.request(method, listener.path, content=_chunks(1200 * MIB))
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # it hung up before all was sent, and so the answer was lost
        for host in ("evil.example.com", "localhost.evil.example.com:80", ""):
            answer = client.request("GET", listener.path, headers={"host": host})
            assert (answer.status_code == 421) != listener.any_host, host
        control = client.request(method, listener.path, content=b"x" * listener.taken)
        assert control.status_code == listener.refused
        assert time.monotonic() - began < 30
        peak = one.end()
    assert peak < MOST_MEMORY, f"{peak / MIB:.0f} MiB"


def test_forged_requests_as_large_as_may_be_take_bounded_memory(tmp_path: Path) -> None:
    """All at once: the signature covers the body's canonical form, which has to be made first."""
    listener = LISTENERS["serve"]
    units = (b"0,", b'{"":{"":0}},', b"[[]],", b'"' + b"x" * 30 + b'",')
    statuses: list[int] = []

    def forge(unit: bytes) -> None:
        content = b"[" + unit * ((listener.taken - 10) // len(unit)) + b"0]"
        headers = {"x-inngest-signature": f"t={time.time():.0f}&s={'0' * 64}"}
        answer = httpx.post(one.url + listener.path, content=content, headers=headers, timeout=30)
        statuses.append(answer.status_code)

    with listening(listener, tmp_path) as one:
        began = time.monotonic()
        threads = [threading.Thread(target=forge, args=(unit,)) for unit in units]
        for thread in threads:
            thread.start()
        alive = httpx.get(f"{one.url}/healthz", timeout=10)
        for thread in threads:
            thread.join()
        taken = time.monotonic() - began
        peak = one.end()
    assert alive.status_code == 200
    assert statuses == [401] * len(units)
    assert peak < MOST_MEMORY, f"{peak / MIB:.0f} MiB"
    assert taken < 30, taken


def _app(over: threading.Event | None = None) -> Starlette:
    """`over` is set when an answer of ``/endless`` ends."""

    class Endless(StreamingResponse):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                if over is not None:
                    over.set()

    async def echo(request: Request) -> Response:
        return PlainTextResponse(f"got {len(await request.body())}")

    def endless(_: Request) -> Response:
        return Endless(b"x" * 65_536 for _ in iter(int, 1))

    return Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), Route("/endless", endless)])


HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"
SLOW: dict[str, tuple[bytes, bytes]] = {  # what is sent first, and then repeatedly
    "nothing at all": (b"", b""),
    "a request line": (b"G", b"E"),
    "headers": (HEAD, b"a: b\r\n"),
    "a body": (HEAD + b"content-length: 100000\r\n\r\n", b"x"),
    "chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a second request": (HEAD + b"content-length: 0\r\n\r\n" + HEAD + b"content-", b"l"),
    "a second body": (HEAD * 1 + b"\r\n" + HEAD + b"content-length: 100000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_client_that_drips_is_cut(what: str) -> None:
    first, more = SLOW[what]
    with served(_app(), Door(MIB, seconds=SECONDS)) as url:
        with socket.create_connection(_address(url), 5) as raw:
            began = time.monotonic()
            raw.sendall(first)
            raw.settimeout(0.02)
            while not _ended(raw) and time.monotonic() - began < 8:
                try:
                    raw.sendall(more)
                except OSError:
                    break
        taken = time.monotonic() - began
        assert SECONDS * 0.9 < taken < 6, taken
        assert httpx.post(url, content=b"ab").text == "got 2"


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def _ended(raw: socket.socket) -> bool:
    try:
        return not raw.recv(65_536)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_client_that_takes_nothing_of_its_answer_is_cut() -> None:
    over = threading.Event()
    with (
        served(_app(over), Door(MIB, seconds=SECONDS)) as url,
        socket.create_connection(_address(url), 5) as raw,
    ):
        raw.sendall(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert over.wait(30), "it would have gone on for ever"


def test_a_request_in_parts_within_its_time_is_answered_and_so_is_the_next_one() -> None:
    with (
        served(_app(), Door(MIB, seconds=2.0)) as url,
        socket.create_connection(_address(url), 5) as raw,
    ):
        for _ in range(2):
            for part in (HEAD, b"content-length: 4\r\n\r\n", b"ab", b"cd"):
                raw.sendall(part)
            answer = b""
            while not answer.endswith(b"got 4"):
                answer += raw.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200")


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.adapters.door._HELD", 3000)
    waiting, go_on = threading.Semaphore(0), threading.Event()

    def hold(_: Request) -> Response:
        waiting.release()
        assert go_on.wait(20)
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", hold, methods=["POST"])])
    with served(app, Door(2000)) as url:
        thread = threading.Thread(target=httpx.post, args=(url,), kwargs={"content": b"x" * 2000})
        thread.start()
        assert waiting.acquire(timeout=20)
        refused = httpx.post(url, content=b"x" * 2000)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        go_on.set()
        thread.join()
        assert httpx.post(url, content=b"x" * 2000).text == "done"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 200) for name in ("worker", "WORKER:80", "localhost", "[::1]:9", "10.0.0.1")),
        *((name, 421) for name in ("worker.evil.example", "evil", "", "[evil", "1.2.3")),
    ],
)
def test_only_names_of_ours_are_answered(host: str, status: int) -> None:
    with served(_app(), Door(0, hosts_of(["Worker"]))) as url:
        assert httpx.get(url, headers={"host": host}).status_code == status


def test_nothing_of_ours_listens_but_behind_a_door() -> None:
    """One module configures a server, and one starts it."""
    means = re.compile(
        r"uvicorn|hypercorn|http\.server|socketserver|start_server|create_server|\.listen\(|aiohttp"
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "runner").rglob("*.py")
        for line in path.read_text().splitlines()
        if means.search(line) and "event.listen(" not in line
    }
    assert found == {"runner/adapters/door.py"}
    users = {
        path.stem
        for path in (ROOT / "runner").rglob("*.py")
        if re.search(r"runner\.adapters\.door import [^\n]*\bserve\b", path.read_text())
    }
    assert users == {listener.command[0] for listener in LISTENERS.values()}
