"""What the Event API makes of a request body (protocol page, sections 1 and 6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import orjson
from ulid import ULID

MAX_EVENTS = 5_000
MAX_EVENT_BYTES = 3 * 1024 * 1024
_EARLIEST, _LATEST = 315_532_800_000, 4_102_444_800_000  # ms: 1980 .. 2100
_LOW = 0xFFFFFFFF


class BadEvent(ValueError):
    """Why an event is not taken; nothing after it is."""


def parse(body: bytes) -> list[Any]:
    """The events of a body; a single object counts as one. Raises `BadEvent`."""
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"Unable to parse request: {error}") from None
    return events if isinstance(events, list) else [events]


def check(event: Any) -> dict[str, Any]:
    """The event as it is stored. Raises `BadEvent`."""
    if not isinstance(event, dict):
        raise BadEvent("Unable to process event payload: not an object")
    name, data = event.get("name"), event.get("data")
    if not isinstance(name, str) or not name:
        raise BadEvent("event name is empty")
    if name.lower().startswith("inngest/"):
        raise BadEvent("event name is reserved for internal use")
    if data is not None and not isinstance(data, dict):
        raise BadEvent("Unable to process event payload: data is not an object")
    if not isinstance(event.get("id", ""), str | None):
        raise BadEvent("Unable to process event payload: id is not a string")
    _check_time(event.get("ts"))
    kept = {key: value for key, value in (data or {}).items() if key != "_inngest"}
    return {**event, "data": kept}


def _check_time(ts: Any) -> None:
    if ts is None:
        return
    if not isinstance(ts, int) or isinstance(ts, bool):
        raise BadEvent("Unable to process event payload: ts is not an integer")
    if ts and not _EARLIEST <= ts <= _LATEST:
        raise BadEvent("ts is out of range: it is in ms since 1970")


def internal_ids(seed: str | None) -> Iterator[str]:
    """ULIDs derived from the seed; random ones where there is none, or a malformed one."""
    entropy = _parse_seed(seed)
    index = 0
    while True:
        index += 1
        if entropy is None:
            yield str(ULID())
        else:
            low = (int.from_bytes(entropy[12:], "big") + index) & _LOW
            yield str(ULID(entropy[:12] + low.to_bytes(4, "big")))


def _parse_seed(seed: str | None) -> bytes | None:
    """The 16 bytes that a seed stands for: 6 of milliseconds, 10 of entropy."""
    milliseconds, _, encoded = (seed or "").partition(",")
    try:
        time = int(milliseconds).to_bytes(6, "big")
        entropy = base64.b64decode(encoded, validate=True)
    except (ValueError, OverflowError, binascii.Error):
        return None
    return time + entropy if len(entropy) == 10 else None
