"""The event that hands a run over to the workers. It needs no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EVENT = "backfill/run.requested"
FUNCTION = "run"


def app_of(state: str) -> str:
    """The app of the workers of a state, by its identity: those of another have their own, with
    their own functions and schedules."""
    return f"backfill-{state}"


def filter_of(state: str) -> str:
    """By which the function of those workers takes the runs of their state alone."""
    return f"event.data.state == '{state}'"


def event_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """As the Event API takes it. Its id says which run, for which time, which step: asked
    for once more, the server drops it."""
    id_ = f"backfill:{data['run']}:{data.get('asked_at') or 0:.0f}:{data.get('part') or 0}"
    return {"name": EVENT, "id": id_, "data": dict(data)}
