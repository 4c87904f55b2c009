"""The event that hands a run over to the workers. It needs no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

EVENT = "backfill/run.requested"
FUNCTION = "run"


def app_of(state: str) -> str:
    """The app of the workers of a state, by its identity: those of another have their own."""
    return f"backfill-{state}"


def plans_app_of(state: str, url: str | None) -> str:
    """The app of the schedules of those of these workers that are called at this URL, and of the
    runs that they start: those at another URL may be given other plans."""
    name = f"{app_of(state)}-plans"
    return f"{name}-{sha256(url.encode()).hexdigest()[:8]}" if url else name


def filter_of(app: str) -> str:
    """By which the function of an app takes the runs that are left to it alone."""
    return f"event.data.app == '{app}'"


def event_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """As the Event API takes it. Its id says which run, for which time, which step: asked
    for once more, the server drops it."""
    at = round((data.get("submitted_at") or 0) * 1000)  # two in one second are two
    id_ = f"backfill:{data['run']}:{at}:{data.get('part') or 0}"
    return {"name": EVENT, "id": id_, "data": dict(data)}
