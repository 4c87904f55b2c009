"""A plan's `schedule`: what is written, what is wrong with it, and when it is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from runner.model import Json, Problem, Schedule
from runner.spec.checked import Checked
from runner.spec.document import Path, did_you_mean, echo


def schedule(written: Json) -> Schedule | None:
    """``0 3 * * *``, or ``{cron: 0 3 * * *, timezone: Europe/Berlin}``."""
    if isinstance(written, str):
        return Schedule(written)
    return Schedule(**written) if isinstance(written, dict) and "cron" in written else None


def check_schedule(checked: Checked) -> Iterator[Problem]:
    found = schedule(checked.value.get("schedule"))
    if found is None:
        return
    from cronsim import CronSim, CronSimError  # here: few plans have a schedule

    short = isinstance(checked.value["schedule"], str)
    here: Path = ("schedule",) if short else ("schedule", "cron")
    hint = "minute hour day month weekday, as in: 0 3 * * mon-fri"
    try:
        next(CronSim(found.cron, datetime(2026, 1, 1)))  # noqa: DTZ001 - any day
    except CronSimError as error:
        yield checked.error(f"{echo(found.cron)} is no time: {str(error).lower()}", here, hint=hint)
    except StopIteration:
        yield checked.error(f"{echo(found.cron)} is never due", here, hint=hint)
    if not _is_zone(found.timezone):
        from zoneinfo import available_timezones

        near = did_you_mean(found.timezone, available_timezones())
        message = f"there is no time zone {echo(found.timezone)}"
        yield checked.error(message, ("schedule", "timezone"), hint=near or "Europe/Berlin")
    if checked.value.get("approval", {}).get("required"):
        message = "`approval` asks somebody before each run, and a schedule starts runs by itself"
        yield checked.error(message, ("approval",), key=True, hint="leave one of them out")


def due_after(schedule: Schedule, moment: datetime) -> datetime:
    """When it is due next, in its own zone; `moment` has a zone."""
    from zoneinfo import ZoneInfo

    from cronsim import CronSim

    return next(CronSim(schedule.cron, moment.astimezone(ZoneInfo(schedule.timezone))))


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
