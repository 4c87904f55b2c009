"""The endpoint guard, over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from runner.adapters.guards import open_guards
from runner.errors import UsageError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import HttpGuard


@contextmanager
def server(
    status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """Yield the server's address (host:port), and its requests: method, path and authorization."""
    seen: list[tuple[str, str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.command, self.path, self.headers["authorization"]))
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | dict(headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{listening.server_port}", seen
        finally:
            listening.shutdown()
            thread.join()


def ask(url: str) -> Hold | None:
    async def main() -> Hold | None:
        async with open_guards([HttpGuard(url)], {}, Path()) as (guard,):
            assert "s3cret" not in guard.name + repr(guard)
            return await guard.ask()

    return asyncio.run(main())


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_lets_go(status: int) -> None:
    with server(status) as (address, seen):
        assert ask(f"http://{address}/ready?deep=1") is None
    assert seen == [("GET", "/ready?deep=1", None)]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_any_other_status_holds_for_five_seconds(status: int) -> None:
    with server(status) as (address, _):
        assert ask(f"http://{address}/ready") == Hold(f"http {address}/ready answers {status}", 5.0)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 1.0), ("soon", 5.0)])
def test_the_server_may_say_when_to_ask_again(header: str, seconds: float) -> None:
    with server(503, {"retry-after": header}) as (address, _):
        hold = ask(f"http://{address}/ready")
    assert hold is not None
    assert hold.seconds == seconds


def test_a_redirect_holds_and_is_not_followed() -> None:
    with (
        server(200) as (elsewhere, unasked),
        server(302, {"location": f"http://{elsewhere}/"}) as (address, _),
    ):
        hold = ask(f"http://{address}/ready")
    assert hold == Hold(f"http {address}/ready answers 302", 5.0)
    assert unasked == []


def test_the_reason_has_neither_the_password_nor_the_query() -> None:
    with server(503) as (address, seen):
        hold = ask(f"http://me:s3cret@{address}/ready?token=s3cret#s3cret")
    assert hold == Hold(f"http {address}/ready answers 503", 5.0)
    assert seen == [("GET", "/ready?token=s3cret", "Basic bWU6czNjcmV0")]


def test_a_body_is_not_waited_for() -> None:
    """The server promises more than it sends: reading the whole body would fail."""
    with server(200, {"content-length": "1000000"}, b"a start") as (address, _):
        assert ask(f"http://{address}/ready") is None


def test_no_connection_is_unanswered() -> None:
    with server(200) as (address, _):
        pass
    with pytest.raises(GuardUnanswered, match=r"^no connection: it was refused$"):
        ask(f"http://{address}/ready?token=s3cret")


def test_a_url_that_is_none_is_refused_before_the_run_and_not_echoed() -> None:
    with pytest.raises(UsageError) as error:
        ask("http://x.test:s3cret/")
    assert "s3cret" not in f"{error.value} {error.value.hint}"
