"""Many runs at a glance, and all events of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from runner.adapters.journal.database import Connection, listed
from runner.adapters.journal.figures import FAILED, FAILED_ORDER, SENT, WITH_CHUNK, added
from runner.adapters.journal.requests import jobs_between, known_ids
from runner.execution.seeds import event_id
from runner.model import (
    EventRecord,
    ExecutionPlan,
    Job,
    Outcome,
    RunLine,
    RunRecord,
    RunState,
    Stage,
)
from runner.planning.event_blocks import parted


def lines(connection: Connection, states: Sequence[RunState]) -> list[RunLine]:
    """Each run with how far it has come."""
    within, given = listed("run", [state.record.id for state in states])
    query = f"""SELECT run_id, {SENT} AS sent, sum(completed) AS completed
    FROM chunks WHERE run_id IN ({within}) GROUP BY run_id"""
    sent = {run_id: (int(n), int(good)) for run_id, n, good in connection.rows(query, **given)}
    query = f"""SELECT run_id, outcome, count(*) AS events FROM outcomes
    WHERE run_id IN ({within}) AND {FAILED} GROUP BY run_id, outcome"""
    lost: dict[str, dict[Outcome, int]] = {}
    for run_id, outcome, number in connection.rows(query, **given):
        lost.setdefault(run_id, {})[outcome] = int(number)
    figures: dict[str, tuple[int, dict[Outcome, int]]] = {
        run_id: (number, added([{"completed": good}, lost.get(run_id, {})]))
        for run_id, (number, good) in sent.items()
    }
    return [
        RunLine(
            state.record,
            state.holder if state.record.status == "running" else None,
            *figures.get(state.record.id, (0, {})),
        )
        for state in states
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
    query = f"""SELECT outcomes.*, chunks.stage, chunks.operation, chunks.batch, chunks.event,
    chunks.sent_at FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND {FAILED} ORDER BY {FAILED_ORDER} LIMIT :limit"""
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
            jobs=tuple(
                job for _, job in jobs_between(connection, run_id, row.position, row.position)
            ),
        )
        for row in connection.rows(query, run=run_id, limit=limit)
    ]


def _of_stage(
    connection: Connection, record: RunRecord, stage: Stage, first: int
) -> Iterator[EventRecord]:
    query = "SELECT * FROM chunks WHERE run_id = :run AND stage = :stage ORDER BY first"
    sent = iter(connection.rows(query, run=record.id, stage=stage.number))
    chunk: Any = next(sent, None)
    known: _Known | None = None
    for index, (item, cell) in enumerate(stage.items.raw()):
        position = first + index
        while chunk is not None and chunk.last < position:
            chunk, known = next(sent, None), None
        is_sent = chunk is not None and chunk.first <= position
        if is_sent and known is None:
            known = _Known(connection, record.id, chunk)
        own = parted(cell) if stage.own else {}
        operation, name = own.get("operation", stage.operation), own.get("name", stage.event)
        base = (position, stage.number, operation, stage.batch_of(index), item, name)
        id_ = own.get("id") or event_id(record.id, stage, item, index, own.get("operation"))
        if is_sent and known:
            yield EventRecord(*base, id_, *known.of(position))
        else:
            yield EventRecord(*base, id_, None, None, None, "unsent", None, ())


class _Known:
    """What is known of the events of one chunk."""

    def __init__(self, connection: Connection, run_id: str, chunk: Any) -> None:
        self._chunk = chunk
        self._ids = known_ids(chunk) if chunk.state == "accepted" else {}
        query = "SELECT * FROM outcomes WHERE run_id = :run AND position BETWEEN :first AND :last"
        found = connection.rows(query, run=run_id, first=chunk.first, last=chunk.last)
        self._outcomes = {row.position: row for row in found}
        self._jobs: dict[int, list[Job]] = {}
        for position, job in jobs_between(connection, run_id, chunk.first, chunk.last):
            self._jobs.setdefault(position, []).append(job)

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
