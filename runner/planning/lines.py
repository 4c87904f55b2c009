"""Events as the lines of `plan --format jsonl`."""

from __future__ import annotations

from runner.model import Data, Event, PlannedEvent, Stage


def shown_event(event: Event) -> Data:
    """As it is sent; an id is there where it is one of its own."""
    shown: Data = {"name": event.name, "data": event.data}
    shown |= {} if event.id is None else {"id": event.id}
    return shown | ({} if event.ts is None else {"ts": event.ts})


def line_of(stage: Stage, planned: PlannedEvent) -> Data:
    """An event with its place. `at_s`: of a scheduled one, in seconds from the run's start."""
    seconds = stage.at(planned.batch)
    return {
        "stage": planned.stage,
        "operation": planned.operation,
        "batch": planned.batch,
        "item": planned.item,
        **({} if seconds is None else {"at_s": seconds}),
        "event": shown_event(planned.event),
    }
