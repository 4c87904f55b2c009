"""The quickstart's handlers as Inngest functions, for a run against a real Inngest server.

Two commands, in two terminals, from the root of the repository; either may start first:

    npx inngest-cli@latest dev --no-discovery
    python plans/quickstart/inngest_worker.py

then `backfill run plans/quickstart/plan.yaml --target dev`. It needs the extra `inngest`:
`pip install -e '.[inngest]'`.

The server is the SDK's: INNGEST_DEV (default: http://127.0.0.1:8288) or INNGEST_BASE_URL. Inngest
Cloud cannot reach this machine's loopback address, so a signing key without INNGEST_BASE_URL does
not send the worker there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
import worker  # type: ignore[import-not-found]  # beside this script, not in a package
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

try:
    import inngest

    # The SDK serves FastAPI, Flask, Django and Tornado; this is the layer under all of them.
    from inngest._internal.comm_lib import CommHandler, CommRequest, CommResponse
    from inngest._internal.server_lib import Framework
except ImportError:
    sys.exit("The Inngest SDK is not installed. Install it with: pip install -e '.[inngest]'")

if TYPE_CHECKING:
    import socket

    from starlette.requests import Request

Handler = Callable[[Mapping[str, Any]], dict[str, Any]]

APP_ID = "backfill-quickstart"
PATH = "/api/inngest"
HANDLERS: dict[str, Handler] = {
    "capture/repository.sync": worker.sync_repository,
    "embeddings/process.workspace": worker.compute_embeddings,
    "workspace/aggregate": worker.aggregate_workspace,
}

log = logging.getLogger("uvicorn.error")


def create_client() -> inngest.Inngest:
    if not (os.environ.get("INNGEST_SIGNING_KEY") and os.environ.get("INNGEST_BASE_URL")):
        os.environ.setdefault("INNGEST_DEV", "1")
    quiet = logging.getLogger("inngest.quickstart")  # this file reports what happens, once
    quiet.setLevel(logging.CRITICAL)
    return inngest.Inngest(app_id=APP_ID, logger=quiet)


def create_function(client: inngest.Inngest, event: str, handler: Handler) -> inngest.Function[Any]:
    name: str = handler.__name__

    def attempt(event: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return handler(event)
        except ValueError as error:  # wrong data stays wrong: a retry cannot help
            raise inngest.NonRetriableError(str(error)) from error

    @client.create_function(fn_id=name.replace("_", "-"), trigger=inngest.TriggerEvent(event=event))
    def function(ctx: inngest.ContextSync) -> dict[str, Any]:
        received = ctx.event
        plain = {key: getattr(received, key) for key in ("name", "data", "id", "ts")}
        return ctx.step.run(name, attempt, plain)

    return function


def create_handler(client: inngest.Inngest) -> CommHandler:
    return CommHandler(
        client=client,
        enable_unauthed_sync=None,
        framework=Framework.FAST_API,
        functions=[create_function(client, *item) for item in HANDLERS.items()],
        streaming=inngest.Streaming.DISABLE,
    )


def create_app(handler: CommHandler) -> Starlette:
    async def serve(request: Request) -> Response:
        received = _request(
            str(request.url),
            body=await request.body(),
            headers=dict(request.headers),
            query_params=dict(request.query_params),
        )
        if request.method == "POST":
            return _response(await handler.post(received))
        if request.method == "PUT":
            return _response(await handler.put(received))
        return _response(handler.get_sync(received))

    return Starlette(routes=[Route(PATH, serve, methods=["GET", "POST", "PUT"])])


class Server(uvicorn.Server):
    """A uvicorn server that registers with the Inngest server once its port is open."""

    def __init__(self, handler: CommHandler, client: inngest.Inngest, port: int) -> None:
        super().__init__(uvicorn.Config(create_app(handler), host="127.0.0.1", port=port))
        self.handler = handler
        self.inngest = client.api_origin
        self.url = f"http://127.0.0.1:{port}{PATH}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.registration = asyncio.create_task(self._register())

    async def _register(self, every: float = 2.0) -> None:
        said = ""
        while (answer := await self.handler.put(_request(self.url))).status_code != 200:
            reason = answer.body.get("message") if isinstance(answer.body, dict) else answer.body
            if said != (said := f"{self.inngest} does not take the registration yet: {reason}"):
                log.warning("%s (trying again every %g s)", said, every)
            await asyncio.sleep(every)
        log.info("Registered %d functions with %s", len(HANDLERS), self.inngest)


def _request(
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    query_params: dict[str, str] | None = None,
) -> CommRequest:
    return CommRequest(
        body=body,
        headers=headers or {},
        public_path=None,
        query_params=query_params or {},
        raw_request=None,
        request_url=url,
        serve_origin=None,
        serve_path=None,
    )


def _response(answer: CommResponse) -> Response:
    content = answer.body_bytes()
    if isinstance(content, Exception):
        return Response(str(content), status_code=500)
    return Response(content, status_code=answer.status_code, headers=answer.headers)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the quickstart's handlers to Inngest.")
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (%(default)s)")
    port = parser.parse_args().port
    client = create_client()
    with suppress(KeyboardInterrupt):  # Ctrl-C stops it; uvicorn has printed its last line
        Server(create_handler(client), client, port).run()


if __name__ == "__main__":
    main()
