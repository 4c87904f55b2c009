"""``/v2``: lists of runs, apps and functions, as in the open-source server (protocol page, sections
3 and 7).

Runs can be listed by the time they were queued or started. The real server's lists by end time omit
runs, so nothing follows by them, and they are not supported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from runner.adapters.embedded.engine import Engine, Function, Run
from runner.model import frozen

_APP = "embedded"
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100
_STATUSES = {
    "QUEUED": "Scheduled",
    "RUNNING": "Running",
    "COMPLETED": "Completed",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}
_SHOWN = {ours: theirs for theirs, ours in _STATUSES.items()}
_FIELDS = {"", "QUEUEDAT", "QUEUED_AT", "STARTEDAT", "STARTED_AT"}


class _Refused(Exception):
    pass


@frozen
class RunsApi:
    engine: Engine
    clock: Callable[[], float]

    async def runs(self, request: Request) -> Response:
        return _answered(self._runs, request)

    async def apps(self, request: Request) -> Response:
        return _answered(self._apps, request)

    async def functions(self, request: Request) -> Response:
        return _answered(self._functions, request)

    def _apps(self, request: Request) -> Response:
        limit, count = _limit(request.query_params.get("limit")), len(self.engine.functions)
        app = {"functionCount": count, "id": _APP, "method": "SERVE", "name": _APP}
        return self._page([app], {"limit": limit})

    def _functions(self, request: Request) -> Response:
        """List the functions of an app; an unknown app has none."""
        query = request.query_params
        limit, cursor = _limit(query.get("limit")), query.get("cursor") or None
        functions = self.engine.functions if request.path_params["app"] == _APP else ()
        places = {function.id: place for place, function in enumerate(functions)}
        if cursor and cursor not in places:
            raise _Refused("Cursor is invalid")
        first = places[cursor] + 1 if cursor else 0
        found = functions[first : first + limit]
        more = len(functions) > first + limit
        page = {"limit": limit} | ({"cursor": found[-1].id, "hasMore": True} if more else {})
        return self._page([_function_json(function) for function in found], page)

    def _page(self, data: Sequence[dict[str, Any]], page: dict[str, Any]) -> Response:
        """Build a page; like protobuf, omit an empty list."""
        metadata = {"fetchedAt": _shown(self.clock())}
        return _json({**({"data": data} if data else {}), "metadata": metadata, "page": page})

    def _runs(self, request: Request) -> Response:
        query = request.query_params
        limit = _limit(query.get("limit"))
        wanted = {_status(name) for name in query.getlist("status")}
        if query.get("timeField", "").upper() not in _FIELDS:
            raise _Refused("timeField is invalid")
        order = query.get("order", "").upper()
        if order not in ("", "ASC", "DESC"):
            raise _Refused("order is invalid")
        begin = _time(query.get("from"), "from", 0.0)
        end = _time(query.get("until"), "until", float("inf"))
        cursor = query.get("cursor") or None
        if cursor and not self.engine.run(cursor):
            raise _Refused("Cursor is invalid")
        apps, names = set(query.getlist("appId")), set(query.getlist("functionId"))
        found: list[Run] = []
        for run in self.engine.runs_from(begin, cursor, backward=order != "ASC"):
            if run.started_at < begin or len(found) > limit:
                break
            chosen = (not apps or _APP in apps) and (not names or run.function.name in names)
            if chosen and run.started_at < end and (not wanted or run.status in wanted):
                found.append(run)
        shown, more = found[:limit], len(found) > limit
        page = (
            {"cursor": shown[-1].id, "hasMore": True, "limit": limit} if more else {"limit": limit}
        )
        with_output = query.get("includeOutput") == "true"
        data = [_run_json(run, with_output=with_output) for run in shown]
        return self._page(data, page)


def _answered(answer: Callable[[Request], Response], request: Request) -> Response:
    try:
        return answer(request)
    except _Refused as error:
        fault = {"code": "invalid_field_format", "message": str(error)}
        return _json({"errors": [fault]}, 400)


def _function_json(function: Function) -> dict[str, Any]:
    return {
        "app": {"id": _APP},
        "configuration": {"retries": {"isDefault": False}},
        "id": function.name,
        "name": function.name,
        "slug": function.name,
        "triggers": [{"type": "EVENT", "value": function.event}],
    }


def _run_json(run: Run, *, with_output: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "app": {"id": _APP},
        "function": {"id": run.function.name, "name": run.function.name},
        "id": run.id,
        "queuedAt": _shown(run.started_at),
        "startedAt": _shown(run.started_at),
        "status": _SHOWN[run.status],
        "trigger": {"eventIds": [run.event.internal_id]},
    }
    if run.ended_at is not None:
        milliseconds = int((run.ended_at - run.started_at) * 1000)
        shown |= {"endedAt": _shown(run.ended_at), "durationMs": str(milliseconds)}
    if with_output and run.output is not None:
        value = orjson.loads(run.output)
        if run.status == "Failed":
            value = {"error": value}
        shown["output"] = value if isinstance(value, dict) else {"data": value}
    return shown


def _limit(text: str | None) -> int:
    try:
        limit = int(text or 0) or _DEFAULT_LIMIT
    except ValueError:
        raise _Refused("Limit is invalid") from None
    if limit < 1:
        raise _Refused("Limit must be at least 1")
    if limit > _MAX_LIMIT:
        raise _Refused(f"Limit cannot exceed {_MAX_LIMIT}")
    return limit


def _status(name: str) -> str:
    try:
        return _STATUSES[name.strip().upper()]
    except KeyError:
        raise _Refused("Status is invalid") from None


def _time(text: str | None, name: str, otherwise: float) -> float:
    if not text:
        return otherwise
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Refused(f"{name} must be a valid timestamp") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
