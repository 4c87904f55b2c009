"""Serving an application over TCP, behind its door."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.errors import TargetError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runner.adapters.door import Door


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

    `on_listening` is called once who connects is let in; `on_stop` at the signal, and requests
    under way have `patience` seconds to end. Raises `TargetError` where it cannot listen.
    """
    import uvicorn

    from runner.adapters.door import configured

    class Server(uvicorn.Server):
        def handle_exit(self, *signal: Any) -> None:
            on_stop()
            super().handle_exit(*signal)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    config = configured(app, door, patience=patience)
    # asyncio turns Nagle's algorithm off only where the socket says TCP; with it, and the client's
    # delayed acknowledgements, each answer would take 40 ms. `create_server` does not say it.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(config.backlog)
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error.strerror}"
            raise TargetError(message, hint="--port names another") from None
        on_listening()
        Server(config).run(sockets=[listening])
