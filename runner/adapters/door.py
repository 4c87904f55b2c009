"""What all our HTTP servers accept: one middleware and one protocol, whatever application they
serve.

The protocol limits time: a request must be complete within the door's seconds, and a client that
does not read its answer for as long is disconnected. The middleware limits memory, and checks the
Host. `serve` runs an application behind it, over TCP.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from runner.errors import TargetError
from runner.model import frozen

MIB = 1024 * 1024
_HELD = 64 * MIB  # for all bodies held at a time
_CONNECTIONS = 500
_SAFE = ("GET", "HEAD", "OPTIONS")


@frozen
class Door:
    """The limits of a server. `hosts`: the names it answers to, besides addresses and
    ``localhost``; None: any, for servers that authenticate requests in a better way. `option`: the
    option that sets them."""

    max_body: int
    hosts: frozenset[str] | None = None
    option: str = "--allow-host"
    seconds: float = 20.0


def authority(host: str, port: int) -> str:
    """Format host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts_of(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names) | {"localhost"}


class Bounded:
    """Holds a body completely before the application sees it, up to `max_body`.

    A page of another site whose name was made to point here (DNS rebinding) sends that name as
    Host, and one that posts a form sends its own Origin. Both are refused.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door, self._held = app, door, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope["method"], headers):
            await refusal(scope, receive, send)
        elif "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            await self._with_body(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> ASGIApp | None:
        door = self._door
        if door.hosts is not None:
            if not _is_ours(headers.get("host", ""), door.hosts):
                message = f"This name is not served here: see {door.option}."
                return PlainTextResponse(message, 421)
            origin = headers.get("origin")
            if origin is not None and method not in _SAFE and not _is_from(origin, headers, door):
                return PlainTextResponse("A page of another site asks for this.", 403)
        if int(headers.get("content-length", "0")) > door.max_body:
            return _too_large(door.max_body)
        return None

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        counted = 0
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                part = message.get("body", b"")
                if len(body) + len(part) > self._door.max_body:
                    await _too_large(self._door.max_body)(scope, receive, send)
                    return
                if self._held + len(part) > _HELD:
                    await _busy()(scope, receive, send)
                    return
                body += part
                counted += len(part)
                self._held += len(part)
                more = message.get("more_body", False)
            await self._app(scope, _replayed(bytes(body), receive), send)
        finally:
            self._held -= counted


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large(most: int) -> PlainTextResponse:
    message = f"The body is larger than {most:,} bytes."
    return PlainTextResponse(message, 413, {"connection": "close"})


def _busy() -> PlainTextResponse:
    headers = {"connection": "close", "retry-after": "1"}
    return PlainTextResponse("Too much is being received.", 503, headers)


def _name(host: str) -> str:
    name = host.lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    name = _name(host)
    return name in hosts or _address(name) is not None


def _is_from(origin: str, headers: Headers, door: Door) -> bool:
    """Whether the page is of this process, or of another on this machine: it has one of our names,
    a loopback address, or the address that this request went to. Anybody's page may have another
    address."""
    try:
        name = _name(urlsplit(origin).netloc)
    except ValueError:
        return False
    address = _address(name)
    if address is None:
        return name in (door.hosts or ())
    return address.is_loopback or name == _name(headers.get("host", ""))


def configured(app: ASGIApp, door: Door, *, patience: int = 1, **more: Any) -> uvicorn.Config:
    """Configure uvicorn to serve `app` behind `door`; all our servers use this."""

    class Timed(_Timed):
        seconds = door.seconds

    logging.getLogger("uvicorn.error").addFilter(_is_no_end)
    return uvicorn.Config(
        Bounded(app, door),
        http=Timed,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        # Without a log configuration only warnings and errors are shown, on stderr.
        log_config=None,
        access_log=False,
        # A page that waits for changes would delay the shutdown.
        timeout_graceful_shutdown=patience,
        **more,
    )


def _is_no_end(record: logging.LogRecord) -> bool:
    """Drop errors from answers that are cut off by the shutdown."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)


class _Timed(H11Protocol):
    """Adds the time limit within a request: uvicorn has one only between requests."""

    seconds: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arriving = _Limit(self.loop, self.seconds, self._cut)
        self._leaving = _Limit(self.loop, self.seconds, transport.abort)
        self._arriving.start()

    def data_received(self, data: bytes) -> None:
        self._arriving.start()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arriving.stop()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if (
            self.conn.their_state is h11.SEND_BODY
        ):  # a part of the next request came while this one was handled
            self._arriving.start()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._leaving.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._leaving.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arriving.stop()
        self._leaving.stop()
        super().connection_lost(exc)

    def _cut(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n")
        self.transport.close()


@dataclass(slots=True)
class _Limit:
    loop: asyncio.AbstractEventLoop
    seconds: float
    act: Callable[[], None]
    _timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer, unless it runs: slow trickles do not restart it."""
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.act)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def serve(
    app: ASGIApp,
    host: str,
    port: int,
    door: Door,
    *,
    patience: int = 1,
    on_listening: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve until ^C (a KeyboardInterrupt) or SIGTERM. Prints nothing.

    `on_listening` is called once connections are accepted; `on_stop` at the signal, after which
    pending requests have `patience` seconds to end. Raises `TargetError` if it cannot listen.
    """

    class Server(uvicorn.Server):
        def handle_exit(self, *signal: Any) -> None:
            on_stop()
            super().handle_exit(*signal)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if self.force_exit:  # uvicorn would cut off the application, with a traceback
                await self.lifespan.shutdown()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    config = configured(app, door, patience=patience)
    # asyncio disables Nagle's algorithm only for sockets with protocol TCP, which `create_server`
    # does not set; with Nagle and the client's delayed acknowledgements, each answer would take 40
    # ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(config.backlog)
        except (OSError, TypeError) as error:  # TypeError: no host can have such a name
            why = error.strerror if isinstance(error, OSError) else "this is not a host"
            message = f"cannot listen on {authority(host, port)}: {why}"
            taken = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
            hint = (
                "choose another with --port"
                if taken
                else "name an address of this machine with --host"
            )
            raise TargetError(message, hint=hint) from None
        on_listening()
        Server(config).run(sockets=[listening])
