"""What a resumed run finds open: requests without an answer, events without an outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from runner.errors import Incomplete
from runner.execution.context import Decision
from runner.execution.pacing import Step
from runner.execution.ports import (
    Chunk,
    Clock,
    Ended,
    JobsApi,
    Journal,
    RequestTooLarge,
    Unanswered,
    Unsettled,
)
from runner.execution.seeds import internal_ids
from runner.execution.send import Sender, Sent, Wire, join, pick, what_of
from runner.model import ExecutionPlan, SentEvent, Stage, StageFigures
from runner.planning.event_blocks import line_of, start_of
from runner.spec.units import counted, format_duration

# The server recognises an event's id for 24 h (protocol page, section 2); one hour is a margin for
# differing clocks and for the request itself.
_KNOWN_AGAIN = 23 * 3600.0
_AT_ONCE = 2_000  # events that are settled in one transaction


async def recover(
    plan: ExecutionPlan, sender: Sender, jobs: JobsApi | None, decision: Decision
) -> AsyncIterator[Sent]:
    """Repeat the requests whose answer was lost: same bytes, same ids, same seed.

    If the server would no longer recognise them, look for their jobs first; if there are none,
    `decision` applies. Raises `Incomplete` without one.
    """
    for lost in sender.journal.unanswered():
        chunk = _rebuild(plan, sender.journal, lost)
        label = f"batch {chunk.batch} of {chunk.operation}"
        age = sender.clock.time() - lost.sent_at
        if age < _KNOWN_AGAIN or lost.started_again:
            why = (
                "its jobs ended with their process" if lost.started_again else "its answer was lost"
            )
            sender.observer.note(f"{label}: {why}; sent again")
            yield await _send_again(sender, chunk, jobs)
            continue
        ids = internal_ids(chunk.seed, range(len(chunk.positions)))
        if await _has_jobs(jobs, ids):
            sender.observer.note(f"{label}: its answer was lost, but its jobs exist")
            yield sender.take_as_sent(chunk, ids)
        elif decision == "send":
            yield await _send_again(sender, chunk, jobs)
        elif decision == "taken":
            yield sender.take_as_sent(chunk, ids)
        else:
            raise _undecided(label, chunk, age)


def figures_so_far(plan: ExecutionPlan, journal: Journal) -> Mapping[int, StageFigures]:
    """Return the figures of each stage, with its latest end if all of it was sent.

    Otherwise a later end is to come, and finding the latest so far takes a scan of all outcomes."""
    found = dict(journal.by_stage())
    for stage in plan.stages:
        if (known := found.get(stage.number)) and known.sent >= stage.total:
            found[stage.number] = known._replace(ended=journal.last_end(stage.number))
    return found


def watched(plan: ExecutionPlan, journal: Journal) -> Iterator[SentEvent]:
    """Yield the accepted events without an outcome."""
    for event, stage, item, cell in _open(plan, journal):
        operation, name = what_of(stage, cell)
        yield SentEvent(
            event.position,
            stage.number,
            operation,
            item,
            name,
            event.chunk,
            event.internal_id,
            event.sent_at,
            start_of(cell),
        )


def settle_sent(plan: ExecutionPlan, journal: Journal) -> Mapping[int, int]:
    """Complete events that are done when sent; return how many of each stage."""
    ended = (
        (stage.number, Ended(event.position, event.chunk, item))
        for event, stage, item, _ in _open(plan, journal)
        if stage.wait == "sent"
    )
    found = Counter[int]()
    while some := list(islice(ended, _AT_ONCE)):
        journal.complete([event for _, event in some])
        found.update(stage for stage, _ in some)
    return found


def _open(plan: ExecutionPlan, journal: Journal) -> Iterator[tuple[Unsettled, Stage, str, bytes]]:
    """Yield the accepted events without an outcome, each with its stage, item and payload."""
    unsettled = journal.unsettled()
    picked = pick(plan, (event.position for event in unsettled))
    for event, (stage, _, item, cell) in zip(unsettled, picked, strict=True):
        yield event, stage, item, cell


class Counted(NamedTuple):
    """Events that failed and ended before; they count against the plan's failure limit."""

    failed: int
    ended: int


def tally(plan: ExecutionPlan, journal: Journal, step: Step | None) -> Counted:
    """Count events against the limit: a step continues from the last one, a resume starts from
    0."""
    if step is None or not plan.max_failures:
        return Counted(0, 0)
    unanswered = sum(len(chunk.positions) for chunk in journal.unanswered())
    open_ = len(journal.unsettled()) + unanswered
    failed = sum(figures.lost for figures in journal.by_stage().values()) - step.failed
    return Counted(failed, journal.next_position() - open_ - step.ended)


def passed_over(journal: Journal, step: Step | None, *, past: bool) -> Mapping[int, int]:
    """Return how many failures of each stage do not stop the run: those that another attempt made
    good, and the earlier ones, which a resume with `past` ignores."""
    lost = {stage: figures.lost for stage, figures in journal.by_stage().items()}
    if step is None or not past:
        return lost if past else journal.made_good()
    left, found = step.failed, dict(journal.made_good())
    for stage in sorted(lost):
        found[stage] = max(found.get(stage, 0), min(left, lost[stage]))
        left -= min(left, lost[stage])
    return found


def passed_rounds(clock: Clock, step: Step | None, *, past: bool) -> float:
    """Return since when the rounds of a drain count: a resume with `past` ignores earlier ones."""
    if not past:
        return 0.0
    return clock.time() if step is None else step.submitted_at


def _rebuild(plan: ExecutionPlan, journal: Journal, lost: Unanswered) -> Chunk:
    picked = list(pick(plan, lost.positions))
    stage = picked[0][0]
    wire = Wire(journal.run_id, lost.base, stage)
    operation, event = what_of(stage, picked[0][3])
    return Chunk(
        number=lost.number,
        stage=stage.number,
        batch=lost.batch,
        operation=operation,
        event=event,
        seed=lost.seed,
        body=join([wire.encode(index, item, data) for _, index, item, data in picked]),
        positions=lost.positions,
        lines=[line_of(item, data) for _, _, item, data in picked],
        sent_at=lost.sent_at,
        base=lost.base,
    )


async def _send_again(sender: Sender, chunk: Chunk, jobs: JobsApi | None) -> Sent:
    try:
        return await sender.send_again(chunk)
    except RequestTooLarge as refusal:
        ids = internal_ids(chunk.seed, range(len(chunk.positions)))
        if await _has_jobs(jobs, ids):  # it was accepted before the server's limit changed
            return sender.take_as_sent(chunk, ids)
        return sender.cut_anew(chunk, refusal)


async def _has_jobs(jobs: JobsApi | None, ids: list[str]) -> bool:
    if jobs is not None:
        for id_ in ids:
            if await jobs.jobs(id_):
                return True
    return False


def _undecided(label: str, chunk: Chunk, age: float) -> Incomplete:
    message = (
        f"{label} ({counted(len(chunk.positions), 'event')} from {chunk.items[0]} on) was "
        f"sent {format_duration(round(age / 3600) * 3600)} ago and its answer was lost; "
        "the server would no longer recognise its events, and none of their jobs can be "
        "found"
    )
    hint = (
        "check your data, then use `backfill resume --unanswered send` to send it again "
        "(what it started would run twice), or `--unanswered taken` to count it as sent"
    )
    return Incomplete(message, hint=hint)
