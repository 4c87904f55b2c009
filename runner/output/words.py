"""The same words for the same things, in every form of output."""

from __future__ import annotations

from collections.abc import Iterable

from runner.model import ExecutionPlan, Skipped, Stage
from runner.spec.units import format_duration

MAX_NAMED = 5


def counted(number: int, noun: str) -> str:
    plural = f"{noun[:-2]}ches" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def runs_for(stage: Stage) -> str:
    return "the plan" if stage.for_each == "once" else counted(stage.total, stage.for_each)


def pacing(stage: Stage) -> str:
    if stage.batches == 1:
        return "1 batch"
    size, delay = stage.pacing.batch_size, format_duration(stage.pacing.delay)
    return f"{stage.batches:,} x {size:,}, {delay} apart"


def until(stage: Stage) -> str:
    if stage.wait == "sent":
        return "sent"
    return f"jobs completed, {format_duration(stage.timeout)}"


def totals_line(plan: ExecutionPlan) -> str:
    parts = [
        counted(plan.events, "event"),
        counted(plan.batches, "batch"),
        counted(len(plan.stages), "stage"),
    ]
    if plan.duration:
        return (
            f"{', '.join(parts)}; {format_duration(plan.duration)} of pacing, plus the jobs' time"
        )
    return f"{', '.join(parts)}; no pauses, only the jobs' time"


def grouped(skipped: Iterable[Skipped]) -> list[tuple[str, str, list[str]]]:
    """(operation, reason, items) in first-seen order; no items where all are skipped."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in skipped:
        items = groups.setdefault((entry.operation, entry.reason), [])
        if entry.item is not None:
            items.append(entry.item)
    return [(operation, reason, items) for (operation, reason), items in groups.items()]


def named(items: list[str]) -> str:
    """The first few, and how many more."""
    more = len(items) - MAX_NAMED
    text = ", ".join(items[:MAX_NAMED])
    return f"{text}, +{more:,} more" if more > 0 else text
