"""The contract's functions for a live Inngest server: an SDK app on loopback."""

from __future__ import annotations

import datetime
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import inngest
import uvicorn

# The SDK serves FastAPI, Flask, Django and Tornado; this is the layer below all of them.
from inngest._internal.comm_lib import CommHandler, CommRequest
from inngest._internal.server_lib import Framework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.contract.target import COMPLETES, FAILS, HOLDS, OWN, STARTS_TWO

_FOUR = datetime.timedelta(seconds=4)
# The functions that drop or delay events: each has its own event, and `late` shares its event with
# another one.
LIMITED: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("debounced", f"{OWN}/debounced", {"debounce": inngest.Debounce(period=_FOUR)}),
    (
        "batched",
        f"{OWN}/batched",
        {"batch_events": inngest.Batch(max_size=50, timeout=_FOUR)},
    ),
    (
        "limited",
        f"{OWN}/limited",
        {
            "rate_limit": inngest.RateLimit(
                limit=1, period=datetime.timedelta(hours=1), key="event.data.test"
            )
        },
    ),
    ("singleton", f"{OWN}/singleton", {"singleton": inngest.Singleton(mode="skip")}),
    ("filtered", f"{OWN}/filtered", {"only": "event.data.repo == 'o/r0'"}),
    ("prompt", f"{OWN}/two", {}),
    ("late", f"{OWN}/two", {"debounce": inngest.Debounce(period=_FOUR)}),
)

Ran = set[tuple[str, str]]  # the event's id, and the job's


@contextmanager
def serve_functions(server: str) -> Iterator[Ran]:
    """Serve the contract's functions to the Inngest server at `server`; yield what COMPLETES has
    run."""
    ran: Ran = set()
    with serving(server, f"backfill-{OWN}", lambda client: _functions(client, ran)):
        yield ran


@contextmanager
def serving(
    server: str,
    app: str,
    create: Callable[[inngest.Inngest], list[inngest.Function[Any]]],
    signing_key: str | None = None,
) -> Iterator[None]:
    """Serve an app to the Inngest server at `server`, with signatures if it has a key."""
    quiet = logging.getLogger("inngest.contract")
    quiet.setLevel(logging.CRITICAL)
    client = inngest.Inngest(
        app_id=app,
        api_base_url=server,
        event_api_base_url=server,
        is_production=signing_key is not None,
        signing_key=signing_key,
        logger=quiet,
    )
    handler = CommHandler(
        client=client,
        enable_unauthed_sync=True,
        framework=Framework.FAST_API,
        functions=create(client),
        streaming=inngest.Streaming.DISABLE,
    )
    left_open = client._http_client._http_client_sync  # the SDK leaves it open
    with closing(left_open), _served(handler):
        yield


@contextmanager
def _served(handler: CommHandler) -> Iterator[None]:
    async def answer(request: Request) -> Response:
        body, headers = await request.body(), request.headers
        received = _request(str(request.url), body, headers, request.query_params)
        response = await handler.post(received)
        content = response.body_bytes()
        assert isinstance(content, bytes)
        return Response(content, response.status_code, headers=response.headers)

    app = Starlette(routes=[Route("/api/inngest", answer, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/inngest"
        web = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=web.run, args=([listening],))
        thread.start()
        try:
            registered = handler.put_sync(_request(url))
            assert registered.status_code == 200, registered.body
            yield
        finally:
            web.should_exit = True
            thread.join()


def _functions(client: inngest.Inngest, ran: Ran) -> list[inngest.Function[Any]]:
    @client.create_function(
        fn_id="completes", trigger=inngest.TriggerEvent(event=COMPLETES), retries=0
    )
    async def completes(ctx: inngest.Context) -> Mapping[str, Any]:
        ran.add((str(ctx.event.id), ctx.run_id))
        return {"echo": dict(ctx.event.data)}

    @client.create_function(fn_id="fails", trigger=inngest.TriggerEvent(event=FAILS), retries=0)
    async def fails(ctx: inngest.Context) -> None:
        raise ValueError("there is no such repository")

    @client.create_function(fn_id="holds", trigger=inngest.TriggerEvent(event=HOLDS), retries=0)
    async def holds(ctx: inngest.Context) -> None:
        await ctx.step.sleep("hold", datetime.timedelta(hours=1))

    @client.create_function(
        fn_id="first", trigger=inngest.TriggerEvent(event=STARTS_TWO), retries=0
    )
    async def first(ctx: inngest.Context) -> str:
        return "first"

    @client.create_function(
        fn_id="second", trigger=inngest.TriggerEvent(event=STARTS_TWO), retries=0
    )
    async def second(ctx: inngest.Context) -> str:
        return "second"

    rest = [limited(client, fn_id, event, **limits) for fn_id, event, limits in LIMITED]
    return [completes, fails, holds, first, second, *rest]


def limited(
    client: inngest.Inngest, fn_id: str, event: str, *, only: str | None = None, **limits: Any
) -> inngest.Function[Any]:
    """Make a function that fails if its name says so, and takes two seconds if others are to come
    meanwhile."""

    @client.create_function(
        fn_id=fn_id,
        trigger=inngest.TriggerEvent(event=event, expression=only),
        retries=0,
        **limits,
    )
    async def job(ctx: inngest.Context) -> str:
        if "singleton" in limits:
            await ctx.step.sleep("busy", datetime.timedelta(seconds=2))
        if fn_id == "late":
            raise ValueError("late, and failing")
        return "done"

    return job


def _request(
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> CommRequest:
    return CommRequest(
        body=body,
        headers=dict(headers or {}),
        public_path=None,
        query_params=dict(query or {}),
        raw_request=None,
        request_url=url,
        serve_origin=None,
        serve_path=None,
    )
