"""A plan's `schedule`: read it, check it, and find out when it is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from hashlib import sha256
from itertools import pairwise

from runner.model import BackfillPlan, Json, Problem, Schedule, frozen
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.plan_document import PlanDocument
from runner.spec.units import moments_of

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)  # a fixed start, so that problems are reproducible
_HOURS = 24
_TOLD = {0: "not due", 2: "due twice"}
_EARLY, _LATE = timedelta(seconds=5), timedelta(minutes=10)  # tolerance for a firing's time
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_YEARS = 5  # how far the engine looks ahead


@frozen
class Scheduled:
    """A plan, and when it is due next."""

    plan: BackfillPlan
    schedule: Schedule
    due: datetime


def schedule(written: Json) -> Schedule | None:
    """Read ``0 3 * * *``, or ``{cron: 0 3 * * *, timezone: Europe/Berlin}``."""
    if isinstance(written, str):
        return Schedule(written)
    return Schedule(**written) if isinstance(written, dict) and "cron" in written else None


def check_schedule(checked: PlanDocument) -> Iterator[Problem]:
    found = schedule(checked.value.get("schedule"))
    if found is None:
        return
    short = isinstance(checked.value["schedule"], str)
    here: Path = ("schedule",) if short else ("schedule", "cron")
    hint = "minute hour day month weekday, as in: 0 3 * * mon-fri"
    zone = _zone(found.timezone)
    try:
        due = next(firings(parse(found.cron), zone or UTC, _ANY_TIME), None)
    except BadCron as error:
        yield checked.error(f"{echo(found.cron)} is not a schedule: {error}", here, hint=hint)
        due = None
    else:
        if due is None:
            yield checked.error(f"{echo(found.cron)} is never due", here, hint=hint)
    if zone is None:
        from zoneinfo import available_timezones

        near = did_you_mean(found.timezone, available_timezones())
        message = f"there is no time zone {echo(found.timezone)}"
        yield checked.error(message, ("schedule", "timezone"), hint=near or "Europe/Berlin")
    elif due is not None and (changed := _changed(found, zone)):
        hint = (
            "choose an hour in which no clock changes, or UTC; a time that comes twice "
            "starts one run"
        )
        yield checked.warning(changed, here, hint=hint, rule="clock-change")
    if checked.value.get("approval", {}).get("required"):
        message = "`approval` needs a person before each run, but a schedule starts runs by itself"
        yield checked.error(message, ("approval",), key=True, hint="leave one of them out")


def _changed(schedule: Schedule, zone: tzinfo) -> str | None:
    """Describe what clock changes do to the schedule; None for one that is due every hour."""
    cron = parse(schedule.cron)
    if len(cron.hours) == _HOURS:
        return None
    days = dict[int, date]()
    for day, count in changes(cron, zone, _ANY_TIME.year):
        days.setdefault(count, day)
    told = [f"{_TOLD[count]} on {day}" for count, day in sorted(days.items())]
    if not told:
        return None
    return (
        f"{echo(schedule.cron)} in {schedule.timezone} is {', and '.join(told)}: the clock changes"
    )


def due_after(schedule: Schedule, moment: datetime) -> datetime:
    """Return when it is due next, in its own time zone; `moment` must have a zone."""
    return next(firings(parse(schedule.cron), _zone(schedule.timezone) or UTC, moment))


def firing_id(schedule: Schedule, plan: str, place: str, fired_at: float) -> str | None:
    """Return the id of the run that a firing at this time starts, derived from the local time at
    which it was due, so that a repeated hour gives the same id; `place`: where its events go. None
    if nothing was due then: the firing belongs to another schedule."""
    from ulid import ULID

    zone = _zone(schedule.timezone) or UTC
    fired = datetime.fromtimestamp(fired_at, UTC)
    soon = fired + _EARLY
    found = None
    for due in firings(parse(schedule.cron), zone, fired - _LATE):
        if due > soon:
            break
        found = due
    if found is None:
        return None
    first = found.replace(fold=0)
    named = f"{plan} {place} {schedule.timezone} {first:%Y-%m-%d %H:%M}"
    at = int(first.timestamp() * 1000).to_bytes(6, "big")
    return str(ULID.from_bytes(at + sha256(named.encode()).digest()[:10]))


def _zone(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


class BadCron(ValueError):
    pass


@frozen
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool  # day or weekday suffices, as both are restricted

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
    """Parse a cron expression. Raises `BadCron` with a message such as "bad minute"."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BadCron("it does not have five fields")
    found = [_field(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = (values for values, _ in found)
    return Cron(minutes, hours, days, months, weekdays, not (found[2][1] or found[4][1]))


def _field(
    field: str, what: str, least: int, most: int, names: dict[str, int]
) -> tuple[frozenset[int], bool]:
    """Return the field's values, and whether it is unrestricted by the engine's rules."""
    values: set[int] = set()
    free = False
    for part in field.split(","):
        span, slash, given = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            step = _number(given, {}) if slash else 1
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
    if named is None and not (text.isascii() and text.isdigit()):
        raise ValueError(text)  # Python reads more as numbers than the engine does
    return int(text) if named is None else named


def firings(cron: Cron, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Yield the times after `after`, in the zone; the two of a repeated hour differ in `fold`."""
    first = after.astimezone(zone).date() - timedelta(days=1)
    for offset in range(_YEARS * 366):
        day = first + timedelta(days=offset)
        if cron.fits(day):
            walls = (datetime.combine(day, at) for at in cron.times())
            for moment in sorted({moment for wall in walls for moment in moments_of(wall, zone)}):
                if moment > after:
                    yield moment.astimezone(zone)


def changes(cron: Cron, zone: tzinfo, year: int) -> Iterator[tuple[date, int]]:
    """Yield the days of that year and the next four on which one of its times is skipped (0) or
    occurs twice (2)."""
    days = (date(year, 1, 1) + timedelta(days=number) for number in range(_YEARS * 365))
    for day, following in pairwise(days):
        if not cron.fits(day) or _offset(day, zone) == _offset(following, zone):
            continue
        counts = {len(moments_of(datetime.combine(day, at), zone)) for at in cron.times()} - {1}
        if counts:
            yield day, max(counts)


def _offset(day: date, zone: tzinfo) -> timedelta | None:
    return datetime.combine(day, time(), zone).utcoffset()
