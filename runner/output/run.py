"""Runs and events: for people at a terminal, for machines, and for a pull request.

Times for machines are RFC 3339 in UTC.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple, TextIO

from runner.model import (
    IN_WORDS,
    OUTCOMES,
    OVER,
    EventRecord,
    FailureGroup,
    Note,
    Outcome,
    RunLine,
    RunRecord,
    RunView,
    StageRecord,
    Story,
    SyncRecord,
    TargetHold,
    Waited,
    Waiting,
    state_of,
)
from runner.output import words
from runner.output.coverage import figures_json
from runner.output.markdown import LINE, MAX_CHARACTERS, cell, code, fitting, with_more
from runner.output.state import holds_json, syncs_json
from runner.output.summary import checks_text
from runner.output.table import Cell, table
from runner.output.text import clipped, csv_lines, document, json_safe, redacted, styled, visible
from runner.planning.estimate import left
from runner.planning.limits import resume_command, what_is_left
from runner.spec.units import counted, format_duration

COLORS = {
    "completed": "green",
    "baseline": "green",
    "running": "cyan",
    "failed": "red",
    "dead": "red",
    "incomplete": "yellow",
    "sent": "yellow",
    "cancelled": "yellow",
    "paused": "yellow",
}
_MESSAGE, _LINE = 400, 200
_MOST_GROUPS = 10


def write_view(view: RunView, out: TextIO, *, color: bool) -> None:
    """Write the state of the run, its waits and failures, and how to continue."""
    record = view.record
    state = view.state
    shown = state.upper()
    if color:
        shown = styled(shown, COLORS[state], bold=True)
    took = format_duration(round(view.driven.seconds, 1))
    lines = [
        f"{shown}  {visible(record.plan)} → {visible(record.place)}, {_since(view)} ({took})",
        *([words.partial(visible(record.partial))] if record.partial else []),
        *(_stage(view, stage) for stage in view.stages),
    ]
    if record.reason:
        lines.append(f"why it ended: {visible(record.reason)}")
    if estimate := left(view):
        lines.append(f"time left: {estimate.words}")
    if view.outcomes:
        lines.append(f"did not take effect: {_lost(view)}")
    lines += checks_text(view.checks, color=color)
    lines += _failures(view)
    lines += _hints(view, state)
    out.write("\n".join(lines) + "\n")


def write_lines(lines: Sequence[RunLine], out: TextIO, *, color: bool, width: int | None) -> None:
    headings = ("run", "state", "started (UTC)", ">events", ">not completed", "plan", "target", "")
    rows = (
        (
            line.record.id,
            Cell(line.state, COLORS[line.state]),
            words.moment(line.record.started_at)[:16],
            f"{line.sent:,}/{line.record.planned:,}",
            f"{line.lost:,}",
            line.record.plan + (" (partial)" if line.record.partial else ""),
            line.record.place,
            _standing(line),
        )
        for line in lines
    )
    out.writelines(f"{line}\n" for line in table(headings, rows, width=width, color=color))


def _standing(line: RunLine) -> str:
    parts = filter(None, [words.standing(line), _chain(line)])
    return "; ".join(parts)


def _chain(line: RunLine) -> str:
    parent = [f"retries {line.record.parent}"] if line.record.parent else []
    return ", ".join([*parent, *(f"retried by {run}" for run in line.retries)])


def write_event_list(
    events: Iterable[EventRecord], out: TextIO, *, color: bool, width: int | None
) -> None:
    """Write each event with its job and message."""
    headings = ("outcome", "operation", "item", "job", "message")
    rows = (
        (
            Cell(event.outcome or "", COLORS.get(event.outcome or "")),
            event.operation,
            event.item,
            (event.jobs[-1].url or event.jobs[-1].id) if event.jobs else "",
            clipped(event.message or "", _LINE),
        )
        for event in events
    )
    out.writelines(f"{line}\n" for line in table(headings, rows, width=width, color=color))


class StoryWriter:
    """Writes the journal in order of time: batches, first failures, waits with their reasons, and
    who did what. Each call writes what is new."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._written = out, set[object]()

    def write(self, story: Story) -> None:
        for entry in _story(story):
            if entry.key not in self._written:
                self._written.add(entry.key)
                said = visible(words.noted(entry.note))
                self._out.write(f"{words.moment(entry.at)}  {said}\n")
        self._out.flush()


def story_json(story: Story) -> dict[str, object]:
    entries = [
        {"at": _time(entry.at), "message": entry.note.message, "who": entry.note.who}
        for entry in _story(story)
    ]
    return document("RunLog", run_id=story.view.record.id, entries=entries)


class _Entry(NamedTuple):
    note: Note
    key: object  # identifies the entry, even if its text grows later

    @property
    def at(self) -> float:
        return self.note.at


