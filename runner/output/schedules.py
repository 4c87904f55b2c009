"""Scheduled plans, the next one first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from runner.output.table import table
from runner.output.text import document
from runner.spec.recurring import Scheduled


def schedules_json(found: Sequence[Scheduled]) -> dict[str, object]:
    schedules = [
        {
            "name": one.plan.name,
            "path": one.plan.path,
            "cron": one.schedule.cron,
            "timezone": one.schedule.timezone,
            "next": one.due.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
        for one in _in_time(found)
    ]
    return document("ScheduleList", schedules=schedules)


def schedules_text(found: Sequence[Scheduled], *, width: int | None) -> str:
    if not found:
        return "no plan here has a schedule\n"
    rows = (
        (
            f"{one.due:%Y-%m-%d %H:%M} {one.schedule.timezone}",
            one.schedule.cron,
            one.plan.name,
            one.plan.path,
        )
        for one in _in_time(found)
    )
    headings = ("due", "schedule", "plan", "file")
    return "".join(f"{line}\n" for line in table(headings, rows, width=width, color=False))


def _in_time(found: Sequence[Scheduled]) -> list[Scheduled]:
    return sorted(found, key=lambda one: (one.due, one.plan.name, one.plan.path))
