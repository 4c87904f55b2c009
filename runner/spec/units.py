"""Durations, times and priorities, typed once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, get_args

Priority = Literal["critical", "high", "medium", "low"]
PRIORITIES: dict[str, int] = {name: rank for rank, name in enumerate(get_args(Priority))}

MOST = 1_000_000_000  # of whatever is counted: more than there is, and what each state holds
LONGEST = 100 * 365 * 86400.0  # seconds that somebody may ask for
BOUNDS = ("at_least", "at_most", "equals", "maximum")  # of a figure
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AMOUNT = r"(\d{1,9}(?:\.\d{1,9})?)"  # bounded, so that no sum of them is infinite
_DURATION = re.compile(
    rf"(?=\d)(?:{_AMOUNT}d)?(?:{_AMOUNT}h)?(?:{_AMOUNT}m)?(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?", re.ASCII
)


class Faulty(ValueError):
    """What is wrong with a mapping: every fault of it, each with the key that it is of."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in faults))
        self.faults = tuple(faults)


def parse_duration(text: str) -> float:
    """Seconds of ``5s``, ``1m30s``, ``30d``; ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not a duration; write it like 5s, 1m30s or 500ms")
    return sum(
        float(amount) * unit
        for amount, unit in zip(match.groups(), _UNITS.values(), strict=True)
        if amount
    )


def parse_span(text: str) -> float:
    """Seconds of a duration that counts from now: so long that there is a time at its end."""
    seconds = parse_duration(text)
    if seconds > LONGEST:
        raise ValueError(f"`{text}` is more than 100 years")
    return seconds


def unmet(bounds: Mapping[str, object]) -> tuple[str, str] | None:
    """Two of the bounds that no number is within at once. What is no number yet is passed over."""
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
    """Seconds of ``5s``, or of ``{between: [80ms, 220ms]}``, and how many more they may be."""
    if not isinstance(written, dict):
        return parse_duration(written), 0.0
    least, most = sorted(map(parse_duration, written["between"]))
    return least, most - least


def format_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads: ``90.5`` is ``1m30.5s``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000 and milliseconds:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "")
    tail = f"{rest / 1000:g}s" if rest or not (hours or minutes) else ""
    return "".join(parts) + tail


def format_delay(delay: float, jitter: float) -> str:
    """``5s``, or ``80ms to 220ms`` where it has a `jitter`."""
    if not jitter:
        return format_duration(delay)
    return f"{format_duration(delay)} to {format_duration(delay + jitter)}"


_VERBS = {"are": "is", "were": "was", "have": "has", "do": "does"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """``1 event``, ``2,000 events``; with a verb, as it goes with several: ``1 event was``."""
    if number == 1:
        return f"1 {noun} {_VERBS.get(verb, verb)}".rstrip()
    several = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    if noun.endswith("ry"):
        several = f"{noun[:-1]}ies"
    return f"{number:,} {several} {verb}".rstrip()


_EARLIEST, _LATEST = 315_532_800_000, 4_102_444_800_000  # ms of the years from 1980 to 2100


def parse_start(written: object) -> int:
    """An event's start in ms since 1970: of ISO 8601, or of such a number; else ValueError."""
    if isinstance(written, int) and not isinstance(written, bool):
        at = written
    else:
        at = round(parse_time(written).timestamp() * 1000)
    if not _EARLIEST <= at < _LATEST:
        raise ValueError(f"`{written}` is not a time in the years from 1980 to 2100")
    return at


_COMPACT_DAY = len("20260131")


def parse_time(written: object, zone: tzinfo | None = UTC) -> datetime:
    """A time in ISO 8601, in `zone` where it has none; ValueError for anything else, and for what
    is none in UTC: a zone may take it out of the years from 1 to 9999."""
    text = str(written)
    try:
        if text.isdigit() and len(text) != _COMPACT_DAY:  # ms since 1970 would be a year's 1701
            raise ValueError
        time = datetime.fromisoformat(text)
        if time.tzinfo:
            time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"`{written}` is not a time in ISO 8601") from None
    return time if time.tzinfo else time.replace(tzinfo=zone)


def moments_of(wall: datetime, zone: tzinfo) -> set[datetime]:
    """Of a time of the wall clock, in UTC: none, one or two."""
    both = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {one for one in both if one.astimezone(zone).replace(tzinfo=None, fold=0) == wall}