def _story(story: Story) -> list[_Entry]:
    view, record = story.view, story.view.record
    names = {stage.number: stage.operation for stage in view.stages}
    again = f", which retries {record.parent}" if record.parent else ""
    began = f"started: {record.plan} → {record.place}{again}"
    entries = [_Entry(Note(record.started_at, began, record.started_by), "started")]
    entries += [_Entry(note, note) for note in story.notes]
    for batch in story.batches:
        later = f"round {batch.round:,}, " if batch.round > 1 else ""
        what = f"{later}batch {batch.batch:,}: {counted(batch.events, 'event')} sent"
        key = ("batch", batch.stage, batch.round, batch.batch)
        entries.append(_Entry(Note(batch.sent_at, f"{names.get(batch.stage)}: {what}"), key))
    for lost in story.failures:
        said = next((word for name, word in IN_WORDS.items() if name == lost.outcome), "")
        message = f"{lost.operation}: {lost.item} {said}: {clipped(lost.message or '', _LINE)}"
        note = Note(lost.ended_at or record.started_at, message)
        entries.append(_Entry(note, lost.position))
    for stage in view.stages:
        drains = stage.rounds and not stage.done  # another round may follow
        if stage.last_sent is not None and stage.sent >= stage.total and not drains:
            message = f"{stage.operation}: all {stage.total:,} sent"
            entries.append(_Entry(Note(stage.last_sent, message), ("sent", stage.number)))
        if stage.ended is not None and stage.done:
            end = ", ".join(words.outcomes(stage.outcomes))
            note = Note(stage.ended, f"{stage.operation}: {end}")
            entries.append(_Entry(note, ("ended", stage.number)))
    if record.ended_at is not None:
        note = Note(record.ended_at, f"ended: {record.status}")
        entries.append(_Entry(note, ("ended", record.status)))
    breaks = sorted(entry.at for entry in entries)
    for waits in _in_turn(story.waits, breaks):
        first = waits[0]
        entries.append(_Entry(Note(first.began, _waited(waits, names)), (first.stage, first.began)))
    return sorted(entries, key=lambda entry: entry.at)


def _in_turn(waits: Sequence[Waited], breaks: Sequence[float]) -> Iterator[list[Waited]]:
    """Join waits for the same reason between which nothing else happened: under `max_in_flight`
    there is one for each request."""

    def joins(one: Waited) -> tuple[object, ...]:
        return one.stage, one.kind, one.reason, bisect_left(breaks, one.began)

    for _, group in groupby(sorted(waits, key=lambda one: one.began), joins):
        yield [*group]


def _lost(view: RunView) -> str:
    """Count the events that did not take effect, and those of them that were made good."""
    good = words.made_good(view)
    return ", ".join(words.lost(view.outcomes)) + (f"; {good}" if good else "")


def _failures(view: RunView) -> list[str]:
    """List failures; equal ones take one line."""
    lines, shown = [], view.failures[:_MOST_GROUPS]
    for group in shown:
        head = f"  {visible(group.operation)}: {visible(clipped(group.message, _MESSAGE))}"
        names = visible(words.named(group.items, group.events))
        lines += [head, f"    {counted(group.events, 'event')}: {names}"]
        lines += [f"    {visible(group.url)}"] if group.url else []
    if more := words.other_failures(view, shown):
        lines.append(f"  and {more}")
    return ["failures:", *lines] if lines else []


def _stage(view: RunView, stage: StageRecord) -> str:
    parts = [*words.in_round(stage.round), f"{stage.sent:,}/{stage.total:,} sent"]
    if still_open := words.still_open(view, stage):
        parts.append(still_open)
    parts += words.outcomes(stage.outcomes)
    waiting = (
        f"; waiting: {visible(words.waiting(stage.waiting, view.now))}" if stage.waiting else ""
    )
    return f"  {stage.number}. {visible(stage.operation)}: {', '.join(parts)}{waiting}"


def _since(view: RunView) -> str:
    return f"started {words.moment(view.record.started_at)} UTC"


def _waited(waits: Sequence[Waited], names: dict[int, str]) -> str:
    last = waits[-1]
    span = ""
    if last.ended is not None:
        spent = sum((one.ended or one.began) - one.began for one in waits)
        times = f", {len(waits):,} times" if len(waits) > 1 else ""
        span = f" ({format_duration(round(spent, 1))}{times})"
    return f"{names.get(last.stage, last.stage)}: waiting {last.reason}{span}"


