"""The time between two sends of a stage is its delay, whatever happens between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.adapters.journal.writer import JournalWriter
from runner.execution.context import Ending, RequestLimits, RunContext, RunOptions
from runner.execution.pacing import Checkpoint, Step
from runner.execution.ports import NOTHING, About, Guard, Resolved
from runner.execution.run import execute
from runner.model import DatabaseClock, ExecutionPlan, Json, Observer, Query, Stage, Table
from tests.depth import depth
from tests.support import (
    CATALOG,
    HoldsOnce,
    Recorder,
    StandIn,
    close_stores,
    connect,
    let_go,
    lost_after,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)
from tests.virtual_time import VirtualClock

DRAIN = """\
  drain:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    until: {query: backlog, expect: {column: pending, at_most: 0}}
"""


@dataclass
class Timed(StandIn):
    """Records when each request came, and which events it had."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    came: list[tuple[float, str, int]] = field(default_factory=list)  # when, event, how many
    seconds: float = 0.0  # the time it takes to answer

    async def handle(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
        answer = super().handle(request)
        await asyncio.sleep(self.seconds if request.method == "POST" else 0.0)
        return answer

    def finish(self) -> None:
        """Complete the running jobs."""
        for run in (run for runs in self._runs.values() for run in runs):
            run |= {"status": "Completed", "ended_at": "2026-01-01T00:00:00Z"}

    def accept(self, request: httpx.Request) -> httpx.Response:
        answer = super().accept(request)
        self.came.append((self.clock.now, self.posts[-1][0]["name"], len(self.posts[-1])))
        return answer


@dataclass
class Backlog:
    """The user's database: each event reduces the backlog, which gives one event per item and
    round."""

    server: Timed
    events: int

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        assert query.ask == "backlog"
        return Table(("pending",), ((self.events - len(self.server.received),),))

    def clock(self, name: str | None) -> DatabaseClock:
        raise AssertionError(f"no time is compared in {name}")

    def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:  # noqa: ARG002
        return ()


@dataclass
class SameItems:
    """Resolves each round to the items of the plan."""

    plan: ExecutionPlan

    async def resolve(self, stage: Stage, _about: About = NOTHING) -> Resolved:
        return Resolved(self.plan.stages[stage.number - 1])


@dataclass
class World:
    """A run that is driven several times, until it is stopped or ends."""

    folder: Path
    plan: ExecutionPlan
    limits: RequestLimits = field(default_factory=RequestLimits)
    rounds: int = 0
    guards: Sequence[Guard] = ()
    observer: Observer = field(default_factory=Recorder)
    clock: VirtualClock = field(default_factory=VirtualClock)
    server: Timed = field(init=False)
    journal: JournalWriter = field(init=False)
    driven_from: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = Timed(clock=self.clock)
        self._backlog = Backlog(self.server, self.rounds * self.plan.events)
        self._items, self._begun = SameItems(self.plan), False

    def drive(
        self, seconds: float = 1e9, step: Callable[[RunContext], Step] | None = None
    ) -> tuple[Ending, Step | None]:
        store = new_store(self.folder, self.clock.time)
        if self._begun:
            self.plan = store.plan_of(store.find("RUN1"))
        begin = reopen if self._begun else start_journal
        self.journal, self._begun = begin(store, self.plan), True
        self.driven_from.append(self.clock.now)
        driven = self.clock.run(self._drive(self.journal, seconds, step))
        let_go(store)
        return driven

    async def _drive(
        self, journal: Any, seconds: float, step: Callable[[RunContext], Step] | None
    ) -> tuple[Ending, Step | None]:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        clock: Any = self.clock
        opened = connect(
            self.server,
            journal,
            clock=clock,
            observer=self.observer,
            stop=stop,
            seed=len(self.driven_from),  # two processes never make the same ids
        )
        async with opened as context:
            context = replace(
                context,
                guards=self.guards,
                options=RunOptions(limits=self.limits),
                database=self._backlog,
                resolver=self._items,
            )
            context = replace(context, step=step and step(context))
            return await execute(self.plan, context), context.step

    def drive_in_steps(self, budgets: Sequence[float], late: float, put_back: float = 0.0) -> None:
        """Drive the run as a worker does: step by step, each begun when the engine wakes it.
        `put_back`: seconds that the clock goes back after the first step."""
        before: Checkpoint | None = None
        for number in range(1_000):
            made = before

            def step(context: RunContext, made: Checkpoint | None = made) -> Step:
                return Step(context.clock, context.stop, context.journal.keep_lease, before=made)

            ending, driven = self.drive(budgets[number % len(budgets)], step)
            if ending.how != "stopped":
                return
            assert driven
            before = driven.checkpoint()
            self.clock.now = max(self.clock.now, driven.until) + late
            self.clock.now -= 0.0 if number else put_back
        raise AssertionError("it never ends")

    def check(self, delay: float) -> None:
        """Check that each gap between batches is the delay, or the time in which nobody drove the
        run."""
        by_event: dict[str, list[tuple[float, int]]] = {}
        for at, event, events in self.server.came:
            by_event.setdefault(event, []).append((at, events))
        for came in by_event.values():
            for (last, _), (at, _) in pairwise(came):
                begun = [start for start in self.driven_from if last < start <= at]
                due = max([last + delay, *begun[-1:]])
                assert at == pytest.approx(due, abs=1e-3), (last, at, begun, came)


_BUDGETS = st.lists(st.sampled_from([0.5, 1.0, 2.9, 3.0, 7.0, 20.0]), min_size=1, max_size=4)


@st.composite
def plans(draw: st.DrawFn) -> tuple[str, float, int]:
    """A plan's body, its delay, and the number of queries until the backlog is empty."""
    delay = draw(st.sampled_from([2.0, 3.0, 9.5]))
    operation = draw(st.sampled_from(["fire", "sync", "drain"]))
    canary = draw(st.integers(0, 2)) if operation == "sync" else 0
    body = repos(draw(st.integers(1, 9))) + f"operations: [{operation}]\n"
    body += f"batch_size: {draw(st.integers(1, 4))}\ndelay: {delay}s\n"
    body += f"canary: {canary}\n" if canary else ""
    return body, delay, draw(st.integers(1, 3))


def world(folder: Path, body: str, rounds: int) -> World:
    return World(folder, make_plan(folder, body, catalog=CATALOG + DRAIN), rounds=rounds)


_PROPERTY = settings(
    max_examples=depth(10, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_PROPERTY
@given(plan=plans(), stops=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), max_size=3))
def test_batches_rounds_canaries_and_resumes_keep_the_delay(
    tmp_path_factory: pytest.TempPathFactory,
    plan: tuple[str, float, int],
    stops: Sequence[tuple[float, float]],
) -> None:
    body, delay, rounds = plan
    made = world(tmp_path_factory.mktemp("paced"), body, rounds)
    for seconds, standstill in stops:
        if made.drive(seconds)[0].how == "complete":
            break
        made.clock.now += standstill
    else:
        assert made.drive()[0].how == "complete"
    made.check(delay)
    close_stores()


@_PROPERTY
@given(plan=plans(), budgets=_BUDGETS, late=st.sampled_from([0.0, 0.2, 5.0]))
def test_a_workers_steps_keep_the_delay(
    tmp_path_factory: pytest.TempPathFactory,
    plan: tuple[str, float, int],
    budgets: Sequence[float],
    late: float,
) -> None:
    body, delay, rounds = plan
    made = world(tmp_path_factory.mktemp("paced"), body, rounds)
    made.drive_in_steps(budgets, late)
    assert len(made.server.received) == len(set(made.server.effects)) > 0
    made.check(delay)
    close_stores()


def test_a_resumed_run_keeps_the_jitter_of_its_delays(tmp_path: Path) -> None:
    body = repos(8) + "operations: [fire]\nbatch_size: 1\ndelay: {between: [2s, 9s]}\n"

    def sent(folder: str, stops: Sequence[float]) -> list[float]:
        (tmp_path / folder).mkdir()
        made = world(tmp_path / folder, body, 0)
        for seconds in (*stops, 1e9):
            made.drive(seconds)
        return [at - made.driven_from[0] for at, _, _ in made.server.came]

    whole = sent("whole", [])
    assert len({round(b - a, 3) for a, b in pairwise(whole)}) == 7, "each is another"
    assert sent("resumed", [0.5, 3.3, 11.0, 0.1]) == pytest.approx(whole, abs=1e-3)


def test_a_long_batch_that_a_step_has_begun_is_not_paced_within(tmp_path: Path) -> None:
    """Otherwise a batch of many requests would wait for its delay in each step."""
    made = world(tmp_path, repos(9) + "operations: [fire]\nbatch_size: 8\ndelay: 1h\n", 0)
    made.limits = RequestLimits(events=2)
    made.server.seconds = 15.0
    made.drive_in_steps([20.0], 0.0)
    assert len(made.driven_from) == 3, "the second step begins within the batch"
    times = [at for at, _, _ in made.server.came]
    assert times[3] - times[0] == pytest.approx(45), "the batch"
    assert times[4] - times[3] == pytest.approx(15 + 3600), "from when the server had it"


@pytest.mark.parametrize("how", ["resumed", "held"])
def test_what_a_scheduled_stage_has_not_sent_keeps_its_distances_from_now(
    tmp_path: Path, how: str
) -> None:
    """Its times count from the start of the run: without a shift, the remaining ones would be
    past."""
    body = "operations: [fire]\nbatch_size: 2\ndelay: 1m\npacing: scheduled\n"
    made = world(tmp_path, repos(10) + body, 0)
    made.server.seconds = 0.1
    if how == "held":
        made.guards = [HoldsOnce(3, 40)]
        made.drive()
    else:
        made.drive(0.15)
        made.clock.now += 600
        made.server.faults = [lost_after]
        made.drive(0.15)
        made.clock.now += 50  # what was sent keeps its times: the request is repeated byte for byte
    made.drive()
    times = [event["ts"] / 1000 for event in made.server.received]
    began = made.driven_from[0]
    if how == "resumed":
        assert made.server.bodies[2] == made.server.bodies[3]
    at = [round(when - began) for when in dict.fromkeys(times)]
    assert at == [0, 60, 600, 660, 720]


def test_a_clock_that_is_put_back_before_a_resume_adds_one_delay(tmp_path: Path) -> None:
    made = world(tmp_path, repos(4) + "operations: [fire]\nbatch_size: 1\ndelay: 2s\n", 0)
    made.drive(3.0)
    made.clock.now -= 7_200.0
    assert made.drive()[0].how == "complete"
    times = [at for at, _, _ in made.server.came]
    assert times[2:] == pytest.approx([made.driven_from[1] + 2.0, made.driven_from[1] + 4.0])


def test_a_clock_that_is_put_back_between_two_steps_adds_one_delay(tmp_path: Path) -> None:
    """By that clock the last batch is in the future: each step would wait for the whole delay
    again."""
    made = world(tmp_path, f"{repos(4)}operations: [fire]\nbatch_size: 2\ndelay: 40s\n", 0)
    began = made.clock.now
    made.drive_in_steps([20.0], 1.0, put_back=7_200.0)
    assert [events for _, _, events in made.server.came] == [2, 2]
    assert 0 < made.clock.now + 7_200 - began <= 2 * 40 + 5
