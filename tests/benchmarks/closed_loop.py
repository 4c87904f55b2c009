"""Limit what is in flight: 200 jobs of half a second on eight workers, `timeout: 5s`.

The server is the embedded one, on a loopback port, with its queue and eight workers. All jobs must
complete, since their timeout counts from their start; and with `max_in_flight` at the number of
workers, the run should take hardly longer than the workers need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import runner
from runner.adapters.embedded.engine import CONCURRENCY
from runner.adapters.embedded.server import create_app
from tests.benchmarks.measure import Figure, Goal, Sizes
from tests.benchmarks.process import backfill, run
from tests.cli.conftest import served
from tests.support import repos, write_plan

_JOBS, _SECONDS = 200, 0.5


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    jobs = sizes.of(_JOBS)
    least = jobs * _SECONDS / CONCURRENCY
    completed, _ = _run(folder / "all", jobs, "")
    capped, seconds = _run(folder / "capped", jobs, f"max_in_flight: {CONCURRENCY}\n")
    work = f"{jobs} jobs of {_SECONDS}s on {CONCURRENCY} workers, `timeout: 5s`"
    every, whole = Goal("at least", 1), Goal("at most", 1.15)
    pairs = ((float(completed), float(jobs)), (float(capped), float(jobs)))
    return [
        Figure(f"{work}, completed", "jobs", "all of them", pairs, every, "bound"),
        Figure(
            f"{work}, max_in_flight {CONCURRENCY}",
            "s",
            "what the workers need at least",
            ((seconds, least),),
            whole,
            "bound",
        ),
    ]


def _run(folder: Path, jobs: int, cap: str) -> tuple[int, float]:
    """Return how many jobs completed, and in how many seconds."""

    async def sync(_: Mapping[str, Any]) -> None:
        await asyncio.sleep(_SECONDS)

    folder.mkdir()
    body = f"{repos(jobs)}operations: [{{use: sync, timeout: 5s}}]\nbatch_size: 200\n{cap}"
    plan, state = write_plan(folder, body).name, f"sqlite:///{folder / 'state.db'}"
    with served(create_app({"app/sync": sync})) as url:
        run(backfill("run", plan, "--target", url, "--state", state), folder)
    with runner.Session(state=state) as session:
        found = session.status("latest")
    seconds = (found.record.ended_at or 0.0) - found.record.started_at
    return sum(stage.completed for stage in found.stages), seconds
