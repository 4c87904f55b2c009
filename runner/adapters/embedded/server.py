"""An ASGI application that speaks Inngest's Event API, and what a follower needs of its REST API.

It answers as the open-source server does (protocol page, sections 1 to 3 and 6), down to errors
that hide behind 200.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from runner.adapters.embedded.auth import SigningKey
from runner.adapters.embedded.engine import Engine, Handler
from runner.adapters.embedded.event_api import EventApi
from runner.adapters.embedded.rest_api import RestApi, RestError, answer_error
from runner.adapters.embedded.runs_api import RunsApi


def create_app(
    handlers: Mapping[str, Handler | Sequence[Handler]],
    *,
    event_key: str | None = None,
    signing_key: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """`handlers` by the name of the event that starts them; a key that is None is not asked for.

    `app.state.engine.aclose()` cancels the runs that are left; a server that tells of its lifespan
    does so by itself.
    """
    engine = Engine(handlers, clock)
    events, rest = EventApi(engine, event_key, clock), RestApi(engine, clock)
    lists = RunsApi(engine, clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await engine.aclose()

    rest_routes = [
        Route("/events", rest.events),
        Route("/events/{id}", rest.event),
        Route("/events/{id}/runs", rest.event_runs),
        Route("/runs/{id}", rest.run),
        Route("/runs/{id}", rest.cancel, methods=["DELETE"]),
    ]
    list_routes = [
        Route("/runs", lists.runs),
        Route("/apps", lists.apps),
        Route("/apps/{app}/functions", lists.functions),
    ]
    guard = [Middleware(SigningKey, signing_key)] if signing_key else []
    app = Starlette(
        routes=[
            Route("/e/", _to_the_page, methods=["POST"]),
            Route("/e/{key}", events.receive, methods=["POST"]),
            Mount("/v1", routes=rest_routes, middleware=guard),
            Mount("/v2", routes=list_routes, middleware=guard),
        ],
        exception_handlers={RestError: answer_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.engine = engine
    return app


async def _to_the_page(_: Request) -> Response:
    """Without a key the server takes the path for one of its dashboard's pages."""
    return RedirectResponse("/e", 303)
