"""Resume a run of 1,000,000 events that was killed at half: how soon it makes its next request.

Measured is the time from when the command has imported everything to the request's arrival at a
server: the plan's files are compared with what was sent, the plan and open events read from the
journal, a client made, the server asked whether jobs can be followed, the events made and
journaled. A scan is one query that reads every row of the run in `outcomes` and `chunks`, with a
column of each that no index has, by Python's own sqlite3. The second line includes Python's start
and all imports on both sides: it is what a user waits, but says little about the journal, since a
small run takes nearly as long.
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
from tests.benchmarks.held import Begun, Held
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import (
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
# Note what the command imports, wherever it does: each module is looked up here first.
_NOTED = (
    "import sys; note = open(sys.argv.pop(1), 'w');"
    " look = lambda name, *_: print(name, file=note, flush=True);"
    " sys.meta_path.insert(0, type('Noted', (), {'find_spec': staticmethod(look)}));"
    " from runner.cli.main import main; main()"
)
_LOADED = (
    "import sys, time; from contextlib import suppress; from importlib import import_module;"
    " from pathlib import Path; from runner.cli.main import main\n"
    "for name in Path(sys.argv.pop(1)).read_text().split():\n"
    "    with suppress(ImportError): import_module(name)\n"
    "Path(sys.argv.pop(1)).write_text(repr(time.perf_counter())); main()"
)


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    events = sizes.of(_EVENTS)
    with killed_at_half(folder, events, folder / "killed.db") as resumed:
        loaded, scan, whole, process = in_turn(
            sizes.rounds(_ROUNDS),
            resumed.loaded,
            resumed.scan,
            lambda: resumed.first_request().seconds,
            lambda: run(python(_SCAN_IT, str(resumed.state)), folder).wall,
        )
    work = f"resume at {events // 2:,} of {events:,}"
    goal = Goal("at most", 2)
    return [
        Figure(f"{work}, first request", "s", "a scan", paired(loaded, scan), goal),
        Figure(f"{work}, whole command", "s", "a scan, as a process", paired(whole, process)),
    ]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to resume, each time with a fresh copy of its journal, `state`."""

    folder: Path
    journal: Path
    server: Held

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    def first_request(self) -> Begun:
        self._copy()
        return self.server.first_request(backfill(*self._resume), self.folder)

    def loaded(self) -> float:
        """Return the seconds from when all is imported to the first request."""
        imports, note = self.folder / "imports", self.folder / "loaded"
        if not imports.exists():
            self._copy()
            noted = python(_NOTED, str(imports), *self._resume)
            self.server.first_request(noted, self.folder)
        self._copy()
        loaded = python(_LOADED, str(imports), str(note), *self._resume)
        begun = self.server.first_request(loaded, self.folder)
        return begun.process.began + begun.seconds - float(note.read_text(encoding="utf-8"))

    def scan(self) -> float:
        self._copy()
        connection = sqlite3.connect(self.state)
        try:
            return timed(lambda: connection.execute(_SCAN, [RUN]).fetchone())
        finally:
            connection.close()

    @property
    def _resume(self) -> list[str]:
        return ["resume", "latest", "--yes", "--state", f"sqlite:///{self.state}"]

    def _copy(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.state.with_name(self.state.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self.journal, self.state)
        with self.state.open("rb") as copy:  # else the measured process waits for the copy
            os.fsync(copy.fileno())


@contextmanager
def killed_at_half(folder: Path, events: int, journal: Path) -> Iterator[Resumed]:
    path = plan_send(folder, events, 5_000)
    server = Held(create_app({}))
    with served(server) as url:
        say(f"  writing the journal of {events // 2:,} events")
        half_done(path, journal, url, events // 2)
        yield Resumed(folder, journal, server)
