"""Resuming a run of 1,000,000 events that was killed at half: how soon its next request is made.

From the start of the process to the request's arrival at a server: Python and its imports, the
plan's files compared with what was sent, the plan and what is open read from the journal, the
server asked whether jobs can be followed, and the events made and journaled. A scan is one query
that reads every row of the run in `outcomes` and `chunks`, a column of each that no index has, by
Python's own sqlite3 in a process of its own, too. The scan alone, without Python's start, is in the
second line, and what ours takes inside the process.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.adapters.embedded.server import create_app
from runner.adapters.journal.leases import holding
from runner.adapters.journal.store import Store
from runner.cli.inputs import unchanged
from tests.benchmarks.held import Begun, Held
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import (
    BenchmarkFailed,
    Figure,
    Goal,
    Sizes,
    in_turn,
    paired,
    say,
    timed,
)
from tests.benchmarks.process import backfill, python, run
from tests.benchmarks.written import RUN, half_done
from tests.cli.conftest import served

_EVENTS, _ROUNDS = 1_000_000, 5
_SCAN = (
    "SELECT (SELECT sum(length(item)) FROM outcomes WHERE run_id = ?1),"
    " (SELECT sum(length(seed)) FROM chunks WHERE run_id = ?1)"
)
_SCAN_IT = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    f" connection.execute({_SCAN!r}, [{RUN!r}]).fetchone()"
)


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    events = sizes.of(_EVENTS)
    with killed_at_half(folder, events, folder / "killed.db") as resumed:
        ours, scan, inside, bare = in_turn(
            sizes.rounds(_ROUNDS),
            lambda: resumed.first_request().seconds,
            lambda: run(python(_SCAN_IT, str(resumed.state)), folder).wall,
            resumed.ready,
            resumed.scan,
        )
    work = f"resume at {events // 2:,} of {events:,}"
    goal = Goal("at most", 3)
    return [
        Figure(f"{work}, first request", "s", "a scan, as a process", paired(ours, scan), goal),
        Figure(f"{work}, ready to send", "s", "a scan, by itself", paired(inside, bare)),
    ]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to resume. Each time on a fresh copy of its journal, `state`."""

    folder: Path
    journal: Path
    server: Held

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    def first_request(self) -> Begun:
        self._copy()
        state = f"sqlite:///{self.state}"
        command = backfill("resume", "latest", "--yes", "--state", state)
        return self.server.first_request(command, self.folder)

    def ready(self) -> float:
        """Seconds, in this process, for what the journal and the files are asked before that."""
        self._copy()
        return timed(self._make_ready)

    def scan(self) -> float:
        self._copy()
        connection = sqlite3.connect(self.state)
        try:
            return timed(lambda: connection.execute(_SCAN, [RUN]).fetchone())
        finally:
            connection.close()

    def _make_ready(self) -> None:
        with Store(str(self.state)) as store:
            record = store.find(RUN)
            kept = store.plan_of(record)
            if kept is None or not unchanged(kept.inputs):
                raise BenchmarkFailed("the plan is not as it was")
            with holding(store.lock(record.plan, record.address, RUN)) as lease:
                journal = store.reopen(record, lease, kept)
                if journal.unanswered() or journal.unsettled() or journal.failures():
                    raise BenchmarkFailed("the run was not killed between two requests")
                journal.failed_in(1)
                next(kept.stages[0].items.raw(journal.next_position()))

    def _copy(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.state.with_name(self.state.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self.journal, self.state)
        with self.state.open("rb") as copy:  # else who is measured waits for the copy to be written
            os.fsync(copy.fileno())


@contextmanager
def killed_at_half(folder: Path, events: int, journal: Path) -> Iterator[Resumed]:
    path = plan_send(folder, events, 5_000)
    server = Held(create_app({}))
    with served(server) as url:
        say(f"  writing the journal of {events // 2:,} events")
        half_done(path, journal, url, events // 2)
        yield Resumed(folder, journal, server)
