"""A run, many runs, and events, for machines. Times are RFC 3339 in UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from runner.model import OUTCOMES, EventRecord, Outcome, RunLine, RunRecord, RunView, Waiting
from runner.output import words
from runner.output.coverage import coverage_json
from runner.output.escape import csv_lines
from runner.planning.estimate import left
from runner.spec.secrets import redact

_FIELDS = (
    "stage",
    "operation",
    "batch",
    "item",
    "event",
    "outcome",
    "message",
    "event_id",
    "internal_id",
    "sent_at",
    "ended_at",
    "jobs",
)


def view_json(view: RunView) -> dict[str, Any]:
    estimate = left(view)
    ended = view.record.status != "running" or view.holder is None
    return {
        **_record(view.record, view.holder),
        "duration_s": round(view.driven.seconds, 3),
        "stages": [
            {
                "stage": stage.number,
                "operation": stage.operation,
                "events": stage.total,
                "sent": stage.sent,
                "batches": stage.batches,
                "running": (0 if ended else stage.running) if stage.followed else None,
                "not_followed": stage.running if ended else 0,
                **_outcomes(stage.outcomes),
                "began_at": _time(stage.began),
                "ended_at": _time(stage.ended),
                "waiting": stage.waiting and words.waiting(stage.waiting, view.now),
                "wait": stage.waiting and _wait(stage.waiting),
                "round": stage.round and stage.round.number,
                "backlog": stage.round and stage.round.left,
            }
            for stage in view.stages
        ],
        "outcomes": dict(view.outcomes),
        "made_good": len(view.made_good),
        "failures": [
            group._asdict() | {"message": redact(group.message)} for group in view.failures
        ],
        "checks": [
            asdict(check) | {"message": check.message and redact(check.message)}
            for check in view.checks
        ],
        "left": estimate and {"seconds": round(estimate.seconds, 1), "basis": estimate.basis},
        "silent_since": _time(view.silent),
        "retries": list(view.retries),
        **({"coverage": coverage_json(view.coverage)} if view.coverage else {}),
    }


def line_json(line: RunLine) -> dict[str, Any]:
    return _record(line.record, line.holder) | {"sent": line.sent, **_outcomes(line.outcomes)}


def write_events(events: Iterable[EventRecord], out: TextIO, form: str) -> None:
    """`form`: json (an array), jsonl, or csv; streamed."""
    rows = map(event_json, events)
    if form == "csv":
        out.writelines(events_csv(events))
    elif form == "jsonl":
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        out.write("[")
        for index, row in enumerate(rows):
            out.write(",\n" if index else "\n")
            out.write(json.dumps(row, ensure_ascii=False))
        out.write("\n]\n")


def event_json(event: EventRecord) -> dict[str, Any]:
    return {
        "stage": event.stage,
        "operation": event.operation,
        "batch": event.batch,
        "item": event.item,
        "event": event.event,
        "outcome": event.outcome,
        "message": event.message and redact(event.message),
        "event_id": event.event_id,
        "internal_id": event.internal_id,
        "sent_at": _time(event.sent_at),
        "ended_at": _time(event.ended_at),
        "jobs": [
            {"id": job.id, "function": job.function, "status": job.status, "url": job.url}
            for job in event.jobs
        ],
    }


def events_csv(events: Iterable[EventRecord]) -> Iterator[str]:
    """Line by line, in a form that a spreadsheet may open."""
    yield from csv_lines([_FIELDS])
    yield from csv_lines(map(_cells, events))


def _cells(event: EventRecord) -> Iterator[object]:
    row = event_json(event) | {"jobs": " ".join(job.id for job in event.jobs)}
    return (row[name] for name in _FIELDS)


def _wait(wait: Waiting) -> dict[str, Any]:
    times = {name: _time(getattr(wait, name)) for name in ("since", "again", "until")}
    return {"kind": wait.kind, "item": wait.item, **times}


def _outcomes(found: Mapping[Outcome, int]) -> dict[str, int]:
    """Every outcome, as in a run's totals."""
    return {name: found.get(name, 0) for name in OUTCOMES}


def _record(record: RunRecord, holder: str | None) -> dict[str, Any]:
    return {
        "run_id": record.id,
        "plan": record.plan,
        "path": record.path,
        "target": record.target,
        "state": words.state(record, holder),
        "status": record.status,
        "digest": record.digest,
        "planned": record.planned,
        "started_at": _time(record.started_at),
        "ended_at": _time(record.ended_at),
        "carried_out_by": holder,
        "reason": record.reason and redact(record.reason),
        "parent": record.parent,
    }


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
