"""The event that submits a run to the workers. It needs no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

EVENT = "backfill/run.requested"
FUNCTION = "run"


def app_of(state: str) -> str:
    """Return the app of the workers of a state, by its identity; each state has its own."""
    return f"backfill-{state}"


def plans_app_of(state: str, url: str | None) -> str:
    """Return the app for the schedules of the workers at this URL and for the runs they start:
    workers at another URL may have other plans."""
    name = f"{app_of(state)}-plans"
    return f"{name}-{sha256(url.encode()).hexdigest()[:8]}" if url else name


def filter_of(app: str) -> str:
    """Return the filter with which an app's function takes only the runs that are left to it."""
    return f"event.data.app == '{app}'"


def event_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Build the event for the Event API. Its id names the run, the time and the step, so that the
    server drops a repeated request."""
    at = round((data.get("submitted_at") or 0) * 1000)  # two submissions within one second differ
    id_ = f"backfill:{data['run']}:{at}:{data.get('part') or 0}"
    return {"name": EVENT, "id": id_, "data": dict(data)}
