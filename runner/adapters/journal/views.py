"""A run as others see it, while it goes on or long after: a handful of queries."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Float, Integer, and_, case, cast, func, select

from runner.adapters.journal import leases, proofs
from runner.adapters.journal.figures import chunk_of_outcome
from runner.adapters.journal.tables import (
    FAILED,
    FAILED_ORDER,
    answers,
    chunks,
    jobs,
    notes,
    outcomes,
    runs,
    waits,
)
from runner.model import (
    ITEM,
    Bucket,
    ExecutionPlan,
    FailureGroup,
    Note,
    RunRecord,
    RunView,
    SentBatch,
    StageRecord,
    Waited,
)
from runner.planning.written import plan_of, skipped_in

MAX_GROUPS, MAX_NAMED = 50, 5
MAX_BATCHES, MAX_WAITS, MAX_NOTES = 2_000, 2_000, 2_000  # a page can show no more
_BUCKETS = 120

# Of a chunk that is to be sent again only what has ended counts as sent.
_SENT = case(
    (chunks.c.state == "accepted", chunks.c.last - chunks.c.first + 1),
    else_=chunks.c.completed + chunks.c.failed,
)


def glance(connection: Connection, record: RunRecord) -> RunView:
    """Where the run stands: stages, outcomes, failures, checks."""
    text = connection.execute(select(runs.c.head).where(runs.c.id == record.id)).scalar_one()
    plan = plan_of(text, {}) if text else None
    holder, handed = leases.standing_of(connection, record.id)
    return RunView(
        record=record,
        holder=holder,
        handed=handed,
        plan=plan,
        now=time.time(),
        stages=_stages(connection, record, plan),
        outcomes=_outcomes(connection, record.id),
        failures=_failures(connection, record.id),
        checks=tuple(proofs.checks_of(connection, record.id)),
        retries=tuple(
            connection.execute(
                select(runs.c.id).where(runs.c.parent == record.id).order_by(runs.c.started_at)
            ).scalars()
        ),
        skipped=skipped_in(text) if text else (),
    )


def mark(connection: Connection, record: RunRecord | None) -> str:
    """Changes whenever what there is to show of a run, or of all, does; much cheaper than that."""
    of_run = runs.c.id == record.id if record else runs.c.status == "running"
    sent = select(
        func.count(),
        func.sum(chunks.c.completed),
        func.sum(chunks.c.failed),
        func.sum(case((chunks.c.state == "accepted", 1), else_=0)),
    ).where(chunks.c.run_id.in_(select(runs.c.id).where(of_run)))
    state = select(func.count(), func.max(runs.c.started_at), func.max(runs.c.ended_at))
    values: list[Any] = [*connection.execute(sent).one(), *connection.execute(state).one()]
    if record:
        waited = select(func.max(waits.c.number), func.count(waits.c.ended))
        noted = select(func.max(notes.c.number))
        asked = select(func.max(answers.c.at))
        values += connection.execute(waited.where(waits.c.run_id == record.id)).one()
        values += connection.execute(noted.where(notes.c.run_id == record.id)).one()
        values += connection.execute(asked.where(answers.c.run_id == record.id)).one()
        values += [record.status, record.wanted, leases.holder_of(connection, record.id)]
    return repr(values)


def timeline(connection: Connection, run_id: str) -> dict[str, Any]:
    """The fields of a `RunView` that a page shows besides: waits, batches, rates, notes, source."""
    return {
        "waits": tuple(waits_of(connection, run_id)),
        "batches": _batches(connection, run_id),
        "rates": _rates(connection, run_id),
        "notes": tuple(notes_of(connection, run_id)),
        "source": connection.execute(select(runs.c.source).where(runs.c.id == run_id)).scalar(),
    }


def answers_of(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """What the user's database has answered in the run, by name."""
    return {name: orjson.loads(value) for name, value in proofs.all_of(connection, run_id)}


def notes_of(connection: Connection, run_id: str) -> list[Note]:
    query = select(notes.c.at, notes.c.message).where(notes.c.run_id == run_id)
    found = connection.execute(query.order_by(notes.c.number).limit(MAX_NOTES))
    return [Note(*row) for row in found]


def waits_of(connection: Connection, run_id: str) -> list[Waited]:
    query = select(waits.c.stage, waits.c.reason, waits.c.began, waits.c.ended)
    mine = query.where(waits.c.run_id == run_id).order_by(waits.c.number).limit(MAX_WAITS)
    return [Waited(*row) for row in connection.execute(mine)]


def _stages(
    connection: Connection, record: RunRecord, plan: ExecutionPlan | None
) -> tuple[StageRecord, ...]:
    sent = {
        row.stage: row
        for row in connection.execute(
            select(
                chunks.c.stage,
                chunks.c.operation,
                func.sum(_SENT).label("sent"),
                func.max(chunks.c.batch).label("batches"),
                func.sum(chunks.c.completed).label("completed"),
                func.sum(chunks.c.failed).label("failed"),
                func.min(chunks.c.sent_at).label("began"),
                func.max(chunks.c.sent_at).label("last_sent"),
            )
            .where(chunks.c.run_id == record.id)
            .group_by(chunks.c.stage, chunks.c.operation)
        )
    }
    ended = _ended(connection, record.id)
    now = {wait.stage: wait for wait in _open_waits(connection, record.id)}
    known: Sequence[tuple[int, str, int]] = (
        [(stage.number, stage.operation, stage.total) for stage in plan.stages]
        if plan
        else [(row.stage, row.operation, int(row.sent)) for row in sent.values()]
    )
    return tuple(
        StageRecord(
            number,
            operation,
            total,
            *_figures(sent.get(number)),
            *ended.get(number, (None, None)),
            now.get(number) if record.status == "running" else None,
        )
        for number, operation, total in known
    )


