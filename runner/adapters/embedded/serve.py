"""The embedded server on a port of its own, for `backfill dev`."""

from __future__ import annotations

from starlette.types import ASGIApp


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until ^C or SIGTERM. Raises OSError where the port cannot be had."""
    import socket

    import uvicorn

    with socket.create_server((host, port)) as listener:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])
