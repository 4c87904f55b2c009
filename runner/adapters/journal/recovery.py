"""What a run that is carried on needs of its journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Update, bindparam, delete, select, update

from runner.adapters.journal.tables import chunks, events, jobs
from runner.execution.ports import Chunk, ChunkEvent
from runner.execution.seeds import internal_ids


def uncertain(connection: Connection, run_id: str) -> list[Chunk]:
    query = (
        select(chunks)
        .where(chunks.c.run_id == run_id, chunks.c.state.in_(("sending", "requeued")))
        .order_by(chunks.c.number)
    )
    return [
        Chunk(
            number=row.number,
            stage=row.stage,
            batch=row.batch,
            operation=row.operation,
            event=row.event,
            seed=row.seed,
            body=row.body,
            events=_open_events(connection, run_id, row),
        )
        for row in connection.execute(query)
    ]


def reopen_timed_out(connection: Connection, run_id: str) -> None:
    """A run that is carried on looks again at the jobs it had given up waiting for."""
    connection.execute(
        update(events)
        .where(events.c.run_id == run_id, events.c.outcome == "timed_out")
        .values(outcome=None, message=None)
    )


def requeue(connection: Connection, run_id: str, make_seed: Callable[[], str]) -> None:
    """Turn accepted events without an outcome into uncertain ones, to be sent again.

    For a target that does not outlive the process (the embedded one): the jobs died with it.
    """
    unsettled = select(events.c.chunk).where(events.c.run_id == run_id, events.c.outcome.is_(None))
    query = select(chunks).where(
        chunks.c.run_id == run_id,
        chunks.c.state == "accepted",
        chunks.c.number.in_(unsettled),
    )
    for row in connection.execute(query).all():
        kept = _open_events(connection, run_id, row)
        wanted = {event.event_id for event in kept}
        body = [event for event in orjson.loads(row.body) if event["id"] in wanted]
        seed = make_seed()
        connection.execute(
            update(chunks)
            .where(chunks.c.run_id == run_id, chunks.c.number == row.number)
            .values(state="requeued", seed=seed, body=orjson.dumps(body))
        )
        dead = select(events.c.position).where(
            events.c.run_id == run_id,
            events.c.chunk == row.number,
            events.c.outcome.is_(None),
        )
        connection.execute(delete(jobs).where(jobs.c.run_id == run_id, jobs.c.position.in_(dead)))
        ids = internal_ids(seed, len(kept))
        connection.execute(
            update_id(run_id),
            [{"at": e.position, "new_id": new} for e, new in zip(kept, ids, strict=True)],
        )


def _open_events(connection: Connection, run_id: str, chunk: Row[Any]) -> tuple[ChunkEvent, ...]:
    query = (
        select(events.c.position, events.c.item, events.c.event_id, events.c.internal_id)
        .where(
            events.c.run_id == run_id,
            events.c.position.between(chunk.first, chunk.last),
            events.c.chunk == chunk.number,
            events.c.outcome.is_(None),
        )
        .order_by(events.c.position)
    )
    return tuple(ChunkEvent(*row) for row in connection.execute(query))


def update_id(run_id: str) -> Update:
    return (
        update(events)
        .where(events.c.run_id == run_id, events.c.position == bindparam("at"))
        .values(internal_id=bindparam("new_id"))
    )
