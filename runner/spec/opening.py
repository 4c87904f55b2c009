"""When a window is open: hours of the day, on days of the week, in a time zone.

A window belongs to the day on which it opens: `22:00-06:00` of a Friday ends on Saturday. Times are
seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from math import ceil

from runner.model import WindowGuard, frozen
from runner.spec.units import Faulty, moments_of

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_AHEAD = 9  # days to look ahead: every window opens within a week
LONGEST = 10 * 365 * 86_400.0  # seconds after which work counts as never done


@frozen
class Opening:
    """`begins`, `ends`: minutes of the day; unless `ends` is later, it is on the next day."""

    begins: int
    ends: int
    weekdays: frozenset[int]
    zone: tzinfo

    def state(self, at: float) -> tuple[bool, float]:
        """Tell whether it is open, and until when that stays so."""
        for begins, ends in self._windows(at):
            if at < begins:
                return False, begins
            if at < ends:
                return True, ends
        return False, at + _AHEAD * 86_400.0  # the zone has skipped every such day

    def _windows(self, at: float) -> Iterator[tuple[float, float]]:
        """Yield the windows around and after the moment, in order; adjacent ones are joined."""
        today = datetime.fromtimestamp(at, self.zone).date()
        open_: tuple[float, float] | None = None
        for offset in range(-2, _AHEAD):
            day = today + timedelta(days=offset)
            if day.weekday() not in self.weekdays:
                continue
            last = day + timedelta(days=self.ends <= self.begins)
            begins = _moment(self.zone, day, self.begins)
            ends = _moment(self.zone, last, self.ends)
            if ends <= begins:
                continue  # the clock change skips all of it
            if open_ and begins <= open_[1]:
                open_ = open_[0], max(open_[1], ends)
                continue
            if open_:
                yield open_
            open_ = begins, ends
        if open_:
            yield open_


@lru_cache(maxsize=64)  # successive calls look at the same days
def _moment(zone: tzinfo, day: date, minute: int) -> float:
    """Return the moment of a local time: the next valid one if skipped, the first if ambiguous."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    while not (found := moments_of(wall, zone)):
        wall += timedelta(minutes=1)
    return min(found).timestamp()


def opening(spec: WindowGuard) -> Opening:
    """Parse a window. Raises `Faulty`."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    faults = list[tuple[str, str]]()
    hours = _HOURS.fullmatch(spec.allow)
    begins, ends = _minutes(hours.groups()) if hours else (-1, -1)
    if not (0 <= begins < 1440 and ends + (ends < begins) * 1440 > 0 and ends <= 1440):
        faults.append(
            ("allow", f"`{spec.allow}` is not a window of the day; write it like 22:00-06:00")
        )
    elif begins == ends:
        faults.append(("allow", f"`{spec.allow}` has no length; 00:00-24:00 is the whole day"))
    weekdays = set[int]()
    for part in spec.days.replace(" ", "").lower().split(","):
        if (found := _weekdays(part)) is None:
            hint = "write them like mon-fri, or mon,wed,sat"
            faults.append(("days", f"`{part}` is not a day of the week; {hint}"))
        weekdays |= found or set()
    zone: tzinfo = UTC
    try:
        zone = ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"`{spec.timezone}` is not a time zone; write it like Europe/Berlin"
        faults.append(("timezone", message))
    if faults:
        raise Faulty(faults)
    return Opening(begins, ends, frozenset(weekdays), zone)


def _minutes(parts: Sequence[str]) -> tuple[int, int]:
    numbers = list(map(int, parts))
    if numbers[1] > 59 or numbers[3] > 59:
        return -1, -1
    return numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]


def _weekdays(part: str) -> set[int] | None:
    """Parse a day or a range of days; None if it is neither."""
    first, dash, last = part.partition("-")
    if first not in _DAYS or (dash and last not in _DAYS):
        return None
    begin = _DAYS.index(first)
    length = (_DAYS.index(last) - begin) % 7 if dash else 0
    return {(begin + offset) % 7 for offset in range(length + 1)}


def finished(openings: Sequence[Opening], start: float, work: float, pause: float = 0.0) -> float:
    """Return when `work` seconds are done, if work goes on only while all windows are open, or
    infinity if never. The work consists of pauses of `pause` seconds, each after something that
    needs the windows open: a pause itself goes on while they are closed."""
    now, left = start, work
    while openings:
        if now - start > LONGEST:
            return float("inf")
        states = [one.state(now) for one in openings]
        closed = [until for is_open, until in states if not is_open]
        if closed:
            now = max(closed)
            continue
        there = min(until for _, until in states) - now
        spent = ceil(there / pause) * pause if pause else there
        if left <= spent:
            break
        left, now = left - spent, now + spent
    return now + left


def shown(at: float) -> str:
    """Format a moment for people."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
