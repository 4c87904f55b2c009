"""``/v1``: events and the runs that they started (protocol page, section 3).

It has no cache: `/v1/events/{id}/runs` shows a run as soon as there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from runner.adapters.embedded.engine import Engine, Run
from runner.adapters.embedded.ingest import Event
from runner.model import frozen

_NOBODY = "00000000-0000-0000-0000-000000000000"  # the open-source server has one account
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 51
_DEFAULT_WINDOW = 60 * 60


class RestError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def answer_error(request: Request, error: Exception) -> Response:
    """Every GET passes through the server's cache, and that loses the HTTP status."""
    assert isinstance(error, RestError)  # noqa: S101 - registered for no other
    shown = {"error": str(error), "data": None, "status": error.status}
    return _json(shown, 200 if request.method == "GET" else error.status)


@frozen
class RestApi:
    engine: Engine
    clock: Callable[[], float]

    async def events(self, request: Request) -> Response:
        """The latest ones first; without `received_after`, those of the last hour."""
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
        """No error but an empty list for an event that does not exist."""
        runs = self.engine.runs_of(_id_of(request, "event"))
        return self._data([_run_json(run) for run in runs])

    async def run(self, request: Request) -> Response:
        return self._data(_run_json(self._find(request, missing=500)))

    async def cancel(self, request: Request) -> Response:
        """200 with an empty body, also for a run that has ended already."""
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
    """`text` as internal ids are written, or None."""
    try:
        return str(ULID.from_str(text.upper()))
    except ValueError:
        return None
