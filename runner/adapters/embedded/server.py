"""An ASGI application with Inngest's Event API and the parts of its REST API that a follower needs.

It answers as the open-source server does (protocol page, sections 1 to 3 and 6), including errors
that hide behind 200.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from ulid import ULID

from runner.adapters.embedded.engine import Engine, Handler, Run
from runner.adapters.embedded.ingest import (
    MAX_EVENT_SIZE,
    MAX_EVENTS,
    Event,
    Refused,
    Seed,
    check_size,
    read_event,
    read_items,
)
from runner.adapters.embedded.runs_api import RunsApi
from runner.model import frozen

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX = re.compile(r"^signkey-\w+-")
_NO_SNIFFING = {"x-content-type-options": "nosniff"}
_NOBODY = "00000000-0000-0000-0000-000000000000"  # the open-source server has one account
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 51
_DEFAULT_WINDOW = 60 * 60


def create_app(
    handlers: Mapping[str, Handler | Sequence[Handler]],
    *,
    event_key: str | None = None,
    signing_key: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Create the application. `handlers`: by the name of the event that starts them; a key that is
    None is not required.

    `app.state.engine.aclose()` cancels the remaining runs; a server that supports lifespans does so
    by itself.
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
    """Redirect: without a key the server takes the path for a page of its dashboard."""
    return RedirectResponse("/e", 303)


class SigningKey:
    """ASGI middleware: 401 without the right bearer."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._accepted = _accepted(_PREFIX.sub("", key))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _PREFIX.sub("", _bearer(Headers(scope=scope))).encode()
        if any(hmac.compare_digest(given, accepted) for accepted in self._accepted):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse("Authentication failed\n", 401, headers=_NO_SNIFFING)
        await refusal(scope, receive, send)


def _accepted(key: str) -> tuple[bytes, ...]:
    """Return the accepted forms of a key: keys are hexadecimal, and the hash is of the bytes that
    the digits encode."""
    try:
        hashed = hashlib.sha256(bytes.fromhex(key)).hexdigest()
    except ValueError:
        return (key.encode(),)
    return (key.encode(), hashed.encode())


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


@frozen
class EventApi:
    engine: Engine
    key: str | None
    clock: Callable[[], float]

    async def receive(self, request: Request) -> Response:
        if self.key is not None and request.path_params["key"] != self.key:
            refusal = {"status": 401, "message": "", "error": "Event key not found"}
            return _answer(refusal, "application/json")
        seed = Seed.from_header(request.headers.get("x-inngest-event-id-seed", ""))
        ids, error = self._publish(await request.body(), seed)
        # An answer without ids has one empty id, for an empty request and for a rejected one.
        answer: dict[str, Any] = {"ids": ids or [""], "status": 200}
        if error is not None:
            answer |= {"status": 400, "error": error}
        return _answer(answer, "text/plain")

    def _publish(self, body: bytes, seed: Seed | None) -> tuple[list[str], str | None]:
        """Publish in order, up to the first event that is rejected; not atomic."""
        now = self.clock()
        seed = seed or Seed.fresh(now)
        ids: list[str] = []
        try:
            for index, item in enumerate(read_items(body)):
                if index == MAX_EVENTS:
                    raise Refused(f"Cannot have more than {MAX_EVENTS} events in a batch")
                if len(body) > MAX_EVENT_SIZE:
                    check_size(item)
                event = read_event(item, seed.ulid(index), now)
                self.engine.publish(event)
                ids.append(event.internal_id)
        except Refused as refused:
            return ids, str(refused)
        return ids, None


def _answer(answer: dict[str, Any], media_type: str) -> Response:
    body = orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, answer["status"], media_type=media_type)


class RestError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer an error; every GET passes through the server's cache, which loses the HTTP status."""
    assert isinstance(error, RestError)  # noqa: S101 - registered for no other
    shown = {"error": str(error), "data": None, "status": error.status}
    return _json(shown, 200 if request.method == "GET" else error.status)


@frozen
class RestApi:
    engine: Engine
    clock: Callable[[], float]

    async def events(self, request: Request) -> Response:
        """List the latest first; without `received_after`, those of the last hour."""
        query, now = request.query_params, self.clock()
        cursor = _ulid(query["cursor"]) if query.get("cursor") else None
        if query.get("cursor") and cursor is None:
            raise RestError(400, "Invalid cursor query parameter")
        try:
            oldest = _timestamp(query.get("received_after"), now - _DEFAULT_WINDOW)
            newest = _timestamp(query.get("received_before"), now)
        except ValueError:  # the server names `received_after` for either
            raise RestError(400, "Invalid received_after query parameter") from None
        limit, name = _limit(query.get("limit")), query.get("name") or None
        found = self.engine.latest_events(limit, name, cursor, oldest, newest)
        return self._data([_event_json(event) for event in found])

    async def event(self, request: Request) -> Response:
        event = self.engine.event(_id_of(request, "event"))
        if event is None:
            raise RestError(404, "Event not found")
        return self._data(_event_json(event))

    async def event_runs(self, request: Request) -> Response:
        """Answer an unknown event with an empty list, not an error."""
        runs = self.engine.runs_of(_id_of(request, "event"))
        return self._data([_run_json(run) for run in runs])

    async def run(self, request: Request) -> Response:
        return self._data(_run_json(self._find(request, missing=500)))

    async def cancel(self, request: Request) -> Response:
        """Answer 200 with an empty body, even for a run that has already ended."""
        self.engine.cancel(self._find(request, missing=404))
        return Response(media_type="application/json")

    def _find(self, request: Request, missing: int) -> Run:
        run = self.engine.run(_id_of(request, "run"))
        if run is None:
            raise RestError(missing, f"Unable to load function run: {request.path_params['id']}")
        return run

    def _data(self, data: Any) -> Response:
        return _json({"data": data, "metadata": {"fetched_at": _time(self.clock())}})


def _event_json(event: Event) -> dict[str, Any]:
    return {
        "internal_id": event.internal_id,
        "account_id": _NOBODY,
        "environment_id": _NOBODY,
        "source": "",
        "source_id": None,
        "received_at": _time(event.received_at),
        "id": event.id,
        "name": event.name,
        "data": event.data,
        "ts": event.ts,
    }


def _run_json(run: Run) -> dict[str, Any]:
    shown = {
        "run_id": run.id,
        "run_started_at": _time(run.started_at),
        "function_id": run.function.id,
        "function_version": 0,
        "environment_id": _NOBODY,
        "event_id": run.event.internal_id,
        "status": run.status,
        "ended_at": None if run.ended_at is None else _time(run.ended_at),
    }
    return shown if run.output is None else shown | {"output": orjson.Fragment(run.output)}


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, media_type="application/json")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _timestamp(text: str | None, default: float) -> float:
    if not text:
        return default
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _limit(text: str | None) -> int:
    try:
        limit = int(text or 0)
    except ValueError:
        limit = 0
    return min(max(limit or _DEFAULT_LIMIT, 1), _MAX_LIMIT)


def _id_of(request: Request, what: str) -> str:
    given = request.path_params["id"]
    parsed = _ulid(given)
    if parsed is None:
        raise RestError(400, f"Invalid {what} ID: {given}")
    return parsed


def _ulid(text: str) -> str | None:
    """Normalise an internal id, or return None."""
    try:
        return str(ULID.from_str(text.upper()))
    except ValueError:
        return None
