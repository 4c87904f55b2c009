"""Random schedules of faults, and runs that are resumed until they have got through them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from runner.adapters.journal.store import Store
from runner.errors import BackfillError
from runner.execution.context import Ending
from runner.execution.run import execute
from runner.model import ExecutionPlan
from tests.support import (
    Fault,
    StandIn,
    answers,
    connect,
    let_go,
    lost_after,
    lost_before,
    reopen,
    start_journal,
)


def _too_large(_server: StandIn, request: httpx.Request) -> httpx.Response | None:
    """A 413 for a single event would be final, and rightly so."""
    return httpx.Response(413) if len(json.loads(request.content)) > 1 else None


FAULTS: tuple[Fault, ...] = (
    lost_before,
    lost_after,
    answers(500),
    answers(502, "<html>Bad Gateway</html>"),
    answers(503),
    answers(429),
    answers(429, **{"retry-after": "2"}),
    answers(200, "garbage"),
    answers(404, "<html>"),
    _too_large,
    answers(302, location="http://elsewhere.test"),
)
_WRITES = ("begin_chunk", "accept", "settle", "record", "withdraw")


class Crash(Exception):
    """The process dies."""


class Mortal:
    """A journal whose process sometimes dies before or after a write."""

    def __init__(self, journal: Any, random: Random, chance: float) -> None:
        self._journal, self._random, self._chance = journal, random, chance

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._journal, name)
        if name not in _WRITES:
            return method

        def call(*arguments: Any) -> Any:
            fate = self._random.random()
            if fate < self._chance:
                raise Crash(name)
            result = method(*arguments)
            if fate > 1 - self._chance:
                raise Crash(name)
            return result

        return call


def attempt(server: StandIn, plan: ExecutionPlan, journal: Any, seed: int) -> Ending | None:
    """Drive a run in one process; return None if that ended with an error, or died."""

    async def main() -> Ending:
        async with connect(server, journal, seed=seed) as context:
            return await execute(plan, context)

    try:
        return asyncio.run(main())
    except (BackfillError, Crash):
        return None


def come_through(
    store: Store,
    plan: ExecutionPlan,
    random: Random,
    *,
    faulty: float,
    deadly: float,
    run_id: str = "RUN1",
) -> tuple[StandIn, int]:
    """Drive a run to its end; return the server, and how many processes it took."""
    server = StandIn()
    let_go(store)
    journal = start_journal(store, plan, run_id)
    for process in range(1, 10_000):
        server.faults = [
            random.choice(FAULTS) if random.random() < faulty else None for _ in range(60)
        ]
        ending = attempt(server, plan, Mortal(journal, random, deadly), random.randrange(1 << 30))
        if ending and ending.how == "complete":
            return server, process
        journal = reopen(store, plan, run_id)
    raise AssertionError("it does not come through")


def lost_and_doubled(server: StandIn, plan: ExecutionPlan, run_id: str = "RUN1") -> tuple[int, int]:
    """Count by what took effect: each event of the plan should have done so once."""
    wanted = Counter(f"{run_id}:{event.operation}:{event.item}" for event in plan.planned())
    found = Counter(server.effects)
    return (wanted - found).total(), (found - wanted).total()
