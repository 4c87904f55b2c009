"""Many runs at a glance, and all events of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from runner.adapters.journal import leases
from runner.adapters.journal.figures import chunk_of_outcome
from runner.adapters.journal.recovery import known_ids
from runner.adapters.journal.tables import FAILED, FAILED_ORDER, chunks, jobs, outcomes
from runner.execution.seeds import event_id
from runner.model import ENDED, EventRecord, ExecutionPlan, Job, RunLine, RunRecord, Stage


def lines(connection: Connection, records: Sequence[RunRecord]) -> list[RunLine]:
    """Each run with how far it has come."""
    query = (
        select(
            chunks.c.run_id,
            func.sum(chunks.c.last - chunks.c.first + 1),
            func.sum(chunks.c.completed),
            func.sum(chunks.c.failed),
        )
        .where(chunks.c.run_id.in_([record.id for record in records]))
        .group_by(chunks.c.run_id)
    )
    figures = {run_id: tuple(map(int, rest)) for run_id, *rest in connection.execute(query)}
    return [
        RunLine(
            record,
            leases.holder_of(connection, record.id) if record.status == "running" else None,
            *figures.get(record.id, (0, 0, 0)),
        )
        for record in records
    ]


def events(
    connection: Connection,
    record: RunRecord,
    plan: ExecutionPlan,
    *,
    stages: Collection[int],
    outcome: Collection[str],
) -> Iterator[EventRecord]:
    """Every event of the plan's `stages` (empty: of all), in sending order, read in pieces.

    `outcome` leaves out all others (empty: none); an event that was sent and has no outcome is
    ``running``, one that was not sent is ``unsent``.
    """
    first = 0
    for stage in plan.stages:
        if not stages or stage.number in stages:
            for event in _of_stage(connection, record, stage, first):
                if not outcome or event.outcome in outcome:
                    yield event
        first += stage.total


def failed(connection: Connection, run_id: str, limit: int) -> list[EventRecord]:
    """The first events that did not take effect, from the outcomes alone."""
    query = (
        select(
            outcomes,
            chunks.c.stage,
            chunks.c.operation,
            chunks.c.batch,
            chunks.c.event,
            chunks.c.sent_at,
        )
        .join(chunks, chunk_of_outcome())
        .where(outcomes.c.run_id == run_id, FAILED)
        .order_by(FAILED_ORDER)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    at = [row.position for row in rows]
    found = _jobs(connection, run_id, jobs.c.position.in_(at)) if at else {}
    return [
        EventRecord(
            position=row.position,
            stage=row.stage,
            operation=row.operation,
            batch=row.batch,
            item=row.item,
            event=row.event,
            event_id=None,
            internal_id=None,
            sent_at=row.sent_at,
            ended_at=row.at,
            outcome=row.outcome,
            message=row.message,
            jobs=tuple(found.get(row.position, ())),
        )
        for row in rows
    ]


def _jobs(connection: Connection, run_id: str, which: ColumnElement[bool]) -> dict[int, list[Job]]:
    """By the position of the event."""
    found: dict[int, list[Job]] = {}
    query = select(jobs).where(jobs.c.run_id == run_id, which).order_by(jobs.c.job_id)
    for row in connection.execute(query):
        ended = row.status.lower() in ENDED
        job = Job(row.job_id, row.function, row.status, ended, row.message, row.url)
        found.setdefault(row.position, []).append(job)
    return found


def _of_stage(
    connection: Connection, record: RunRecord, stage: Stage, first: int
) -> Iterator[EventRecord]:
    sent = iter(
        connection.execute(
            select(chunks)
            .where(chunks.c.run_id == record.id, chunks.c.stage == stage.number)
            .order_by(chunks.c.first)
        ).all()
    )
    chunk: Any = next(sent, None)
    known: _Known | None = None
    for index, (item, _) in enumerate(stage.items.raw()):
        position = first + index
        while chunk is not None and chunk.last < position:
            chunk, known = next(sent, None), None
        is_sent = chunk is not None and chunk.first <= position
        if is_sent and known is None:
            known = _Known(connection, record.id, chunk)
        base = (position, stage.number, stage.operation, stage.batch_of(index), item, stage.event)
        id_ = event_id(record.id, stage, item, index)
        if is_sent and known:
            yield EventRecord(*base, id_, *known.of(position))
        else:
            yield EventRecord(*base, id_, None, None, None, "unsent", None, ())


class _Known:
    """What is known of the events of one chunk."""

    def __init__(self, connection: Connection, run_id: str, chunk: Any) -> None:
        self._chunk = chunk
        self._ids = known_ids(chunk) if chunk.state == "accepted" else {}
        of_outcome = outcomes.c.position.between(chunk.first, chunk.last)
        self._outcomes = {
            row.position: row
            for row in connection.execute(
                select(outcomes).where(outcomes.c.run_id == run_id, of_outcome)
            )
        }
        of_chunk = jobs.c.position.between(chunk.first, chunk.last)
        self._jobs = _jobs(connection, run_id, of_chunk)

    def of(self, position: int) -> tuple[Any, ...]:
        """internal id, sent at, ended at, outcome, message, jobs"""
        ended = self._outcomes.get(position)
        refused = ended is not None and ended.outcome == "rejected"
        running = "running" if self._chunk.state == "accepted" else "sending"
        return (
            None if refused else self._ids.get(position),
            self._chunk.sent_at,
            ended.at if ended else None,
            ended.outcome if ended else running,
            ended.message if ended else None,
            tuple(self._jobs.get(position, ())),
        )
