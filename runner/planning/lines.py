"""The data of a plan that documents, tests and rules share: events, stages, totals."""

from __future__ import annotations

from runner.model import Data, Event, ExecutionPlan, PlannedEvent, Stage


def shown_event(event: Event) -> Data:
    """Format an event as it is sent; an id only if it is the event's own."""
    shown: Data = {"name": event.name, "data": event.data}
    shown |= {} if event.id is None else {"id": event.id}
    return shown | ({} if event.ts is None else {"ts": event.ts})


def line_of(stage: Stage, planned: PlannedEvent) -> Data:
    """Format an event with its place. `at_s`: its time in seconds from the run's start, if
    scheduled."""
    seconds = stage.at(planned.batch)
    return {
        "stage": planned.stage,
        "operation": planned.operation,
        "batch": planned.batch,
        "item": planned.item,
        **({} if seconds is None else {"at_s": seconds}),
        "event": shown_event(planned.event),
    }


def totals_of(plan: ExecutionPlan) -> Data:
    """Return counts, and the expected duration in seconds by the pacing alone."""
    return {
        "events": plan.events,
        "batches": plan.batches,
        "stages": len(plan.stages),
        "duration_s": plan.duration,
    }


def figures_of(stage: Stage) -> Data:
    """Return the figures of a stage; `max_in_flight` only if it has a cap. Times are in seconds."""
    return {
        "number": stage.number,
        "operation": stage.operation,
        "event": stage.event,
        "for_each": stage.for_each,
        "wait": stage.wait,
        "timeout_s": stage.timeout,
        "queue_timeout_s": stage.queue_timeout,
        "batch_size": stage.pacing.batch_size,
        "delay_s": stage.pacing.delay,
        **({"max_in_flight": stage.cap.events} if stage.cap else {}),
        "events": stage.total,
        "batches": stage.batches,
        "duration_s": stage.duration,
    }
