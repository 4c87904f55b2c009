"""Measure what the journal costs a run of 100,000 events, against SQLite's bulk insert.

This runs inside one process, on a fresh file each time. Ours: the journal's own calls, each in its
own transaction, written ahead: the plan with its events, then for each request of 2,500 events the
control requests, the request, and the answer; and in a second figure, the jobs and outcomes of
those events. SQLite's: one `executemany` in one transaction into the same tables, by the standard
library: a row of `outcomes` per event; and in the second figure, the same rows that ours writes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from runner.adapters.journal.store import Store
from runner.execution.context import RequestLimits
from tests.benchmarks import written
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import Figure, Sizes, in_turn, timed

_EVENTS, _REQUEST, _ROUNDS = 100_000, 2_500, 5
_ADDRESS = "http://127.0.0.1:1"
_OUTCOMES = "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_JOBS = "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_LIMIT = "SQLite's executemany"


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    benchmark = _Benchmark(folder, sizes.of(_EVENTS))
    ours, theirs = in_turn(sizes.rounds(_ROUNDS), benchmark.ours, benchmark.theirs)
    work = f"journal of {sizes.of(_EVENTS):,} events"
    sent = tuple((one[0], other[0]) for one, other in zip(ours, theirs, strict=True))
    followed = tuple((one[1], other[1]) for one, other in zip(ours, theirs, strict=True))
    return [
        Figure(f"{work}, sent", "s", _LIMIT, sent),
        Figure(f"{work}, their jobs", "s", f"{_LIMIT}, the same rows", followed),
    ]


class _Benchmark:
    def __init__(self, folder: Path, events: int) -> None:
        self.folder, self.numbers = folder, count()
        self.plan = written.planned(plan_send(folder, events, 5_000))
        self.chunks = written.chunks(self.plan, events, RequestLimits(events=_REQUEST))
        self.answers = written.answers(self.chunks)
        self.observations = [
            written.completed(chunk, answer, _ADDRESS)
            for chunk, answer in zip(self.chunks, self.answers, strict=True)
        ]

    def ours(self) -> tuple[float, float]:
        """Return the seconds for what is sent, and for jobs and outcomes."""
        began = time.perf_counter()
        with (
            Store(self._file("ours")) as store,
            written.started(store, self.plan, _ADDRESS) as journal,
        ):
            for chunk, answer in zip(self.chunks, self.answers, strict=True):
                written.send(journal, chunk, answer)
            journal.settle()
            sent = time.perf_counter()
            for observations in self.observations:
                journal.record(observations)
            return sent - began, time.perf_counter() - sent

    def theirs(self) -> tuple[float, float]:
        now = time.time()
        events = [
            observation.event for observations in self.observations for observation in observations
        ]
        jobs = [
            observation.jobs[0]
            for observations in self.observations
            for observation in observations
        ]
        outcomes = [
            (written.RUN, event.position, event.chunk, event.item, "completed", None, None, now)
            for event in events
        ]
        rows = [
            (written.RUN, job.id, event.position, job.function, job.status, None, job.url, now)
            for event, job in zip(events, jobs, strict=True)
        ]
        return (
            self._insert((_OUTCOMES, outcomes)),
            self._insert((_OUTCOMES, outcomes), (_JOBS, rows)),
        )

    def _insert(self, *given: tuple[str, Sequence[tuple[object, ...]]]) -> float:
        file = self._file("theirs")
        Store(file).close()  # creates the tables
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA synchronous=NORMAL")  # like the journal

        def insert() -> None:
            for statement, rows in given:
                connection.executemany(statement, rows)
            connection.commit()

        try:
            return timed(insert)
        finally:
            connection.close()

    def _file(self, name: str) -> str:
        return str(self.folder / f"{name}-{next(self.numbers)}.db")
