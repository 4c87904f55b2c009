"""An ASGI application that speaks Inngest's Event API and REST API as the live server does.

`inngest-protocol.md`, section 6, is its specification; `tests/contract` holds both to it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from ulid import ULID

from runner.adapters.embedded.engine import Engine, Handler, Run
from runner.adapters.embedded.ingest import (
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    BadEvent,
    check,
    internal_ids,
    parse,
)

_DEFAULT_LIMIT, _MOST = 20, 51
_CACHE_SECONDS = 15


def create_app(
    handlers: Mapping[str, Handler | Sequence[Handler]] | None = None,
    *,
    event_key: str | None = None,
    signing_key: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """The server; `handlers` are called with an event of their name and do its job.

    Without `event_key` any key is taken, without `signing_key` none is asked for, as `inngest dev`
    does. `app.state.engine.aclose()` ends what still runs.
    """
    listed = {
        name: [found] if callable(found) else list(found)
        for name, found in (handlers or {}).items()
    }
    engine = Engine(listed, clock, new_id=lambda: str(ULID()))
    api = _Api(engine, event_key, signing_key)
    app = Starlette(
        routes=[
            Route("/e/", api.no_key, methods=["POST"]),
            Route("/e/{key}", api.ingest, methods=["POST"]),
            Route("/v1/events", api.guarded(api.events)),
            Route("/v1/events/{id}", api.guarded(api.event)),
            Route("/v1/events/{id}/runs", api.guarded(api.event_runs)),
            Route("/v1/runs/{id}", api.guarded(api.run), methods=["GET"]),
            Route("/v1/runs/{id}", api.guarded(api.cancel), methods=["DELETE"]),
        ]
    )
    app.state.engine = engine
    return app


class _Api:
    def __init__(self, engine: Engine, event_key: str | None, signing_key: str | None) -> None:
        self.engine = engine
        self.event_key = event_key
        self.bearers = _bearers(signing_key) if signing_key else None

    async def no_key(self, _request: Request) -> Response:
        return RedirectResponse("/", 303)

    async def ingest(self, request: Request) -> Response:
        """Publish in order; the first bad event ends it, and what came before stays."""
        key = request.path_params["key"]
        if self.event_key is not None and not hmac.compare_digest(key, self.event_key):
            return _json({"status": 401, "message": "", "error": "Event key not found"}, 401)
        body = await request.body()
        ids: list[str] = []
        error = None
        try:
            events = parse(body) if body else []
            new_ids = internal_ids(request.headers.get("x-inngest-event-id-seed"))
            large = len(body) > MAX_EVENT_BYTES
            for event, internal_id in zip(events[:MAX_EVENTS], new_ids, strict=False):
                checked = check(event)
                if large and len(orjson.dumps(event)) > MAX_EVENT_BYTES:
                    raise BadEvent(f"Event is over the max size: Max {MAX_EVENT_BYTES} bytes")
                self.engine.receive(internal_id, checked)
                ids.append(internal_id)
            if len(events) > MAX_EVENTS:
                raise BadEvent(f"Cannot have more than {MAX_EVENTS} events in a request")
        except BadEvent as refusal:
            error = str(refusal)
        status = 400 if error else 200
        answer: dict[str, Any] = {"ids": ids or [""], "status": status}
        if error:
            answer["error"] = error
        return PlainTextResponse(orjson.dumps(answer), status)

    async def events(self, request: Request) -> Response:
        query = request.query_params
        limit = (
            int(query.get("limit") or _DEFAULT_LIMIT) if query.get("limit", "0").isdigit() else 0
        )
        found = [
            _event_answer(internal_id, event)
            for internal_id, event in sorted(self.engine.events.items(), reverse=True)
            if query.get("name") in (None, "", event["name"])
            and (not query.get("cursor") or internal_id < query["cursor"])
        ]
        return self._data(found[: min(limit or _DEFAULT_LIMIT, _MOST)])

    async def event(self, request: Request) -> Response:
        internal_id = request.path_params["id"]
        event = self.engine.events.get(internal_id)
        if event is None:
            return _error("Event not found", 404)
        return self._data(_event_answer(internal_id, event))

    async def event_runs(self, request: Request) -> Response:
        internal_id = request.path_params["id"]
        if not _is_ulid(internal_id):
            return _error(f"Invalid event ID: {internal_id}", 400)
        return self._data([run.answer() for run in self.engine.by_event.get(internal_id, ())])

    async def run(self, request: Request) -> Response:
        run = self._find(request)
        return self._data(run.answer()) if run else _error("Run not found", 404)

    async def cancel(self, request: Request) -> Response:
        run = self._find(request)
        if run is None:
            return _json({"error": "Run not found", "data": None, "status": 404}, 404)
        self.engine.cancel(run)
        return Response(status_code=200)

    def guarded(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Only with the signing key, where the server has one."""

        async def checked(request: Request) -> Response:
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self.bearers is not None and not any(
                hmac.compare_digest(sent.encode(), bearer.encode()) for bearer in self.bearers
            ):
                return PlainTextResponse("Authentication failed", 401)
            answer: Response = await endpoint(request)
            return answer

        return checked

    def _find(self, request: Request) -> Run | None:
        return self.engine.runs.get(request.path_params["id"])

    def _data(self, data: Any) -> Response:
        now = self.engine.clock()
        times = {"fetched_at": now, "cached_until": now + _CACHE_SECONDS}
        return _json({"data": data, "metadata": times})


def _bearers(key: str) -> list[str]:
    """The plain key, its hash, and either with the key's prefix (protocol page, section 6)."""
    prefix, plain = re.fullmatch(r"(signkey-\w+-)?(.*)", key).groups()  # type: ignore[union-attr]
    try:
        digest = hashlib.sha256(bytes.fromhex(plain)).hexdigest()
    except ValueError:
        digest = hashlib.sha256(plain.encode()).hexdigest()
    prefixes = ("", prefix or "signkey-prod-")
    return [f"{start}{form}" for start in prefixes for form in (plain, digest)]


def _event_answer(internal_id: str, event: Mapping[str, Any]) -> dict[str, Any]:
    return {"internal_id": internal_id, **event}


def _error(message: str, status: int) -> Response:
    """Errors of a GET hide behind 200 (protocol page, section 6)."""
    return _json({"error": message, "data": None, "status": status})


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _is_ulid(text: str) -> bool:
    try:
        ULID.from_str(text)
    except ValueError:
        return False
    return True
