"""Follow 100,000 jobs to their end: how many requests that takes, and how much memory.

The server is the embedded one, on a loopback port; its handler does nothing. GETs are counted from
the first page of one sweep's list of jobs to that of the next sweep, and the figure is the sweep
with the most; it should need at most one request per 50 events. The memory is that of the process
that sends and follows, not of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from runner.adapters.embedded.server import create_app
from tests.benchmarks.inputs import plan_followed
from tests.benchmarks.measure import Figure, Goal, Sizes, say
from tests.benchmarks.process import Process, backfill, run
from tests.cli.conftest import served

_EVENTS, _EVENTS_A_QUESTION, _MEMORY = 100_000, 50, 300


@dataclass(slots=True)
class Counting:
    """An ASGI application that counts the requests about jobs, by sweep."""

    app: ASGIApp
    sweeps: list[int] = field(default_factory=lambda: [0])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            query = scope["query_string"]
            # A sweep starts with the first page of unfinished jobs.
            if b"status=QUEUED" in query and b"cursor" not in query:
                self.sweeps.append(0)
            self.sweeps[-1] += 1
        await self.app(scope, receive, send)


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    events = sizes.of(_EVENTS)
    process, sweeps = follow(folder, events, folder / "state.db")
    say(f"  {len(sweeps) - 1} sweeps, {sum(sweeps):,} questions, in {process.wall:.1f}s")
    work = f"follow {events:,} jobs"
    most, memory = (max(sweeps), events / _EVENTS_A_QUESTION), (process.peak_mb, _MEMORY)
    return [
        Figure(
            f"{work}, questions a sweep",
            "requests",
            f"1 for {_EVENTS_A_QUESTION} events",
            (most,),
            Goal("at most", 1),
            "bound",
        ),
        Figure(
            f"{work}, peak memory",
            "MB",
            f"{_MEMORY} MB",
            (memory,),
            Goal("at most", 1),
            "bound",
        ),
    ]


def follow(folder: Path, events: int, state: Path) -> tuple[Process, list[int]]:
    """Send events and follow their jobs; return the process, and the requests of each sweep."""
    plan = plan_followed(folder, events).name

    async def sync(_: Mapping[str, Any]) -> None:
        pass

    target = Counting(create_app({"app/sync": sync}))
    with served(target) as url:
        process = run(
            backfill("run", plan, "--target", url, "--state", f"sqlite:///{state}"), folder
        )
    return process, target.sweeps
