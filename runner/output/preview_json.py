"""The execution plan for machines, streamed: a million events are never held at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

import orjson

from runner.model import Event, ExecutionPlan, PlannedEvent, Stage
from runner.output import words

_BLOCK = 1000  # lines written at once


def write_json(plan: ExecutionPlan, out: TextIO, *, target: str) -> None:
    """The whole plan, as `schemas/execution-plan.v1.schema.json` has it."""
    head = {
        "apiVersion": "backfill/v1",
        "kind": "ExecutionPlan",
        "name": plan.name,
        "digest": plan.digest,
        "target": target,
        "on_failure": plan.on_failure,
        **_control(plan),
    }
    out.write(_text(head)[:-1])
    out.write(',"stages":[')
    for index, stage in enumerate(plan.stages):
        out.write("," if index else "")
        out.write(_text(_stage(stage))[:-1])
        out.write(',"items":[')
        _write_joined(out, (_item(stage, event) for event in stage.planned()))
        out.write("]}")
    out.write('],"skipped":[')
    skipped = ({"operation": s.operation, "item": s.item, "reason": s.reason} for s in plan.skipped)
    _write_joined(out, skipped)
    tail = {
        "warnings": [
            {
                "message": warning.message,
                "path": warning.path,
                "line": warning.line,
                "column": warning.column,
                "hint": warning.hint,
                "rule": warning.rule,
            }
            for warning in plan.warnings
        ],
        "totals": totals(plan),
    }
    out.write("]," + _text(tail)[1:] + "\n")


def write_jsonl(plan: ExecutionPlan, out: TextIO) -> None:
    """One line an event, in sending order."""
    lines = (
        orjson.dumps(_line(stage, event)) for stage in plan.stages for event in stage.planned()
    )
    while block := list(islice(lines, _BLOCK)):
        out.write(b"\n".join(block).decode() + "\n")


def _control(plan: ExecutionPlan) -> dict[str, object]:
    """Only what the plan says: most have none of it."""
    found: dict[str, object] = {}
    if limit := plan.max_failures:
        found["max_failures"] = limit.count or f"{(limit.ratio or 0) * 100:g}%"
    if plan.guards:
        found["guards"] = [words.guard(spec) for spec in plan.guards]
    if plan.facts:
        found["facts"] = [fact._asdict() for fact in plan.facts]
    if plan.answered_at:
        found["facts_recorded_at"] = plan.answered_at
    if plan.checks:
        found["checks"] = [
            {
                "name": check.name,
                "at": check.moment,
                "operation": check.operation,
                "query": check.question.query.text,
                "expect": check.expect.words,
                "timeout_s": check.timeout,
            }
            for check in plan.checks
        ]
    return found


def totals(plan: ExecutionPlan) -> dict[str, object]:
    """Counts, and the expected duration in seconds, from the pacing alone."""
    return {
        "events": plan.events,
        "batches": plan.batches,
        "stages": len(plan.stages),
        "duration_s": plan.duration,
        **({"needs": plan.needs._asdict()} if any(plan.needs) else {}),
    }


def _stage(stage: Stage) -> dict[str, object]:
    return {
        "number": stage.number,
        "operation": stage.operation,
        "event": stage.event,
        "for_each": stage.for_each,
        "wait": stage.wait,
        "timeout_s": stage.timeout,
        "batch_size": stage.pacing.batch_size,
        "delay_s": stage.pacing.delay,
        "events": stage.total,
        "batches": stage.batches,
        "duration_s": stage.duration,
        **({"canary": stage.canary} if stage.canary else {}),
        **({"deferred": True} if stage.deferred else {}),
        **({"until": stage.until.expect.words} if stage.until else {}),
    }


def _at(stage: Stage, planned: PlannedEvent) -> dict[str, object]:
    """When a scheduled event is to start, in seconds from the start of the run."""
    at = stage.at(planned.batch)
    return {} if at is None else {"at_s": at}


def _item(stage: Stage, planned: PlannedEvent) -> dict[str, object]:
    event = _event(planned.event)
    return {"batch": planned.batch, "item": planned.item, **_at(stage, planned), "event": event}


def _line(stage: Stage, planned: PlannedEvent) -> dict[str, object]:
    return {
        "stage": planned.stage,
        "operation": planned.operation,
        "batch": planned.batch,
        "item": planned.item,
        **_at(stage, planned),
        "event": _event(planned.event),
    }


def _event(event: Event) -> dict[str, object]:
    return {"name": event.name, "data": event.data}


def _write_joined(out: TextIO, values: Iterable[Any]) -> None:
    texts: Iterator[str] = (_text(value) for value in values)
    first = True
    while block := list(islice(texts, _BLOCK)):
        out.write(("" if first else ",") + ",".join(block))
        first = False


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
