"""When a cron expression is due, by the rules of the engine that fires it: robfig/cron, version 3.

Of day and weekday both must fit where one of them is ``*`` (or ``*/1``), and else either will do:
a day of ``*/2`` is a restriction like another. A time is one of the wall clock of the zone: what a
change of the clock leaves out is not due that day, what it repeats is due twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise

from runner.model import frozen

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_YEARS = 5  # after which the engine looks no further


class BadCron(ValueError):
    pass


@frozen
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool  # day or weekday, where both are restricted

    def fits(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either else of_month and of_week

    def times(self) -> Iterator[time]:
        return (
            time(hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes)
        )


def parse(text: str) -> Cron:
    """Raises `BadCron`, whose words are: bad minute."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BadCron("it has not five fields")
    found = [_field(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = (values for values, _ in found)
    return Cron(minutes, hours, days, months, weekdays, not (found[2][1] or found[4][1]))


def _field(
    field: str, what: str, least: int, most: int, names: dict[str, int]
) -> tuple[frozenset[int], bool]:
    """Its values, and whether it is no restriction, as the engine sees that."""
    values: set[int] = set()
    free = False
    for part in field.split(","):
        span, slash, given = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            step = int(given) if slash else 1
            start = least if span == "*" else _number(low, names)
            end = _number(high, names) if dash else most if slash or span == "*" else start
        except ValueError:
            raise BadCron(f"bad {what}") from None
        if step < 1 or not least <= start <= end <= most:
            raise BadCron(f"bad {what}")
        values.update(range(start, end + 1, step))
        free |= span == "*" and step == 1
    return frozenset(values), free


def _number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    return int(text) if named is None else named


def firings(cron: Cron, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Later than `after`, in the zone, in order; the two of a repeated time differ in `fold`."""
    first = after.astimezone(zone).date() - timedelta(days=1)
    for offset in range(_YEARS * 366):
        day = first + timedelta(days=offset)
        if cron.fits(day):
            found = {moment for at in cron.times() for moment in _moments(day, at, zone)}
            for moment in sorted(found):
                if moment > after:
                    yield moment.astimezone(zone)


def changes(cron: Cron, zone: tzinfo, year: int) -> Iterator[tuple[date, int]]:
    """Days of that year and the four after it on which one of its times is not due (0), or is due
    twice (2)."""
    days = (date(year, 1, 1) + timedelta(days=number) for number in range(_YEARS * 365))
    for day, following in pairwise(days):
        if not cron.fits(day) or _offset(day, zone) == _offset(following, zone):
            continue
        counts = {len(_moments(day, at, zone)) for at in cron.times()} - {1}
        if counts:
            yield day, max(counts)


def _offset(day: date, zone: tzinfo) -> timedelta | None:
    return datetime.combine(day, time(), zone).utcoffset()


def _moments(day: date, at: time, zone: tzinfo) -> set[datetime]:
    """Of a time of the wall clock, in UTC: none, one or two."""
    wall = datetime.combine(day, at)
    both = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {one for one in both if one.astimezone(zone).replace(tzinfo=None, fold=0) == wall}
