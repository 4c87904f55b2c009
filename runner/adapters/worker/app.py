"""The workers' ASGI application: Inngest's requests, and whether this process is well."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import inngest

# The SDK serves FastAPI, Flask, Django and Tornado; this is the layer under all of them.
from inngest._internal.comm_lib import CommHandler, CommResponse
from inngest._internal.server_lib import Framework
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.adapters.worker.function import (
    APP_ID,
    Carrier,
    Scheduled,
    create_firing,
    create_function,
)
from runner.adapters.worker.registration import Registration, request_at

PATH = "/api/inngest"


@dataclass(frozen=True, slots=True)
class Worker:
    """The application, and the SDK's client, which knows where the server is."""

    app: Starlette
    client: inngest.Inngest


def create_worker(
    carrier: Carrier,
    ready: Callable[[], str | None],
    url: str | None,
    log: logging.Logger,
    scheduled: Sequence[Scheduled] = (),
) -> Worker:
    """`ready` says what is missing, if something is. The server is told that this is at `url`. The
    SDK reads its settings and keys from the environment."""
    quiet = logging.getLogger("backfill.sdk")
    quiet.setLevel(logging.CRITICAL)  # what goes wrong in a portion is logged once, by ourselves
    client = inngest.Inngest(app_id=APP_ID, logger=quiet)
    handler = CommHandler(
        client=client,
        enable_unauthed_sync=None,
        framework=Framework.FAST_API,
        functions=[
            create_function(client, carrier),
            *(create_firing(client, plan) for plan in scheduled),
        ],
        streaming=inngest.Streaming.DISABLE,
    )
    registration = (
        Registration(handler, client.api_origin, url.rstrip("/") + PATH, log) if url else None
    )

    async def serve(request: Request) -> Response:
        received = request_at(
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

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def is_ready(_: Request) -> Response:
        missing = await run_in_threadpool(ready) or (registration and registration.trouble)
        if missing is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "why": missing}, 503)

    routes = [
        Route(PATH, serve, methods=["GET", "POST", "PUT"]),
        Route("/healthz", alive),
        Route("/readyz", is_ready),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if registration is None:
            log.info("the server is not told of this process: --url does that")
            yield
        else:
            async with registration.kept():
                yield
        log.info("stopped: no request is in flight, and runs wait for another worker")

    return Worker(Starlette(routes=routes, lifespan=lifespan), client)


def _response(answer: CommResponse) -> Response:
    content = answer.body_bytes()
    if isinstance(content, Exception):
        return Response(str(content), status_code=500)
    return Response(content, status_code=answer.status_code, headers=answer.headers)