def _hints(view: RunView, state: str) -> list[str]:
    run_id = view.record.id
    lines = [f"run {run_id}, {visible(words.driven_by(view))}"]
    if view.record.parent:
        first = visible(view.record.parent)
        left = f": {words.of_first(first)}" if state == "failed" else ""
        lines.append(f"it retries run {first}{left}")
    if view.retries:
        lines.append(f"retried by {', '.join(view.retries)}")
    if unattended := words.unattended(view):
        lines.append(unattended)
    elif state == "dead":
        lines.append(words.nobody(view))
    elif state == "sent":
        lines.append(f"to follow its jobs: backfill resume {run_id}")
    elif state in ("incomplete", "paused"):
        lines.append(f"to go on: {resume_command(view)}")
    elif state in OVER:
        lines += ["".join((f"{what}: ", *rest)) for what, *rest in what_is_left(view)]
    return lines


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


def report_json(view: RunView) -> dict[str, object]:
    """Return a run as `report` prints it."""
    return document("RunReport", **_view(view))


def status_json(
    view: RunView | None,
    syncs: Sequence[SyncRecord],
    now: float,
    holds: Sequence[TargetHold] = (),
) -> dict[str, object]:
    """Return a run as `status` prints it, with the state's syncs and holds."""
    told = _view(view) if view else {}
    return document("RunStatus", **told, syncs=syncs_json(syncs, now), holds=holds_json(holds))


def _view(view: RunView) -> dict[str, Any]:
    estimate = left(view)
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
                "running": (stage.open if view.follows else 0) if stage.followed else None,
                "not_followed": 0 if view.follows else stage.open,
                **_outcomes(stage.outcomes),
                "began_at": _time(stage.began),
                "ended_at": _time(stage.ended),
                **_waiting(stage.waiting, view.now),
                "round": stage.round and stage.round.number,
                "backlog": stage.round and stage.round.left,
            }
            for stage in view.stages
        ],
        "outcomes": dict(view.outcomes),
        "made_good": len(view.made_good),
        "failures": [group._asdict() for group in view.failures],
        "checks": [asdict(check) for check in view.checks],
        "left": estimate and {"seconds": round(estimate.seconds, 1), "basis": estimate.basis},
        "silent_since": _time(view.silent),
        "retries": list(view.retries),
        **({"coverage": figures_json(view.coverage)} if view.coverage else {}),
    }


def runs_json(
    lines: Iterable[RunLine], holds: Sequence[TargetHold] = (), *, more: bool = False
) -> dict[str, object]:
    """List runs; `more`: a limit has left others out."""
    runs = [_line(line) for line in lines]
    return document("RunList", runs=runs, more=more, holds=holds_json(holds))


def _line(line: RunLine) -> dict[str, Any]:
    return _record(line.record, line.holder) | {
        "sent": line.sent,
        **_outcomes(line.outcomes),
        **_waiting(line.waiting, line.now),
        "silent_since": _time(line.silent),
        "retries": list(line.retries),
    }


def write_events(run_id: str, events: Iterable[EventRecord], out: TextIO, form: str) -> None:
    """Stream events; `form`: json (one document), jsonl, or csv."""
    rows = map(event_json, events)
    if form == "csv":
        out.writelines(events_csv(events))
    elif form == "jsonl":
        out.writelines(_text(row) + "\n" for row in rows)
    else:
        head = _text(document("EventList", run_id=run_id, events=[]))
        out.write(head.removesuffix("]}"))
        for index, row in enumerate(rows):
            out.write(",\n" if index else "\n")
            out.write(_text(row))
        out.write("\n]}\n")


def _text(row: dict[str, Any]) -> str:
    return json_safe(json.dumps(redacted(row), ensure_ascii=False))


