"""A plan's `schedule`: what is written, what is wrong with it, and when it is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from hashlib import sha256

from runner.model import BackfillPlan, Json, Problem, Schedule, frozen
from runner.spec.cron import BadCron, changes, firings, parse
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.plan_document import PlanDocument

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)  # the same problems on every day
_HOURS = 24
_TOLD = {0: "not due", 2: "due twice"}
_EARLY, _LATE = timedelta(seconds=5), timedelta(minutes=10)  # that a firing may be


@frozen
class Scheduled:
    """A plan, and when it is due next."""

    plan: BackfillPlan
    schedule: Schedule
    due: datetime


def schedule(written: Json) -> Schedule | None:
    """``0 3 * * *``, or ``{cron: 0 3 * * *, timezone: Europe/Berlin}``."""
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
        yield checked.error(f"{echo(found.cron)} is no time: {error}", here, hint=hint)
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
            "take an hour in which no clock changes, or UTC; the second time starts no second run"
        )
        yield checked.warning(changed, here, hint=hint, rule="clock-change")
    if checked.value.get("approval", {}).get("required"):
        message = "`approval` asks somebody before each run, and a schedule starts runs by itself"
        yield checked.error(message, ("approval",), key=True, hint="leave one of them out")


def _changed(schedule: Schedule, zone: tzinfo) -> str | None:
    """What a change of the clock does to its times. What is due every hour is due again soon."""
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
    """When it is due next, in its own zone; `moment` has a zone."""
    return next(firings(parse(schedule.cron), _zone(schedule.timezone) or UTC, moment))


def firing_id(schedule: Schedule, plan: str, target: str, fired_at: float) -> str | None:
    """The run that a firing at this time starts, by the local time at which it was due: a repeated
    hour has the same one again. None where nothing was due then, so that it is another's firing."""
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
    named = f"{plan} {target} {schedule.timezone} {first:%Y-%m-%d %H:%M}"
    at = int(first.timestamp() * 1000).to_bytes(6, "big")
    return str(ULID.from_bytes(at + sha256(named.encode()).digest()[:10]))


def _zone(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
