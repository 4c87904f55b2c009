"""Cutting a batch into requests: the smaller of the batch, the server's limit and a byte limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from runner.model import PlannedEvent

MAX_EVENTS = 5_000  # the Event API's own limit (protocol page, section 1)
MAX_BYTES = 450_000  # one documentation page says a request may be "up to 512kb" in all


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request may hold: events, and bytes of its body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


class Encoded(NamedTuple):
    """An event as it goes over the wire."""

    position: int
    planned: PlannedEvent
    event_id: str
    body: bytes


def encode(run_id: str, position: int, planned: PlannedEvent) -> Encoded:
    """The event with its idempotency key.

    The server claims a run per function and id, whatever the event's name (protocol page, section
    2): so the operation is part of the id, and the run, so that a second run is not a duplicate.
    """
    event_id = f"{run_id}:{planned.operation}:{planned.item}"
    event = planned.event
    body = orjson.dumps({"name": event.name, "data": event.data, "id": event_id})
    return Encoded(position, planned, event_id, body)


def cut(events: Sequence[Encoded], limits: RequestLimits) -> int:
    """How many of `events` go into the next request; at least one."""
    size = 1
    for count, event in enumerate(events[: limits.events]):
        size += len(event.body) + 1
        if size > limits.bytes and count:
            return count
    return min(len(events), limits.events)


def join(events: Sequence[Encoded]) -> bytes:
    return b"[" + b",".join([event.body for event in events]) + b"]"
