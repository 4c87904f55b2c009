"""A run that is recorded step by step, as a driver would, without sending anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.adapters.journal.writer import JournalWriter
from runner.execution.ports import Answer, Chunk, Observation
from runner.execution.seeds import internal_ids
from runner.model import Job, Outcome, RunRecord, SentEvent
from tests.support import CATALOG, FakeClock, make_plan, new_store, start_journal


def seed_of(number: int) -> str:
    return f"{number + 1},{base64.b64encode(bytes(10)).decode()}"


class Life:
    """A recorded run. `chunks`: those that were begun, by number."""

    def __init__(self, folder: Path, body: str, *, catalog: str = CATALOG, **more: Any) -> None:
        self.clock = FakeClock()
        self.began = self.clock.now
        self.store = new_store(folder, self.clock.time)
        self.plan = make_plan(folder, body, catalog=catalog)
        self.journal: JournalWriter = start_journal(self.store, self.plan, **more)
        self.chunks: list[Chunk] = []

    @classmethod
    def of(cls, made: Any, journal: JournalWriter) -> Life:
        """Return the life of another run of the same state and plan."""
        life = object.__new__(cls)
        life.clock, life.began, life.store, life.plan = (
            made.clock,
            made.began,
            made.store,
            made.plan,
        )
        life.journal, life.chunks = journal, []
        return life

    @property
    def record(self) -> RunRecord:
        return self.store.find(self.journal.run_id)

    def begin(
        self, stage: int, positions: Sequence[int], batch: int = 1, after: float = 0
    ) -> Chunk:
        """Begin a request."""
        self.clock.now += after
        of = self.plan.stages[stage - 1]
        first = sum(one.total for one in self.plan.stages[: stage - 1])
        lines = [line for page in of.items.lines() for line in page]
        chunk = Chunk(
            len(self.chunks),
            stage,
            batch,
            of.operation,
            of.event,
            seed_of(len(self.chunks)),
            b"[]",
            positions,
            [lines[position - first] for position in positions],
            self.clock.now,
            self.began,
        )
        assert self.journal.begin_chunk(chunk, self.journal.control())
        self.chunks.append(chunk)
        return chunk

    def take(
        self, stage: int, positions: Sequence[int], batch: int = 1, after: float = 0, **how: Any
    ) -> Chunk:
        """Make a request whose events are all accepted, except a last one that is `refused`."""
        chunk = self.begin(stage, positions, batch, after)
        self.answer(chunk, **how)
        return chunk

    def answer(self, chunk: Chunk, refused: str | None = None, *, resent: bool = False) -> None:
        count = len(chunk.positions) - (refused is not None)
        ids = tuple(internal_ids(chunk.seed, range(count)))
        self.journal.accept(chunk, Answer(ids, refused, resent=resent))
        self.journal.settle()

    def see(
        self,
        position: int,
        outcome: Outcome | None,
        message: str | None = None,
        *,
        jobs: Sequence[Job] = (),
        after: float = 0,
    ) -> None:
        """Record what a poll of an event's jobs found."""
        self.clock.now += after
        chunk = next(one for one in self.chunks if position in one.positions)
        at = chunk.positions.index(position)
        event = SentEvent(
            position,
            chunk.stage,
            chunk.operation,
            chunk.items[at],
            chunk.event,
            chunk.number,
            "",
            chunk.sent_at,
        )
        self.journal.record([Observation(event, tuple(jobs), outcome, message)])
