"""Submit a saved plan of 1,000,000 events to the workers: how soon the command is done.

Ours is `run --detach` from start to end, on a fresh state and against a server that says that a
worker listens: compare the files with what was reviewed, preview, preflight, lock, record the run,
send one event. The limit is a process that reads the same saved plan with our own reader and
records it with our own store; the peer is one that has SQLite copy the same bytes.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from starlette.types import ASGIApp

from runner.adapters.embedded.server import create_app
from runner.adapters.worker.request import EVENT
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import Figure, Goal, Sizes, in_turn, paired, say
from tests.benchmarks.process import backfill, python, run, script
from tests.cli.conftest import served

_EVENTS, _ROUNDS = 1_000_000, 5
_STARTS = "capture/repository.sync"
_COPY = """\
import sqlite3, sys
connection = sqlite3.connect(sys.argv[2])
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=NORMAL")
connection.execute("ATTACH ? AS written", [sys.argv[1]])
connection.execute("CREATE TABLE blocks AS SELECT * FROM written.blocks")
connection.commit()
"""


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    events = sizes.of(_EVENTS)
    with served(_server()) as url:
        saved = _saved(folder, events, url)
        submission = _Submission(folder, saved)
        ours, limit, peer = in_turn(
            sizes.rounds(_ROUNDS), submission.ours, submission.stored, submission.copied
        )
    work, goal = f"submit a saved plan of {events:,}", Goal("at most", 2)
    return [
        Figure(work, "s", "reading and storing it", paired(ours, limit), goal),
        Figure(work, "s", "SQLite copying it", paired(ours, peer), kind="peer"),
    ]


class _Submission:
    """Seconds of whole processes, each with a state of its own."""

    def __init__(self, folder: Path, saved: Path) -> None:
        self._folder, self._saved, self._numbers = folder, str(saved), count()
        self._source = self._state()
        self._run(script("stored.py", self._saved, self._source))

    def ours(self) -> float:
        state = f"sqlite:///{self._state()}"
        return self._run(backfill("run", "--detach", self._saved, "--yes", "--state", state))

    def stored(self) -> float:
        return self._run(script("stored.py", self._saved, self._state()))

    def copied(self) -> float:
        return self._run(python(_COPY, self._source, self._state()))

    def _run(self, command: list[str]) -> float:
        return run(command, self._folder).wall

    def _state(self) -> str:
        return str(self._folder / f"state-{next(self._numbers)}.db")


def _saved(folder: Path, events: int, url: str) -> Path:
    say(f"  saving a plan of {events:,} events")
    plan, saved = plan_send(folder, events, 5_000), folder / "plan.json"
    run(backfill("plan", str(plan), "--target", url, "--out", str(saved)), folder)
    return saved


def _server() -> ASGIApp:
    """Return a server that has functions for the workers' event and for the plan's events."""
    return create_app(dict.fromkeys((EVENT, _STARTS), lambda _: None))
