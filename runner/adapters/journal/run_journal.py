"""The journal of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Update,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from runner.adapters.journal import figures, recovery
from runner.adapters.journal.reach import reachable
from runner.adapters.journal.tables import chunks, events, jobs, runs
from runner.execution.ports import Answer, Chunk, ChunkEvent, Sighting
from runner.model import FAILURES, Failure, RunStatus, SentEvent, Totals


class RunJournal:
    """Meets `runner.execution.ports.Journal`; each method is one transaction."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine, self.run_id = engine, run_id

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with reachable(self._engine.url), self._engine.begin() as connection:
            yield connection

    def begin_chunk(self, chunk: Chunk) -> None:
        with self._begin() as connection:
            connection.execute(
                insert(chunks),
                {
                    "run_id": self.run_id,
                    "number": chunk.number,
                    "stage": chunk.stage,
                    "batch": chunk.batch,
                    "operation": chunk.operation,
                    "event": chunk.event,
                    "first": chunk.events[0].position,
                    "last": chunk.events[-1].position,
                    "seed": chunk.seed,
                    "body": chunk.body,
                    "state": "sending",
                    "resent": False,
                    "sent_at": time.time(),
                },
            )
            connection.exec_driver_sql(
                "INSERT INTO events (run_id, position, chunk, item, event_id, internal_id)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (self.run_id, e.position, chunk.number, e.item, e.event_id, e.internal_id)
                    for e in chunk.events
                ],
            )

    def accept(self, chunk: Chunk, answer: Answer) -> None:
        taken, requeued = len(answer.ids), chunks.c.state == "requeued"
        with self._begin() as connection:
            connection.execute(
                update(chunks)
                .where(chunks.c.run_id == self.run_id, chunks.c.number == chunk.number)
                .values(state="accepted", resent=case((requeued, False), else_=answer.resent))
            )
            self._correct_ids(connection, chunk, answer)
            if answer.refused is not None:
                connection.execute(
                    self._update_event(),
                    {
                        "at": chunk.events[taken].position,
                        "outcome": "rejected",
                        "message": answer.refused,
                    },
                )
                self._forget(connection, chunk.events[taken + 1 :])

    def withdraw(self, chunk: Chunk) -> None:
        with self._begin() as connection:
            self._forget(connection, chunk.events)
            connection.execute(
                delete(chunks).where(
                    chunks.c.run_id == self.run_id, chunks.c.number == chunk.number
                )
            )

    def record(self, sightings: Sequence[Sighting]) -> None:
        rows = [
            {
                "run_id": self.run_id,
                "job_id": job.id,
                "position": sighting.position,
                "function": job.function,
                "status": job.status,
                "message": job.message,
                "url": job.url,
            }
            for sighting in sightings
            for job in sighting.jobs
        ]
        settled = [
            {"at": sighting.position, "outcome": sighting.outcome, "message": sighting.message}
            for sighting in sightings
            if sighting.outcome
        ]
        if not rows and not settled:
            return
        with self._begin() as connection:
            if rows:
                statement = upsert(jobs)
                new = statement.excluded
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[jobs.c.run_id, jobs.c.job_id],
                        set_={"status": new.status, "message": new.message},
                    ),
                    rows,
                )
            if settled:
                connection.execute(self._update_event(), settled)

    def end(self, status: RunStatus) -> None:
        """A run that has ended for good keeps no bodies: nothing of it will be sent again."""
        with self._begin() as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == self.run_id)
                .values(status=status, ended_at=time.time())
            )
            if status == "completed":
                connection.execute(
                    update(chunks).where(chunks.c.run_id == self.run_id).values(body=None)
                )

    def next_position(self) -> int:
        return self._scalar(
            select(func.coalesce(func.max(events.c.position) + 1, 0)).where(
                events.c.run_id == self.run_id
            )
        )

    def next_chunk(self) -> int:
        return self._scalar(
            select(func.coalesce(func.max(chunks.c.number) + 1, 0)).where(
                chunks.c.run_id == self.run_id
            )
        )

    def uncertain(self) -> list[Chunk]:
        with self._begin() as connection:
            return recovery.uncertain(connection, self.run_id)

    def unsettled(self) -> list[SentEvent]:
        query = (
            select(
                events.c.position,
                chunks.c.stage,
                chunks.c.operation,
                events.c.item,
                chunks.c.event,
                events.c.internal_id,
            )
            .join(chunks, figures.chunk_of_event())
            .where(
                events.c.run_id == self.run_id,
                events.c.outcome.is_(None),
                chunks.c.state == "accepted",
            )
            .order_by(events.c.position)
        )
        with self._begin() as connection:
            return [SentEvent(*row) for row in connection.execute(query)]

    def settled_in(self, stage: int) -> tuple[int, int]:
        failed = case((events.c.outcome.in_(FAILURES), 1))
        query = (
            select(func.count(), func.count(failed))
            .select_from(events)
            .join(chunks, figures.chunk_of_event())
            .where(
                events.c.run_id == self.run_id,
                chunks.c.stage == stage,
                events.c.outcome.is_not(None),
            )
        )
        with self._begin() as connection:
            settled, failures = connection.execute(query).one()
        return settled, failures

    def reopen_timed_out(self) -> None:
        with self._begin() as connection:
            recovery.reopen_timed_out(connection, self.run_id)

    def requeue(self, make_seed: Callable[[], str]) -> None:
        with self._begin() as connection:
            recovery.requeue(connection, self.run_id, make_seed)

    def totals(self) -> Totals:
        with self._begin() as connection:
            return figures.totals(connection, self.run_id)

    def failures(self) -> list[Failure]:
        with self._begin() as connection:
            return figures.failures(connection, self.run_id)

    def links(self, limit: int) -> list[str]:
        with self._begin() as connection:
            return figures.links(connection, self.run_id, limit)

    def _correct_ids(self, connection: Connection, chunk: Chunk, answer: Answer) -> None:
        """The ids were predicted from the seed; the server's word counts where it differs."""
        wrong = [
            {"at": event.position, "new_id": actual}
            for event, actual in zip(chunk.events, answer.ids, strict=False)
            if event.internal_id != actual
        ]
        if wrong:
            connection.execute(recovery.update_id(self.run_id), wrong)

    def _forget(self, connection: Connection, forgotten: Sequence[ChunkEvent]) -> None:
        if forgotten:
            connection.execute(
                delete(events).where(
                    events.c.run_id == self.run_id,
                    events.c.position.between(forgotten[0].position, forgotten[-1].position),
                )
            )

    def _update_event(self) -> Update:
        return (
            update(events)
            .where(events.c.run_id == self.run_id, events.c.position == bindparam("at"))
            .values(outcome=bindparam("outcome"), message=bindparam("message"))
        )

    def _scalar(self, query: Select[Any]) -> int:
        with self._begin() as connection:
            return int(connection.execute(query).scalar_one())