def event_json(event: EventRecord) -> dict[str, Any]:
    return {
        "stage": event.stage,
        "operation": event.operation,
        "batch": event.batch,
        "item": event.item,
        "event": event.event,
        "outcome": event.outcome,
        "message": event.message,
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
    """Yield events as CSV lines that are safe to open in a spreadsheet."""
    yield from csv_lines([_FIELDS])
    yield from csv_lines(map(_cells, events))


def _cells(event: EventRecord) -> Iterator[object]:
    row = event_json(event) | {"jobs": " ".join(job.id for job in event.jobs)}
    return (row[name] for name in _FIELDS)


def _waiting(wait: Waiting | None, now: float) -> dict[str, Any]:
    """Describe a wait in words and for machines; null if there is none."""
    if wait is None:
        return {"waiting": None, "wait": None}
    times = {name: _time(getattr(wait, name)) for name in ("since", "again", "until")}
    told = {"kind": wait.kind, "item": wait.item, **times, "tries": wait.tries}
    return {"waiting": words.waiting(wait, now), "wait": told}


def _outcomes(found: Mapping[Outcome, int]) -> dict[str, int]:
    """Return every outcome with its count, as in a run's totals."""
    return {name: found.get(name, 0) for name in OUTCOMES}


def _record(record: RunRecord, holder: str | None) -> dict[str, Any]:
    return {
        "run_id": record.id,
        "plan": record.plan,
        "path": record.path,
        "target": record.target,
        "environment": record.environment or None,
        "state": state_of(record, holder),
        "status": record.status,
        "digest": record.digest,
        "planned": record.planned,
        "started_at": _time(record.started_at),
        "started_by": record.started_by,
        "ended_at": _time(record.ended_at),
        "driven_by": holder,
        "reason": record.reason,
        "parent": record.parent,
        "baseline": record.baseline,
        "partial": record.partial,
    }


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_RESERVE = 2_000  # kept free for the closing lines
_SIGNS = {"completed": "✅", "failed": "❌", "dead": "❌"}


def run_markdown(view: RunView, room: int = MAX_CHARACTERS) -> str:
    """Write at most `room` characters: failures are dropped first, and omissions are counted."""
    record, state = view.record, view.state
    head = (
        f"### {_SIGNS.get(state, '⚠️')} Backfill {code(record.plan)} → {code(record.place)}: "
        f"**{state}**"
    )
    blocks = [head, *_about(view)]
    room -= _RESERVE + sum(len(block) + 2 for block in blocks)
    for title, lines, total, share in (
        ("", _stages(view), len(view.stages) + 2, room // 4),
        ("**Checks**", _checks(view), len(view.checks), room // 4),
        ("**Failures**", map(_failure, view.failures), len(view.failures), room // 4),
        ("**Notes**", _notes(view), len(view.notes), room // 8),
    ):
        kept = fitting(lines, share)
        if kept:
            blocks += [title] if title else []
            blocks.append(with_more(kept, total, "- " if title else ""))
    if more := words.other_failures(view, view.failures):
        blocks.append(f"And {more}")
    if unattended := words.unattended(view):
        blocks.append(unattended[0].upper() + unattended[1:])
    elif state in OVER:
        blocks += [
            f"{what[0].upper()}{what[1:]}: `{command}`{more}"
            for what, command, more in what_is_left(view)
        ]
    elif state == "sent":
        blocks.append(f"To follow its jobs: `backfill resume {record.id}`")
    elif state == "dead":
        sentence = words.nobody(view)
        blocks.append(sentence[0].upper() + sentence[1:])
    elif state in ("incomplete", "paused"):
        blocks.append(f"To go on: `{resume_command(view)}`")
    blocks.append(f"<sub>{record.digest}</sub>")
    return "\n\n".join(blocks) + "\n"


def _about(view: RunView) -> Iterator[str]:
    record, took = view.record, format_duration(round(view.driven.seconds, 1))
    began = f"started {words.moment(record.started_at)} UTC by {cell(record.started_by)}"
    about = f"Run {code(record.id)}, {began}, {took}"
    estimate = left(view)
    yield f"{about}; time left: {estimate.words}" if estimate else about
    if record.partial:
        yield cell(words.partial(record.partial))
    if record.reason:
        yield f"Why it ended: {cell(clipped(record.reason, LINE))}"
    if view.made_good:
        yield f"Did not take effect: {_lost(view)}"


def _stages(view: RunView) -> Iterable[str]:
    yield "| # | operation | events | sent | completed | not completed |"
    yield "|--:|---|--:|--:|--:|---|"
    for stage in view.stages:
        known = view.record.follow or stage.completed
        completed = f"{stage.completed:,}" if known else "not followed"
        open_ = words.still_open(view, stage) if known else None
        lost = ", ".join([*([open_] if open_ else []), *words.lost(stage.outcomes)]) or "0"
        yield (
            f"| {stage.number} | {cell(stage.operation)} | {stage.total:,} | {stage.sent:,} "
            f"| {completed} | {lost} |"
        )


def _checks(view: RunView) -> Iterable[str]:
    for check in view.checks:
        mark = "holds" if check.ok else "**fails**"
        yield f"- {mark}: {cell(check.name)}: {cell(check.words)}; expected {cell(check.expected)}"


def _failure(group: FailureGroup) -> str:
    names = cell(words.named(group.items, group.events))
    message = cell(clipped(group.message, LINE))
    where = f" ([job](<{group.url}>))" if group.url and _is_plain(group.url) else ""
    return (
        f"- {counted(group.events, 'event')} of {cell(group.operation)}: {message}{where}"
        f"<br>{names}"
    )


def _notes(view: RunView) -> Iterable[str]:
    return (f"- {words.moment(note.at)} {cell(words.noted(note))}" for note in view.notes)


def _is_plain(url: str) -> bool:
    return url.startswith(("http://", "https://")) and not set(url) & set(" <>()[]\n")
