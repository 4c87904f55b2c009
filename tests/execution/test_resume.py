"""A run that dies at any boundary and is resumed: each event takes effect once, none is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.adapters.journal.reader import JournalReader
from runner.adapters.journal.writer import JournalWriter
from runner.errors import TargetError
from runner.execution.context import Ending, RunOptions
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.execution.seeds import make_seed
from runner.model import ExecutionPlan
from tests.depth import depth
from tests.support import (
    CATALOG,
    FakeClock,
    StandIn,
    answers,
    close_stores,
    connect,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

pytestmark = pytest.mark.usefixtures("state")

BODY = repos(7) + "operations: [sync, embed]\nbatch_size: 3\n"
_BOUNDARIES = ("begin_chunk", "accept", "record", "withdraw")


class Crash(Exception):
    """The process dies."""


class Dying:
    """A journal that dies before or after its n-th write."""

    def __init__(self, journal: JournalWriter, at: int, *, after: bool) -> None:
        self._journal, self._left, self._after = journal, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)
        if name not in _BOUNDARIES:
            return method

        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Crash(name)
            result = method(*arguments)
            if self._left == 0:
                raise Crash(name)
            return result

        return call


async def _execute(server: StandIn, plan: ExecutionPlan, journal: Any, seed: int) -> None:
    async with connect(server, journal, seed=seed) as context:
        await execute(plan, context)


def _resume(folder: Path, server: StandIn, plan: ExecutionPlan) -> JournalWriter:
    journal = reopen(new_store(folder), plan)
    asyncio.run(_execute(server, plan, journal, seed=99))
    return journal


@settings(
    max_examples=depth(12, 120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.integers(1, 30), after=st.booleans(), bad=st.sampled_from([set(), {"o/r0"}, {"o/r4"}]))
def test_killed_at_any_write_and_resumed_each_event_takes_effect_once(
    tmp_path_factory: pytest.TempPathFactory, at: int, after: bool, bad: set[str]
) -> None:
    folder, server = tmp_path_factory.mktemp("resume"), StandIn(bad=bad)
    plan = make_plan(folder, BODY + "on_failure: continue\n")
    dying = Dying(start_journal(new_store(folder), plan), at, after=after)
    try:
        asyncio.run(_execute(server, plan, dying, seed=1))
    except Crash:
        journal: JournalReader = _resume(folder, server, plan)
    else:
        store = new_store(folder)
        journal = store.reading(store.find("RUN1"))
    expected = [
        f"RUN1:{event.operation}:{event.item}" for event in plan.planned() if event.item not in bad
    ]
    assert server.effects == expected, "each takes effect once, in order"
    totals = journal.totals()
    assert (totals.accepted, totals.rejected) == (len(expected), 14 - len(expected))
    assert totals.completed == len(expected)
    close_stores()


def test_a_request_whose_answer_was_lost_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    server = StandIn()
    plan = make_plan(tmp_path, BODY)
    dying = Dying(start_journal(new_store(tmp_path), plan), 2, after=False)
    with pytest.raises(Crash):
        asyncio.run(_execute(server, plan, dying, seed=1))
    journal = _resume(tmp_path, server, plan)
    assert server.bodies[0] == server.bodies[1], "same seed, same bytes"
    assert journal.totals().deduplicated == 3


def test_a_batch_keeps_its_bounds_across_a_resume(tmp_path: Path) -> None:
    """Batches keep their reviewed sizes, however often the run is interrupted."""
    server = StandIn(bad={"o/r1"})
    plan = make_plan(tmp_path, BODY + "on_failure: continue\n")
    dying = Dying(start_journal(new_store(tmp_path), plan), 2, after=True)
    with pytest.raises(Crash):
        asyncio.run(_execute(server, plan, dying, seed=1))
    _resume(tmp_path, server, plan)
    sizes = [len(post) for post in server.posts]
    assert sizes == [3, 1, 3, 1, 3, 1, 3, 1], "the rest of the first batch, then whole ones"


def test_a_finished_run_sends_nothing_more(tmp_path: Path) -> None:
    server = StandIn()
    plan = make_plan(tmp_path, BODY)
    asyncio.run(_execute(server, plan, start_journal(new_store(tmp_path), plan), seed=1))
    before = len(server.bodies)
    _resume(tmp_path, server, plan)
    assert len(server.bodies) == before


def test_jobs_that_died_with_an_embedded_target_are_started_again(tmp_path: Path) -> None:
    """A job that had ended before is not run again."""
    first = StandIn(slow_jobs={"o/r1"})
    plan = make_plan(tmp_path, repos(3) + "operations: [{use: sync, timeout: 1s}]\n")
    asyncio.run(_execute(first, plan, start_journal(new_store(tmp_path), plan), seed=1))
    journal = reopen(new_store(tmp_path), plan)
    from random import Random

    journal.requeue(lambda: make_seed(1_750_000_000, Random(5)))  # noqa: S311
    second = StandIn(first_run=100)
    asyncio.run(_execute(second, plan, journal, seed=2))
    assert second.effects == ["RUN1:sync:o/r1"]
    totals = journal.totals()
    assert (totals.accepted, totals.jobs, totals.deduplicated) == (3, 3, 0)
    assert journal.unsettled() == []


def test_a_clean_stop_ends_after_the_request_in_flight(tmp_path: Path) -> None:
    server, stop = StandIn(), asyncio.Event()
    plan = make_plan(tmp_path, BODY, catalog=CATALOG)
    journal = start_journal(new_store(tmp_path), plan)

    def stopping(_server: StandIn, _request: object) -> None:
        stop.set()

    server.faults = [stopping]

    async def main() -> Ending:
        async with connect(server, journal, stop=stop) as context:
            return await execute(plan, context)

    assert asyncio.run(main()).how == "stopped"
    assert len(server.received) == 3
    assert journal.unanswered() == [], "the request in flight was finished and written down"
    _resume(tmp_path, server, plan)
    assert len(server.effects) == 14


@pytest.mark.parametrize("wrong", ["failing", "bad"])
def test_a_plan_that_stops_on_a_failure_still_stops_when_resumed(
    tmp_path: Path, wrong: str
) -> None:
    server = StandIn()
    setattr(server, wrong, {"o/r1"})
    plan = make_plan(tmp_path, BODY)
    asyncio.run(_execute(server, plan, start_journal(new_store(tmp_path), plan), seed=1))
    before = len(server.received)
    assert before < 14
    journal = _resume(tmp_path, server, plan)
    assert len(server.received) == before

    async def past_failures() -> None:
        async with connect(server, journal, seed=5) as context:
            await execute(plan, replace(context, options=RunOptions(past_failures=True)))

    server.failing, server.bad = set(), set()
    asyncio.run(past_failures())
    assert journal.next_position() == 14


def test_a_lost_request_that_is_too_large_when_made_again_is_cut_anew(tmp_path: Path) -> None:
    server = StandIn(faults=[answers(503)] * 50)
    plan = make_plan(tmp_path, BODY)
    with pytest.raises(TargetError):
        asyncio.run(_execute(server, plan, start_journal(new_store(tmp_path), plan), seed=1))
    server.faults = [answers(413)]
    _resume(tmp_path, server, plan)
    assert len(server.effects) == len(set(server.effects)) == 14


def test_a_run_that_is_carried_on_keeps_its_pace(tmp_path: Path) -> None:
    server, clock = StandIn(), FakeClock()
    plan = make_plan(tmp_path, repos(6) + "operations: [fire]\nbatch_size: 3\ndelay: 9s\n")
    dying = Dying(start_journal(new_store(tmp_path), plan), 2, after=True)
    with pytest.raises(Crash):
        asyncio.run(_execute(server, plan, dying, seed=1))
    journal = reopen(new_store(tmp_path), plan)

    async def main() -> None:
        async with connect(server, journal, clock=clock, follow=False) as context:
            await execute(plan, context)

    asyncio.run(main())
    assert clock.slept == [9.0]


def test_a_stopped_run_with_open_jobs_is_incomplete_whatever_has_failed(tmp_path: Path) -> None:
    server, stop = StandIn(failing={"o/r0"}, slow_jobs={"o/r1"}), asyncio.Event()
    plan = make_plan(tmp_path, repos(2) + "operations: [sync]\n")
    journal = start_journal(new_store(tmp_path), plan)

    async def main() -> Ending:
        async with connect(server, journal, stop=stop) as context:
            task = asyncio.create_task(execute(plan, context))
            while not journal.failures():  # noqa: ASYNC110
                await asyncio.sleep(0)
            stop.set()
            return await task

    ending = asyncio.run(main())
    summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
    assert summary.status == "incomplete"
