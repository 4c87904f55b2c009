"""The journal of one run, read only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from runner.adapters.journal import answers, chains, figures, leases, requests
from runner.adapters.journal.database import Connection, Database
from runner.execution.ports import Control, Latest, Unanswered, Unsettled
from runner.model import (
    Chain,
    CheckResult,
    Driven,
    Failure,
    Job,
    JobLink,
    Json,
    Round,
    StageFigures,
    Totals,
)

T = TypeVar("T")


class JournalReader:
    """Each method reads a consistent snapshot; none writes."""

    def __init__(
        self, database: Database, run_id: str, started_at: float, clock: Callable[[], float]
    ) -> None:
        self._database, self.run_id, self.started_at = database, run_id, started_at
        self._clock = clock

    def _reading(self) -> AbstractContextManager[Connection]:
        return self._database.read()

    def _read(self, query: Callable[..., T], *given: object) -> T:
        with self._reading() as connection:
            return query(connection, self.run_id, *given)

    def _value(self, query: str) -> int:
        with self._reading() as connection:
            return int(connection.value(query, run=self.run_id))

    def control(self) -> Control:
        with self._database.read() as connection:
            return Control(*connection.row(requests.CONTROL, run=self.run_id))

    def next_position(self) -> int:
        return self._value("SELECT coalesce(max(last) + 1, 0) FROM chunks WHERE run_id = :run")

    def next_chunk(self) -> int:
        return self._value("SELECT coalesce(max(number) + 1, 0) FROM chunks WHERE run_id = :run")

    def driven(self) -> Driven:
        with self._reading() as connection:
            return leases.driven_until(
                connection, self.run_id, self._clock(), driven=self._is_driven()
            )

    def _is_driven(self) -> bool:
        return False

    def latest(self) -> Latest | None:
        return self._read(requests.latest)

    def notes(self) -> list[str]:
        with self._reading() as connection:
            query = "SELECT message FROM notes WHERE run_id = :run ORDER BY number"
            return connection.values(query, run=self.run_id)

    def unanswered(self) -> list[Unanswered]:
        return self._read(requests.unanswered)

    def unsettled(self) -> list[Unsettled]:
        return self._read(requests.unsettled)

    def going_on(self) -> dict[int, tuple[Job, ...]]:
        return self._read(requests.going_on)

    def by_stage(self) -> Mapping[int, StageFigures]:
        return self._read(figures.by_stage)

    def last_end(self, stage: int) -> float | None:
        return self._read(figures.last_end, stage)

    def remembered(self, name: str) -> Json:
        return self._read(answers.remembered, name)

    def checks(self) -> list[CheckResult]:
        return self._read(answers.checks_of)

    def rounds(self, stage: int) -> list[Round]:
        return self._read(answers.rounds_of, stage)

    def totals(self) -> Totals:
        return self._read(figures.totals)

    def failures(self) -> list[Failure]:
        with self._reading() as connection:
            good = chains.made_good(connection, self.run_id)
            return figures.failures(connection, self.run_id, good)

    def made_good(self) -> Mapping[int, int]:
        return self._read(chains.made_good_in)

    def reached(self) -> frozenset[int]:
        return self._read(answers.reached)

    def chain(self) -> Chain | None:
        return self._read(chains.chain_of)

    def links(self, limit: int) -> list[JobLink]:
        return self._read(figures.links, limit)
