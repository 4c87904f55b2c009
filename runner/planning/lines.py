"""Events as the lines of `plan --format jsonl`."""

from __future__ import annotations

from runner.model import Data, PlannedEvent, Stage


def line_of(stage: Stage, planned: PlannedEvent) -> Data:
    """An event with its place. `at_s`: of a scheduled one, in seconds from the run's start."""
    seconds = stage.at(planned.batch)
    return {
        "stage": planned.stage,
        "operation": planned.operation,
        "batch": planned.batch,
        "item": planned.item,
        **({} if seconds is None else {"at_s": seconds}),
        "event": {"name": planned.event.name, "data": planned.event.data},
    }