def _figures(row: Any) -> tuple[int, int, int, int, float | None, float | None]:
    if row is None:
        return 0, 0, 0, 0, None, None
    whole = (int(row.sent), int(row.batches), int(row.completed), int(row.failed))
    return *whole, row.began, row.last_sent


def _ended(connection: Connection, run_id: str) -> dict[int, tuple[float | None, float | None]]:
    """When the last event of each stage ended, and how long one took; each sweep ends many."""
    moments = (
        select(
            outcomes.c.chunk,
            func.max(outcomes.c.at).label("last"),
            func.avg(outcomes.c.at).label("at"),
            func.count().label("many"),
        )
        .where(outcomes.c.run_id == run_id, outcomes.c.at.is_not(None))
        .group_by(outcomes.c.chunk)
        .subquery()
    )
    took = func.sum((moments.c.at - chunks.c.sent_at) * moments.c.many)
    query = (
        select(
            chunks.c.stage, func.max(moments.c.last), took / cast(func.sum(moments.c.many), Float)
        )
        .join(moments, and_(chunks.c.run_id == run_id, chunks.c.number == moments.c.chunk))
        .group_by(chunks.c.stage)
    )
    return {stage: (last, took) for stage, last, took in connection.execute(query)}


def _open_waits(connection: Connection, run_id: str) -> list[Waited]:
    query = select(waits.c.stage, waits.c.reason, waits.c.began, waits.c.ended)
    still = query.where(waits.c.run_id == run_id, waits.c.ended.is_(None))
    return [Waited(*row) for row in connection.execute(still.order_by(waits.c.number))]


def _outcomes(connection: Connection, run_id: str) -> dict[Any, int]:
    query = (
        select(outcomes.c.outcome, func.count())
        .where(outcomes.c.run_id == run_id, FAILED)
        .group_by(outcomes.c.outcome)
        .order_by(outcomes.c.outcome)
    )
    return dict(map(tuple, connection.execute(query)))


def _failures(connection: Connection, run_id: str) -> tuple[FailureGroup, ...]:
    """The largest groups first. Messages that differ in the item's name alone are the same."""
    message = func.replace(outcomes.c.message, outcomes.c.item, ITEM).label("message")
    first = func.min(outcomes.c.position)
    query = (
        select(chunks.c.operation, outcomes.c.outcome, message, func.count(), first)
        .join(chunks, chunk_of_outcome())
        .where(outcomes.c.run_id == run_id, FAILED)
        .group_by(chunks.c.operation, outcomes.c.outcome, message)
        .order_by(func.count().desc(), first)
        .limit(MAX_GROUPS)
    )
    groups = connection.execute(query).all()
    return tuple(_group(connection, run_id, message, *group) for group in groups)


def _group(
    connection: Connection,
    run_id: str,
    message: ColumnElement[str],
    operation: str,
    outcome: Any,
    said: str | None,
    events: int,
    first: int,
) -> FailureGroup:
    query = (
        select(outcomes.c.item)
        .join(chunks, chunk_of_outcome())
        .where(outcomes.c.run_id == run_id, FAILED, outcomes.c.outcome == outcome)
        .where(message == said if said else outcomes.c.message.is_(None))
        .where(chunks.c.operation == operation, outcomes.c.position >= first)
        .order_by(FAILED_ORDER)
        .limit(MAX_NAMED)
    )
    items = tuple(connection.execute(query).scalars())
    job = connection.execute(
        select(jobs.c.job_id, jobs.c.url)
        .where(jobs.c.run_id == run_id, jobs.c.position == first)
        .order_by(func.lower(jobs.c.status) == "completed", jobs.c.job_id)
        .limit(1)
    ).first()
    if said and events == 1:
        said = said.replace(ITEM, items[0])
    return FailureGroup(operation, outcome, said or outcome, events, items, *(job or (None, None)))


def _batches(connection: Connection, run_id: str) -> tuple[SentBatch, ...]:
    began = func.min(chunks.c.sent_at)
    query = (
        select(
            chunks.c.stage,
            chunks.c.batch,
            began,
            func.sum(_SENT),
            func.sum(chunks.c.completed),
            func.sum(chunks.c.failed),
        )
        .where(chunks.c.run_id == run_id)
        .group_by(chunks.c.stage, chunks.c.batch)
        .order_by(chunks.c.stage, chunks.c.batch)
        .limit(MAX_BATCHES)
    )
    return tuple(
        SentBatch(stage, batch, at, int(sent), int(good), int(bad))
        for stage, batch, at, sent, good, bad in connection.execute(query)
    )


def _rates(connection: Connection, run_id: str) -> tuple[Bucket, ...]:
    """A sweep ends all its events at one moment, so there are few moments to read."""
    sent = connection.execute(
        select(chunks.c.sent_at, cast(_SENT, Integer)).where(chunks.c.run_id == run_id)
    ).all()
    ended = connection.execute(
        select(outcomes.c.at, func.count())
        .where(outcomes.c.run_id == run_id, outcomes.c.at.is_not(None))
        .group_by(outcomes.c.at)
    ).all()
    moments = [at for at, _ in (*sent, *ended)]
    if not moments:
        return ()
    start, end = min(moments), max(moments)
    width = max(1.0, (end - start) / _BUCKETS)
    many = int((end - start) / width) + 1
    figures = [[0, 0] for _ in range(many)]
    for which, found in enumerate((sent, ended)):
        for at, number in found:
            figures[int((at - start) / width)][which] += number
    return tuple(Bucket(start + index * width, *pair) for index, pair in enumerate(figures))
