"""Read a server's functions: ``GET /v2/apps/{app}/functions``, else GraphQL (protocol page, section
7)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from runner.adapters.http import Answer, Unanswered
from runner.adapters.inngest.http import object_of, words
from runner.errors import TargetError
from runner.model import Function, Rate, Rest, Singleton, Trigger

_PAGE, _PAGES = 100, 200  # functions or apps in a page; pages to read
_NAME, _WORDS, _CURSOR = 256, 1_000, 4_096  # characters
_QUERY = (
    "{apps{functions{id slug triggers{type value condition} configuration{"
    "eventsBatch{maxSize timeout key} rateLimit{limit period key} debounce{period key} "
    "throttle{limit period key} singleton{mode key}}}}}"
)
_PART = re.compile(r"(\d+(?:\.\d+)?)(w|d|h|ms|m|s|us|µs|ns)")
_SECONDS = {
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}

Get = Callable[[str, Mapping[str, Any]], Awaitable[Answer]]


class _NotTold(Exception):
    """The server's answer shows that it does not have this API."""


async def functions(get: Get) -> tuple[Function, ...] | None:
    """Return the server's functions; None if it does not list them. `get` makes one request.

    Raises `Unanswered` if it may list them later, since this decides what an event without a job
    means.
    """
    away: Unanswered | None = None
    for ask in (_by_rest, _by_graphql):
        try:
            return tuple([one async for one in ask(get)])
        except Unanswered as error:
            away = error
        except (_NotTold, TargetError):
            continue
    if away:
        raise away
    return None


async def _by_rest(get: Get) -> AsyncIterator[Function]:
    async for app in _paged(get, "/v2/apps"):
        name = words(app.get("id"), _NAME)
        async for found in _paged(get, f"/v2/apps/{quote(name, safe='')}/functions"):
            if not found.get("isArchived"):
                bare = words(found.get("slug") or found.get("id"), _NAME)
                names = (f"{name}-{bare}", bare)
                yield _function(found, "if", names, name, paused=found.get("isPaused") is True)


async def _by_graphql(get: Get) -> AsyncIterator[Function]:
    response, body = await get("/v0/gql", {"query": _QUERY})
    data = object_of(body).get("data") if response.status_code == 200 else None
    if not isinstance(data, dict) or data.get("apps") is None:
        raise _NotTold
    for app in _objects(data["apps"]):
        for found in _objects(app.get("functions")):
            names = (words(found.get("slug"), _NAME), words(found.get("id"), _NAME))
            yield _function(found, "condition", names)


async def _paged(get: Get, path: str) -> AsyncIterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": _PAGE}
    for _ in range(_PAGES):
        response, body = await get(path, params)
        page = object_of(body)
        data, paging = page.get("data") or [], page.get("page")
        if response.status_code != 200 or not isinstance(paging, dict):
            raise _NotTold
        for one in _objects(data):
            yield one
        cursor = paging.get("cursor") if paging.get("hasMore") else None
        if not isinstance(cursor, str) or len(cursor) > _CURSOR or cursor == params.get("cursor"):
            return
        params["cursor"] = cursor


def _function(
    found: Mapping[str, Any],
    condition: str,
    names: tuple[str, ...],
    app: str | None = None,
    *,
    paused: bool = False,
) -> Function:
    """Build a function; what does not have the server's form is ignored."""
    configured = _object(found.get("configuration"))
    singleton = configured.get("singleton")
    return Function(
        names,
        tuple(_triggers(found, condition)),
        app,
        debounce=_rest(configured.get("debounce"), "period"),
        batch=_rest(configured.get("eventsBatch"), "timeout"),
        rate_limit=_rate(configured.get("rateLimit")),
        throttle=_rate(configured.get("throttle")),
        singleton=Singleton(str(singleton.get("mode")).upper().endswith("CANCEL"), _key(singleton))
        if isinstance(singleton, dict)
        else None,
        paused=paused,
    )


def _triggers(found: Mapping[str, Any], condition: str) -> Iterator[Trigger]:
    for trigger in _objects(found.get("triggers")):
        if str(trigger.get("type")).upper().endswith("EVENT"):
            event = words(trigger.get("value"), _NAME)
            yield Trigger(event, words(trigger.get(condition), _WORDS) or None)


def _rest(found: Any, period: str) -> Rest | None:
    return Rest(seconds(found.get(period)), _key(found)) if isinstance(found, dict) else None


def _rate(found: Any) -> Rate | None:
    if not isinstance(found, dict):
        return None
    limit, period = found.get("limit"), seconds(found.get("period"))
    return Rate(limit, period, _key(found)) if isinstance(limit, int) and period else None


def _key(found: Mapping[str, Any]) -> str | None:
    return words(found.get("key"), _WORDS) or None


def seconds(text: object) -> float:
    """Parse a duration as the server writes it (``1m30s``, ``24h0m0s``); 0 for anything else."""
    if not isinstance(text, str) or _PART.sub("", text):
        return 0.0
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _objects(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
