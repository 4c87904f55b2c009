"""The most that one request may hold."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENTS = 5_000  # the Event API's own limit (protocol page, section 1)
MAX_BYTES = 450_000  # one documentation page says a request may be "up to 512kb" in all


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Events, and bytes of the body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES
