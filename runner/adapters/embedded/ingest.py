"""Parse one request of the Event API into events, with the server's own order of checks.

Messages are those of the real server wherever it has its own (protocol page, sections 1 and 6).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

import orjson
from ulid import ULID

from runner.model import frozen

MAX_EVENTS = 5_000
MAX_EVENT_SIZE = 3 * 1024 * 1024
_RESERVED = "inngest/"
_EARLIEST, _LATEST = 315_532_800_000, 4_102_444_800_000  # the years 1980 and 2100, in ms
_INTERNAL_DATA = "_inngest"
_KINDS: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "bool",
}


class Refused(Exception):
    """Why an event, or the whole request, is rejected."""


@frozen
class Event:
    """A stored event. `id` is the sender's idempotency key, or else the internal id."""

    internal_id: str
    id: str
    name: str
    data: dict[str, Any] | None
    ts: int
    received_at: float


@frozen
class Seed:
    """The source of a request's internal ids: the same seed gives the same ids."""

    ms: int
    entropy: bytes

    @classmethod
    def fresh(cls, now: float) -> Seed:
        return cls(int(now * 1000), os.urandom(10))

    @classmethod
    def from_header(cls, value: str) -> Seed | None:
        """Parse ``"<ms>,<base64 of 10 bytes>"``; the server ignores any other text."""
        ms, _, entropy = value.partition(",")
        if not ms.isdecimal():
            return None
        try:
            seed = cls(int(ms), base64.b64decode(entropy, validate=True))
        except ValueError:
            return None
        return seed if 0 < seed.ms < 1 << 48 and len(seed.entropy) == 10 else None

    def ulid(self, index: int) -> str:
        """Return the internal id of the request's event at `index`; only the last four bytes count
        up."""
        counter = (int.from_bytes(self.entropy[6:]) + index + 1) % (1 << 32)
        entropy = self.entropy[:6] + counter.to_bytes(4)
        return str(ULID.from_bytes(self.ms.to_bytes(6) + entropy))


def read_items(body: bytes) -> list[Any]:
    """Return the items of a request with one event or an array of them; none for an empty body."""
    if not body.strip():
        return []
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(str(error)) from None
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise Refused("Request body must contain an event object or an array of event objects")


def check_size(item: Any) -> None:
    # Measured as compact JSON, since the item's own bytes are gone after parsing.
    size = len(orjson.dumps(item))
    if size > MAX_EVENT_SIZE:
        raise Refused(f"Event is over the max size: Max {MAX_EVENT_SIZE} bytes / Size {size} bytes")


def read_event(item: Any, internal_id: str, now: float) -> Event:
    if item is None:
        item = {}
    if not isinstance(item, dict):
        raise Refused(f"json: cannot unmarshal {_kind(item)} into an event")
    name = _field(item, "name", str) or ""
    data = _field(item, "data", dict)
    ts = _field(item, "ts", int) or int(now * 1000)
    id_ = _field(item, "id", str) or internal_id
    if name.lower().startswith(_RESERVED):
        raise Refused(f"event name is reserved for internal use: {name}")
    if data and _INTERNAL_DATA in data:
        del data[_INTERNAL_DATA]
    if not name:
        raise Refused("event name is empty")
    if ts < _EARLIEST:
        raise Refused("timestamp is before Jan 1, 1980")
    if ts > _LATEST:
        raise Refused("timestamp is after Jan 1, 2100")
    return Event(internal_id, id_, name, data, ts, now)


def _field(item: dict[str, Any], field: str, kind: type) -> Any:
    value = item.get(field)
    # By the exact type: a bool is an int to Python, and the server accepts only whole numbers.
    if value is not None and type(value) is not kind:
        wanted = _KINDS[kind]
        raise Refused(f"json: cannot unmarshal {_kind(value)} into field {field} of type {wanted}")
    return value


def _kind(value: Any) -> str:
    return _KINDS[type(value)]
