"""`max_in_flight` limits how many events may have no outcome yet."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import BackfillError
from runner.execution.context import RunContext
from runner.execution.pacing import Step
from runner.output import words
from tests.depth import depth
from tests.execution.test_pacing import Timed, World
from tests.faults.schedules import Crash, Mortal
from tests.support import (
    CATALOG,
    Recorder,
    close_stores,
    lost_after,
    lost_before,
    make_plan,
    new_store,
    repos,
)


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@dataclass
class Workers(Timed):
    """So many workers, each busy with one job for so long; the other jobs are queued."""

    workers: int = 8
    takes: float = 0.5
    ahead: float = 0.0  # its clock is so many seconds ahead
    tells_start: bool = True  # False: it tells when a job was queued, as the open server does
    most_out: int = 0
    _free: list[float] = field(default_factory=list)  # when each worker is free
    _ends: dict[str, float] = field(default_factory=dict)  # when each job ends

    def _start(self, internal_id: str, event: dict[str, Any]) -> None:
        super()._start(internal_id, event)
        for run in self._runs.get(internal_id, ()):
            self._free = self._free or [0.0] * self.workers
            begins = max(self.clock.now, heapq.heappop(self._free))
            self._ends[run["run_id"]] = begins + self.takes
            heapq.heappush(self._free, begins + self.takes)
            run |= {"status": "Scheduled", "ended_at": None, "run_started_at": iso(self.clock.now)}
        out = sum(end > self.clock.now for end in self._ends.values())
        self.most_out = max(self.most_out, out)

    async def handle(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
        for run in (run for runs in self._runs.values() for run in runs):
            end = self._ends[run["run_id"]]
            if self.clock.now >= end:
                run |= {"status": "Completed", "ended_at": "2026-01-01T00:00:00Z"}
            elif self.clock.now >= end - self.takes:
                run["status"] = "Running"
                if self.tells_start:
                    run["run_started_at"] = iso(end - self.takes + self.ahead)
        answer = await super().handle(request)
        answer.headers["date"] = formatdate(self.clock.now + self.ahead, usegmt=True)
        return answer


@dataclass
class Mortals(World):
    """A run whose processes sometimes die at a write."""

    random: Random = field(default_factory=Random)
    chance: float = 0.0

    async def _drive(
        self, journal: Any, seconds: float, step: Callable[[RunContext], Step] | None
    ) -> Any:
        mortal = Mortal(journal, self.random, self.chance)
        return await super()._drive(mortal, seconds, step)


def world(folder: Path, body: str, workers: int = 8, takes: float = 0.5) -> Mortals:
    made = Mortals(folder, make_plan(folder, body))
    made.server = Workers(clock=made.clock, workers=workers, takes=takes)
    return made


def server_of(made: World) -> Workers:
    assert isinstance(made.server, Workers)
    return made.server


def capped(cap: int, events: int = 20, more: str = "delay: 0s\n") -> str:
    return f"{repos(events)}operations: [sync]\nmax_in_flight: {cap}\n{more}"


@settings(
    max_examples=depth(6, 1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cap=st.integers(1, 6),
    size=st.integers(1, 9),
    takes=st.sampled_from([0.01, 0.5, 4.0]),
    seed=st.integers(0, 1 << 30),
    stops=st.lists(st.floats(0, 5), max_size=3),
    steps=st.booleans(),
)
def test_never_more_is_out_than_the_cap_whatever_dies_and_is_resumed(
    tmp_path_factory: pytest.TempPathFactory,
    cap: int,
    size: int,
    takes: float,
    seed: int,
    stops: Sequence[float],
    steps: bool,
) -> None:
    body = capped(cap, 12, f"batch_size: {size}\ndelay: 1s\n")
    made = world(tmp_path_factory.mktemp("capped"), body, workers=3, takes=takes)
    made.random = Random(seed)  # noqa: S311 - hypothesis repeats it
    made.chance = 0.03
    faults = [None, None, None, lost_before, lost_after]
    made.server.faults = [made.random.choice(faults) for _ in range(20)]
    for number in range(1_000):
        try:
            if steps:
                made.drive_in_steps([20.0, 1.0], 0.1)
                break
            seconds = stops[number] if number < len(stops) else 1e9
            if made.drive(seconds)[0].how == "complete":
                break
        except (Crash, BackfillError):
            pass
    assert len(set(made.server.effects)) == len(made.server.effects) == 12
    assert 0 < server_of(made).most_out <= cap
    close_stores()


def test_jobs_on_eight_workers_take_hardly_longer_than_the_workers_need(
    tmp_path: Path, record_property: Any
) -> None:
    jobs = depth(60, 200)
    made = world(tmp_path, capped(8, jobs))
    began = made.clock.now
    assert made.drive()[0].how == "complete"
    least, took = jobs * 0.5 / 8, made.clock.now - began
    record_property("a cap of the workers' number: seconds, their least", (took, least))
    assert made.journal.totals().completed == jobs
    assert server_of(made).most_out == 8
    assert took <= 1.15 * least


def test_the_wait_names_itself_and_the_oldest(tmp_path: Path) -> None:
    made = world(tmp_path, capped(3, 5), takes=60.0)
    made.drive(40)
    store = new_store(tmp_path, made.clock.time)
    view = store.glance(store.find("RUN1"))
    recorder = made.observer
    assert isinstance(recorder, Recorder)
    waits = [progress.waiting for progress in recorder.progresses if progress.waiting]
    assert waits[-1].kind == "room"
    said = words.waiting(waits[-1], made.clock.now)
    assert said == "3 jobs are in flight, the oldest for 40s: o/r0"
    assert view.stages[0].sent == 3


def test_an_operator_raises_and_lowers_it_while_it_is_waited_for(tmp_path: Path) -> None:
    made = world(tmp_path, capped(2, 12), takes=30.0)
    made.drive(10)
    new_store(tmp_path).set_pace("RUN1", max_in_flight=6)
    made.drive(10)
    assert server_of(made).most_out == 6
    new_store(tmp_path).set_pace("RUN1", max_in_flight=1)
    sent = len(made.server.received)
    made.drive(45)
    assert len(made.server.received) == sent + 1, "only once all others had ended"


@pytest.mark.parametrize(
    ("ahead", "tells_start", "steps"),
    [
        (0.0, True, False),
        (3600.0, True, False),
        (-3600.0, True, True),
        (0.0, False, False),
        (3600.0, False, True),
    ],
)
def test_jobs_that_queue_behind_others_do_not_time_out(
    tmp_path: Path, ahead: float, tells_start: bool, steps: bool
) -> None:
    """A job's timeout counts from its start, by the server's own clock, whatever that shows; if the
    server does not tell the start, from when the job was first seen running."""
    body = repos(40) + "operations: [{use: sync, timeout: 2s}]\nbatch_size: 200\n"
    made = world(tmp_path, body)
    assert isinstance(made.server, Workers)
    made.server.ahead, made.server.tells_start = ahead, tells_start
    if steps:
        made.drive_in_steps([2.0], 1.0)
    else:
        assert made.drive()[0].how == "complete"
    totals = made.journal.totals()
    assert (totals.completed, totals.timed_out) == (40, 0)


@pytest.mark.parametrize(
    ("keys", "took", "message"),
    [
        ("timeout: 5s", 5, "its job has not ended after 5s"),
        ("timeout: 1h, queue_timeout: 20m", 1200, "its job has not started after 20m"),
    ],
)
def test_a_job_has_a_time_to_start_and_a_time_to_end(
    tmp_path: Path, keys: str, took: float, message: str
) -> None:
    body = f"{repos(2)}operations: [{{use: sync, {keys}}}]\non_failure: continue\n"
    made = world(tmp_path, body, workers=1, takes=1e6)
    made.drive(2 * took)
    failures = {failure.item: failure.message for failure in made.journal.failures()}
    late = "o/r1" if "queue" in keys else "o/r0"
    assert failures == {late: message}
    assert made.journal.totals().timed_out == 1


def test_the_wait_says_what_has_not_started(tmp_path: Path) -> None:
    made = world(tmp_path, repos(1) + "operations: [sync]\n", workers=1)
    assert isinstance(made.server, Workers)
    made.server._free = [made.clock.now + 1e6]  # busy with somebody else's job
    made.drive(720)
    assert isinstance(made.observer, Recorder)
    waits = [progress.waiting for progress in made.observer.progresses if progress.waiting]
    said = words.waiting(waits[-1], made.clock.now)
    assert said.startswith("for its jobs to end: o/r0 not started for 12m, times out in 23h48m")


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        ("operations: [sync]\n", None),
        ("operations: [sync]\nmax_in_flight: 7\n", 7),
        ("operations: [{use: sync, max_in_flight: 3}]\nmax_in_flight: 7\n", 3),
        ("operations: [{use: sync, max_in_flight: false}]\nmax_in_flight: 7\n", None),
        ("operations: [heavy]\n", 20),
        ("operations: [external]\n", 50),
        ("operations: [external]\nmax_in_flight: false\n", None),
        ("operations: [{use: external, wait: sent}]\n", None),
        ("operations: [external]\npacing: scheduled\n", None),
    ],
)
def test_the_cap_is_the_operations_or_the_plans_or_that_of_its_load(
    tmp_path: Path, body: str, cap: int | None
) -> None:
    loads = "".join(
        f"  {load}: {{event: app/{load}, for_each: repo, load: {load}, payload: {{}}}}\n"
        for load in ("heavy", "external")
    )
    plan = make_plan(tmp_path, repos(2) + body, catalog=CATALOG + loads)
    found = plan.stages[0].cap
    assert (found and found.events) == cap
