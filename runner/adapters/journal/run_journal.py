"""The journal of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from runner.adapters.journal import accepting, beginning, chains, figures, proofs, recovery
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.reach import reachable
from runner.adapters.journal.tables import chunks, jobs, notes, outcomes, runs, waits
from runner.execution.ports import (
    Answer,
    Chunk,
    Orders,
    Sighting,
    Unanswered,
    Unsettled,
)
from runner.model import (
    Chain,
    CheckResult,
    ExecutionPlan,
    Failure,
    Job,
    Json,
    Round,
    RunStatus,
    Totals,
)

# Made once: building it costs more than carrying it out.
_ORDERS = select(*beginning.ORDERS).where(runs.c.id == bindparam("run"))


class RunJournal:
    """Meets `runner.execution.ports.Journal`; each method is one transaction.

    Without a lease it may only be read: `lease` is what the writes of a run are fenced by.
    """

    def __init__(self, engine: Engine, run_id: str, started_at: float, lease: Lease) -> None:
        self._engine, self.run_id, self.started_at, self._lease = engine, run_id, started_at, lease
        # The latest answer, until it is written: lost, its request is made again with the same ids.
        self._owed: tuple[Chunk, Answer] | None = None

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with reachable(self._engine.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """What is owed is written first: nobody reads, or writes, past it."""
        owed = self._owed
        with self._transaction() as connection:
            if owed:
                self._lease.renew(connection)
                accepting.accept(connection, self.run_id, *owed)
            yield connection
        if self._owed is owed:
            self._owed = None

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._read() as connection:
            self._lease.renew(connection)
            yield connection

    def settle(self) -> None:
        if self._owed:
            with self._read():
                pass

    def begin_chunk(self, chunk: Chunk, seen: Orders) -> bool:
        with self._transaction() as connection:
            return beginning.begin(connection, self.run_id, self._lease, chunk, seen)

    def accept(self, chunk: Chunk, answer: Answer) -> None:
        self.settle()
        self._owed = chunk, answer
        if answer.refused is not None:
            self.settle()

    def withdraw(self, chunk: Chunk) -> None:
        with self._write() as connection:
            connection.execute(delete(chunks).where(self._is(chunk)))

    def record(self, sightings: Sequence[Sighting]) -> None:
        seen = [_job_row(self.run_id, sighting) for sighting in sightings]
        rows = [row for found in seen for row in found]
        now = time.time()
        settled = [
            {
                "run_id": self.run_id,
                "position": sighting.event.position,
                "chunk": sighting.event.chunk,
                "item": sighting.event.item,
                "outcome": sighting.outcome,
                "message": sighting.message,
                "at": now,
            }
            for sighting in sightings
            if sighting.outcome
        ]
        if not rows and not settled:
            return
        with self._write() as connection:
            if rows:
                statement = _insert_of(connection)(jobs)
                new = statement.excluded
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[jobs.c.run_id, jobs.c.job_id, jobs.c.position],
                        set_={"status": new.status, "message": new.message},
                    ),
                    rows,
                )
            if settled:
                connection.execute(insert(outcomes), settled)
                figures.count(connection, self.run_id, settled)

    def note(self, message: str) -> None:
        with self._read() as connection:
            connection.execute(
                insert(notes).values(run_id=self.run_id, at=time.time(), message=message)
            )

    def waiting(self, stage: int, reason: str | None) -> None:
        """The stage waits for `reason` from now on; None: it waits no longer."""
        now = time.time()
        still = (waits.c.run_id == self.run_id) & waits.c.ended.is_(None)
        with self._read() as connection:
            connection.execute(update(waits).where(still).values(ended=now))
            if reason:
                wait = {"run_id": self.run_id, "stage": stage, "reason": reason, "began": now}
                connection.execute(insert(waits), wait)

    def notes(self) -> list[str]:
        query = select(notes.c.message).where(notes.c.run_id == self.run_id).order_by("number")
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def keep_lease(self) -> None:
        with self._write():
            pass

    def orders(self) -> Orders:
        with self._transaction() as connection:
            return Orders(*connection.execute(_ORDERS, {"run": self.run_id}).one())

    def end(self, status: RunStatus, reason: str | None = None) -> None:
        with self._write() as connection:
            ended = {"status": status, "ended_at": time.time(), "reason": reason}
            connection.execute(update(runs).where(runs.c.id == self.run_id).values(**ended))
            still = (waits.c.run_id == self.run_id) & waits.c.ended.is_(None)
            connection.execute(update(waits).where(still).values(ended=ended["ended_at"]))

    def next_position(self) -> int:
        query = select(func.coalesce(func.max(chunks.c.last) + 1, 0))
        with self._read() as connection:
            return int(connection.execute(query.where(self._ours)).scalar_one())

    def next_chunk(self) -> int:
        query = select(func.coalesce(func.max(chunks.c.number) + 1, 0))
        with self._read() as connection:
            return int(connection.execute(query.where(self._ours)).scalar_one())

    def unanswered(self) -> list[Unanswered]:
        with self._read() as connection:
            return recovery.unanswered(connection, self.run_id)

    def unsettled(self) -> list[Unsettled]:
        with self._read() as connection:
            return recovery.unsettled(connection, self.run_id)

    def going_on(self) -> dict[int, tuple[Job, ...]]:
        with self._read() as connection:
            return recovery.going_on(connection, self.run_id)

    def failed_in(self, stage: int) -> int:
        with self._read() as connection:
            return figures.failed_in(connection, self.run_id, stage)

    def remember(self, name: str, value: Json) -> None:
        with self._write() as connection:
            proofs.remember(connection, self.run_id, name, value)

    def remembered(self, name: str) -> Json:
        with self._read() as connection:
            return proofs.remembered(connection, self.run_id, name)

    def keep_check(self, result: CheckResult) -> None:
        with self._write() as connection:
            proofs.keep_check(connection, self.run_id, result)

    def checks(self) -> list[CheckResult]:
        with self._read() as connection:
            return proofs.checks_of(connection, self.run_id)

    def rounds(self, stage: int) -> list[Round]:
        with self._read() as connection:
            return proofs.rounds_of(connection, self.run_id, stage)

    def begin_round(self, plan: ExecutionPlan, begun: Round) -> None:
        with self._write() as connection:
            proofs.begin_round(connection, self.run_id, plan, begun)

    def reopen_timed_out(self) -> None:
        with self._write() as connection:
            recovery.reopen_timed_out(connection, self.run_id)

    def requeue(self, make_seed: Callable[[], str]) -> None:
        with self._write() as connection:
            recovery.requeue(connection, self.run_id, make_seed)

    def totals(self) -> Totals:
        with self._read() as connection:
            return figures.totals(connection, self.run_id)

    def failures(self) -> list[Failure]:
        with self._read() as connection:
            return figures.failures(connection, self.run_id)

    def chain(self) -> Chain | None:
        with self._read() as connection:
            return chains.chain_of(connection, self.run_id)

    def links(self, limit: int) -> list[str]:
        with self._read() as connection:
            return figures.links(connection, self.run_id, limit)

    @property
    def _ours(self) -> Any:
        return chunks.c.run_id == self.run_id

    def _is(self, chunk: Chunk) -> Any:
        return self._ours & (chunks.c.number == chunk.number)


def _insert_of(connection: Connection) -> Any:
    """Of each dialect only what is used is imported: PostgreSQL's takes a tenth of a second."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert


def _job_row(run_id: str, sighting: Sighting) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "job_id": job.id,
            "position": sighting.event.position,
            "function": job.function,
            "status": job.status,
            "message": job.message,
            "url": job.url,
        }
        for job in sighting.jobs
    ]
