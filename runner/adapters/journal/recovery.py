"""What a run that is carried on needs of its journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, delete, func, select, update

from runner.adapters.journal.tables import FAILED, chunks, jobs, outcomes
from runner.execution.ports import Unanswered, Unsettled
from runner.execution.seeds import internal_ids
from runner.model import ENDED, Job


def unanswered(connection: Connection, run_id: str) -> list[Unanswered]:
    query = (
        select(chunks)
        .where(chunks.c.run_id == run_id, chunks.c.state.in_(("sending", "requeued")))
        .order_by(chunks.c.number)
    )
    return [
        Unanswered(
            row.number,
            row.stage,
            row.batch,
            row.seed,
            open_positions(connection, run_id, row),
            row.sent_at,
            started_again=row.state == "requeued",
        )
        for row in connection.execute(query).all()
    ]


def unsettled(connection: Connection, run_id: str) -> list[Unsettled]:
    """Only chunks that have open events are looked into: all others are counted."""
    found: list[Unsettled] = []
    for chunk in _open_chunks(connection, run_id):
        known = known_ids(chunk)
        found += [
            Unsettled(position, chunk.number, known[position])
            for position in open_positions(connection, run_id, chunk)
            if position in known
        ]
    return found


def going_on(connection: Connection, run_id: str) -> dict[int, tuple[Job, ...]]:
    """The jobs that were seen of events without an outcome, by position; found as `unsettled` finds
    those, so that what has ended costs nothing."""
    seen = (
        jobs.c.position,
        jobs.c.job_id,
        jobs.c.function,
        jobs.c.status,
        jobs.c.message,
        jobs.c.url,
    )
    found: dict[int, tuple[Job, ...]] = {}
    for chunk in _open_chunks(connection, run_id):
        still = set(open_positions(connection, run_id, chunk))
        query = select(*seen).where(
            jobs.c.run_id == run_id, jobs.c.position.between(chunk.first, chunk.last)
        )
        for position, id_, function, status, message, url in connection.execute(query):
            if position in still:
                job = Job(id_, function, status, status.lower() in ENDED, message, url)
                found[position] = (*found.get(position, ()), job)
    return found


def reopen_timed_out(connection: Connection, run_id: str) -> None:
    """A run that is carried on looks again at the jobs it had given up waiting for."""
    given_up = and_(outcomes.c.run_id == run_id, FAILED, outcomes.c.outcome == "timed_out")
    of_chunk = (
        select(func.count()).where(given_up, outcomes.c.chunk == chunks.c.number).scalar_subquery()
    )
    connection.execute(
        update(chunks)
        .where(chunks.c.run_id == run_id, chunks.c.failed > 0)
        .values(failed=chunks.c.failed - of_chunk)
    )
    connection.execute(delete(outcomes).where(given_up))


def requeue(connection: Connection, run_id: str, make_seed: Callable[[], str]) -> None:
    """Turn accepted events without an outcome into unanswered ones, to be sent again.

    For a target that does not outlive the process (the embedded one): the jobs died with it.
    """
    for chunk in _open_chunks(connection, run_id):
        dead = open_positions(connection, run_id, chunk)
        connection.execute(
            update(chunks)
            .where(chunks.c.run_id == run_id, chunks.c.number == chunk.number)
            .values(state="requeued", seed=make_seed(), ids=None)
        )
        of_dead = jobs.c.position.in_(dead)
        connection.execute(delete(jobs).where(jobs.c.run_id == run_id, of_dead))


def open_positions(connection: Connection, run_id: str, chunk: Row[Any]) -> list[int]:
    query = select(outcomes.c.position).where(
        outcomes.c.run_id == run_id, outcomes.c.position.between(chunk.first, chunk.last)
    )
    ended = set(connection.execute(query).scalars())
    return [at for at in range(chunk.first, chunk.last + 1) if at not in ended]


def _open_chunks(connection: Connection, run_id: str) -> Sequence[Row[Any]]:
    ended = chunks.c.completed + chunks.c.failed
    query = (
        select(chunks)
        .where(
            chunks.c.run_id == run_id,
            chunks.c.state == "accepted",
            ended < chunks.c.last - chunks.c.first + 1,
        )
        .order_by(chunks.c.number)
    )
    return connection.execute(query).all()


def known_ids(chunk: Row[Any]) -> dict[int, str]:
    """The internal id of each position of the chunk that was taken."""
    if chunk.ids:
        return {int(position): id_ for position, id_ in orjson.loads(chunk.ids).items()}
    positions = range(chunk.first, chunk.last + 1)
    return dict(zip(positions, internal_ids(chunk.seed, len(positions)), strict=True))
