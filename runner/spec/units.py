"""Parse and format durations, times and priorities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, get_args

from runner.spec.document import echo

Priority = Literal["critical", "high", "medium", "low"]
PRIORITIES: dict[str, int] = {name: rank for rank, name in enumerate(get_args(Priority))}

MOST = 1_000_000_000  # the largest count: more than there is, and within every state's limits
LONGEST = 100 * 365 * 86400.0  # seconds, the longest span that may be given
BOUNDS = ("at_least", "at_most", "equals", "maximum")  # of a number
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AMOUNT = r"(\d{1,9}(?:\.\d{1,9})?)"  # bounded, so that no sum of them is infinite
_DURATION = re.compile(
    rf"(?=\d)(?:{_AMOUNT}d)?(?:{_AMOUNT}h)?(?:{_AMOUNT}m)?(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?", re.ASCII
)


class Faulty(ValueError):
    """All faults of a mapping, each with its key."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in faults))
        self.faults = tuple(faults)


def parse_duration(text: str) -> float:
    """Return the seconds of ``5s``, ``1m30s``, ``30d``. Raises `ValueError` for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not a duration; write it like 5s, 1m30s or 500ms")
    return sum(
        float(amount) * unit
        for amount, unit in zip(match.groups(), _UNITS.values(), strict=True)
        if amount
    )


def parse_span(text: str) -> float:
    """Parse a duration that counts from now: at most 100 years, so that its end is a valid time."""
    seconds = parse_duration(text)
    if seconds > LONGEST:
        raise ValueError(f"`{text}` is more than 100 years")
    return seconds


def unmet(bounds: Mapping[str, object]) -> tuple[str, str] | None:
    """Return two bounds that no number meets at once. Values that are not numbers are skipped."""
    numbers = {
        key: value
        for key in BOUNDS
        if isinstance(value := bounds.get(key), int | float) and not isinstance(value, bool)
    }
    for low in filter(numbers.__contains__, ("at_least", "equals")):
        for high in filter(numbers.__contains__, ("at_most", "maximum", "equals")):
            if numbers[low] > numbers[high]:
                return low, high
    return None


def parse_delay(written: Any) -> tuple[float, float]:
    """Parse ``5s``, or ``{between: [80ms, 220ms]}``: return the least seconds, and the jitter."""
    if not isinstance(written, dict):
        return parse_duration(written), 0.0
    least, most = sorted(map(parse_duration, written["between"]))
    return least, most - least


def format_duration(seconds: float) -> str:
    """Return the shortest form that `parse_duration` reads: ``90.5`` is ``1m30.5s``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000 and milliseconds:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "")
    tail = f"{rest / 1000:g}s" if rest or not (hours or minutes) else ""
    return "".join(parts) + tail


def format_delay(delay: float, jitter: float) -> str:
    """Format a delay: ``5s``, or ``80ms to 220ms`` with a `jitter`."""
    if not jitter:
        return format_duration(delay)
    return f"{format_duration(delay)} to {format_duration(delay + jitter)}"


_VERBS = {"are": "is", "were": "was", "have": "has", "do": "does"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return ``1 event``, ``2,000 events``; with a verb in the plural, ``1 event was``."""
    if number == 1:
        return f"1 {noun} {_VERBS.get(verb, verb)}".rstrip()
    several = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    if noun.endswith("ry"):
        several = f"{noun[:-1]}ies"
    return f"{number:,} {several} {verb}".rstrip()


_EARLIEST, _LATEST = 315_532_800_000, 4_102_444_800_000  # ms since 1970 of the years 1980 and 2100


def parse_start(written: object) -> int:
    """Return an event's start in ms since 1970, from ISO 8601 or ms. Raises `ValueError`."""
    if isinstance(written, int) and not isinstance(written, bool):
        at = written
    else:
        at = round(parse_time(written).timestamp() * 1000)
    if not _EARLIEST <= at < _LATEST:
        raise ValueError(f"{echo(written)} is not a time in the years from 1980 to 2100")
    return at


_COMPACT_DAY = len("20260131")


def parse_time(written: object, zone: tzinfo | None = UTC) -> datetime:
    """Parse a time in ISO 8601; without a zone it is in `zone`. Raises `ValueError`, also for a
    time whose zone takes it out of the years 1 to 9999 in UTC."""
    text = str(written)
    try:
        if text.isdigit() and len(text) != _COMPACT_DAY:  # else ms since 1970 may be read as a date
            raise ValueError
        time = datetime.fromisoformat(text)
        if time.tzinfo:
            time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{echo(written)} is not a time in ISO 8601") from None
    return time if time.tzinfo else time.replace(tzinfo=zone)


def is_time(written: object) -> bool:
    try:
        return bool(parse_time(written))
    except ValueError:
        return False


def moments_of(wall: datetime, zone: tzinfo) -> set[datetime]:
    """Return the moments in UTC that have this local time: none, one or two."""
    both = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {one for one in both if one.astimezone(zone).replace(tzinfo=None, fold=0) == wall}
