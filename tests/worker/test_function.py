"""Runs in steps, by the served function: they do what `run` does."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.adapters.journal.store import Store
from runner.adapters.worker import function
from runner.adapters.worker.request import event_of
from runner.execution.context import RequestLimits
from tests.cli.conftest import until
from tests.depth import depth
from tests.support import make_plan, repos
from tests.worker.conftest import World
from tests.worker.engine import ATTEMPTS, Ran

NewWorld = Callable[..., World]
NUMBERS = itertools.count()
DONE = {"run": "RUN1", "status": "completed"}
SENT = {"run": "RUN1", "status": "sent"}


def test_a_run_that_is_asked_for_twice_in_one_second_is_asked_for_by_two_events() -> None:
    first, *others = (
        event_of({"run": "RUN1", "submitted_at": asked})["id"]
        for asked in (1_800_000_000.1, 1_800_000_000.1, 1_800_000_000.102)
    )
    assert [other == first for other in others] == [True, False]


@settings(
    max_examples=depth(8, 25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    count=st.integers(1, 12),
    size=st.integers(1, 5),
    delay=st.sampled_from(["0s", "1s", "2.5s", "7s", "1h"]),
    operations=st.sampled_from(["[sync]", "[sync, embed]", "[fire, sync]", "[sync, fire]"]),
    more=st.sampled_from(["", "on_failure: continue\n", "order_by: [-repo]\n"]),
    request=st.integers(1, 3),
)
def test_a_submitted_run_sends_what_run_sends_in_that_order_at_that_pace(
    tmp_path: Path,
    new_world: NewWorld,
    count: int,
    size: int,
    delay: str,
    operations: str,
    more: str,
    request: int,
) -> None:
    body = f"{repos(count)}operations: {operations}\nbatch_size: {size}\ndelay: {delay}\n{more}"
    plan = make_plan(tmp_path, body)
    how: dict[str, Any] = {"follow": False, "limits": RequestLimits(events=request)}
    number = next(NUMBERS)  # Hypothesis may try the same example twice
    one, other = new_world(f"one {number}", **how), new_world(f"other {number}", **how)
    one.run(plan)
    (ran,) = other.submit(plan)
    assert ran.output == (SENT if "sync" in operations else DONE), ran.error
    assert other.arrived == one.arrived
    assert other.requests == one.requests
    assert len(other.arrived) == plan.events
    steps = [step for step in ran.steps if step.startswith("step")]
    assert len(steps) <= plan.batches + len(plan.stages)
    other.stack.close()


def test_a_step_that_is_cut_off_in_a_batch_owes_no_delay_there(
    tmp_path: Path, new_world: NewWorld
) -> None:
    """However little time a step has: one request per step, at the pace of `run`."""
    plan = make_plan(tmp_path, repos(7) + "operations: [sync]\nbatch_size: 4\ndelay: 90s\n")
    how: dict[str, Any] = {"follow": False, "limits": RequestLimits(events=1)}
    one, other = new_world("one", **how), new_world("other", **how, budget=0.0)
    one.run(plan)
    (ran,) = other.submit(plan)
    assert ran.output == SENT, ran.error
    assert other.arrived == one.arrived


def _jobs_go_on(world: World) -> bool:
    asked = {"timeField": "QUEUED_AT", "status": "RUNNING"}
    answer = httpx.get(f"{world.url}/v2/runs", params=asked).raise_for_status()
    return "data" in answer.json()  # an empty list is omitted


def test_jobs_are_followed_from_step_to_step(tmp_path: Path, new_world: NewWorld) -> None:
    """A stage waits for the previous one, although nobody polls its jobs between steps."""
    plan = make_plan(tmp_path, repos(3) + "operations: [sync, embed]\nbatch_size: 2\ndelay: 20s\n")
    world = new_world(held={"o/r1"})

    def let_go(ran: Ran) -> None:
        if world.held and world.clock.now > 2_000_000_000 + 400:
            world.held.clear()
            until(lambda: not _jobs_go_on(world))  # the virtual clock does not wait for it

    world.engine.between = let_go
    (ran,) = world.submit(plan)
    assert ran.output == DONE, ran.error
    assert Counter(name for name, _, _ in world.arrived) == {"app/sync": 3, "app/embed": 3}
    first = min(at for name, _, at in world.arrived if name == "app/embed")
    assert 400 <= first - 2_000_000_000 <= 500
    assert len(ran.steps) < 60


def test_an_event_that_starts_no_job_is_found_out_by_the_time_of_its_send(
    tmp_path: Path, new_world: NewWorld
) -> None:
    """Its grace does not start again with each step."""
    plan = make_plan(tmp_path, repos(2) + "operations: [sync]\n")
    world = new_world(silent=True, grace=300.0)
    (ran,) = world.submit(plan)
    assert world.status() == "failed", ran
    assert 300 <= world.clock.now - 2_000_000_000 <= 400


def test_a_job_that_never_ends_is_given_up_by_the_time_of_its_send(
    tmp_path: Path, new_world: NewWorld
) -> None:
    plan = make_plan(
        tmp_path, repos(2) + "operations: [{use: sync, timeout: 10m}]\non_failure: continue\n"
    )
    world = new_world(held={"o/r1"})
    world.submit(plan)
    assert world.status() == "incomplete"
    assert 600 <= world.clock.now - 2_000_000_000 <= 700
    world.held.clear()


def test_a_failure_in_one_step_stops_the_run_in_the_next(
    tmp_path: Path, new_world: NewWorld
) -> None:
    plan = make_plan(tmp_path, repos(9) + "operations: [sync]\nbatch_size: 1\ndelay: 60s\n")
    world = new_world(failing={"o/r2"})
    (ran,) = world.submit(plan)
    assert world.status() == "failed"
    assert [item for _, item, _ in world.arrived] == ["o/r0", "o/r1", "o/r2"]
    assert "RUN1 is failed" in ran.error["message"]


def test_failures_count_against_the_limit_over_all_steps(
    tmp_path: Path, new_world: NewWorld
) -> None:
    body = "operations: [sync]\nbatch_size: 1\ndelay: 60s\nmax_failures: 3\n"
    plan = make_plan(tmp_path, repos(9) + body)
    world = new_world(failing={f"o/r{number}" for number in (0, 2, 4, 6)})
    world.submit(plan)
    assert world.status() == "incomplete"
    assert len(world.arrived) == 5


def test_a_paused_run_costs_little_and_goes_on_when_it_is_let(
    tmp_path: Path, new_world: NewWorld
) -> None:
    plan = make_plan(tmp_path, repos(4) + "operations: [sync]\nbatch_size: 1\ndelay: 10s\n")
    world = new_world()
    start = world.clock.now

    def pause(ran: Ran) -> None:
        if len(world.arrived) == 2 and world.clock.now < start + 100:
            world.store(lambda store: store.request_pause("RUN1"))
        if world.clock.now > start + 1200:
            world.store(lambda store: store.withdraw_pause("RUN1"))

    world.engine.between = pause
    (ran,) = world.submit(plan)
    assert ran.output == DONE, ran.error
    assert [item for _, item, _ in world.arrived] == ["o/r0", "o/r1", "o/r2", "o/r3"]
    assert world.arrived[2][2] - world.arrived[1][2] >= 1100
    assert len([step for step in ran.steps if step.startswith("step")]) < 1200 / 60 + 30
    assert [note for note in world.notes() if "waiting" in note or "going on" in note] == [
        "waiting: paused by an operator",
        "going on",
    ]
    turns = [turn for turn in ran.memo.values() if turn]
    assert "paused by an operator" in {turn.get("why") for turn in turns}, turns


@pytest.mark.parametrize("late", [0.0, 3600.0])
def test_the_engines_waits_are_driven_and_a_time_without_a_worker_is_not(
    tmp_path: Path, new_world: NewWorld, late: float
) -> None:
    """Nor is the time after the next step is due, if no worker comes."""
    plan = make_plan(tmp_path, repos(3) + "operations: [fire]\nbatch_size: 1\ndelay: 100s\n")
    world = new_world()

    def come_late(ran: Ran) -> None:
        if len(ran.steps) == 2:
            world.clock.now += late

    world.engine.between = come_late
    (ran,) = world.submit(plan)
    assert ran.output == DONE, ran.error
    assert world.arrived[-1][2] - world.arrived[0][2] == pytest.approx(200 + late, abs=1)
    with Store(world.state, world.clock.time) as store:
        driven = store.glance(store.find("RUN1")).driven
    assert driven.seconds == pytest.approx(200, abs=1), driven


def test_a_run_that_is_tuned_between_two_steps_goes_at_that_pace(
    tmp_path: Path, new_world: NewWorld
) -> None:
    plan = make_plan(tmp_path, repos(6) + "operations: [sync]\nbatch_size: 1\ndelay: 10s\n")
    world = new_world(follow=False)

    def tune(ran: Ran) -> None:
        if len(ran.steps) == 2:
            world.store(lambda store: store.set_pace("RUN1", batch_size=2, delay=50.0))

    world.engine.between = tune
    (ran,) = world.submit(plan)
    assert ran.output == SENT, ran.error
    start = world.arrived[0][2]
    assert [at - start for _, _, at in world.arrived] == [0, 10, 10, 60, 60, 110]
    assert sum("tuned by an operator" in note for note in world.notes()) == 1


def test_cancelled_while_it_waits_it_sends_nothing_more(
    tmp_path: Path, new_world: NewWorld, backfill: Callable[..., Any]
) -> None:
    """The command ends it at once: there is no worker to wait for."""
    plan = make_plan(tmp_path, repos(4) + "operations: [sync]\nbatch_size: 1\ndelay: 1h\n")
    world = new_world()

    def cancel(ran: Ran) -> None:
        if len(world.arrived) == 1 and world.status() == "running":
            done = backfill("cancel", "RUN1", "--state", world.state)
            assert done.status == 0, done.err

    world.engine.between = cancel
    (ran,) = world.submit(plan)
    assert ran.output == {"run": "RUN1", "status": "cancelled"}
    assert len(world.arrived) == 1


def test_a_long_run_goes_on_in_another_function_run(
    tmp_path: Path, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "MOST_STEPS", 3)
    plan = make_plan(tmp_path, repos(32) + "operations: [sync]\nbatch_size: 4\ndelay: 30s\n")
    how: dict[str, Any] = {"follow": False, "limits": RequestLimits(events=3)}
    one, other = new_world("one", **how), new_world("other", **how)
    one.run(plan)
    ran = other.submit(plan)
    assert [one.output for one in ran][-1] == SENT
    assert len(ran) == 3
    assert max(len(one.steps) for one in ran) <= 7
    assert other.arrived == one.arrived
    assert other.requests == [3, 1] * 8


def test_asked_for_twice_a_run_is_carried_out_once(tmp_path: Path, new_world: NewWorld) -> None:
    plan = make_plan(tmp_path, repos(3) + "operations: [sync]\n")
    world = new_world()
    world.submit(plan)
    (ran,) = world.carry_on(plan)
    assert ran.output == DONE
    assert len(world.arrived) == 3


def test_while_somebody_else_holds_the_lock_it_waits(tmp_path: Path, new_world: NewWorld) -> None:
    plan = make_plan(tmp_path, repos(2) + "operations: [sync]\n")
    world = new_world()
    world.write_down(plan)
    with Store(world.state) as store:
        lease = store.lock(plan.name, store.find("RUN1").address, "RUN1")

        def release(ran: Ran) -> None:
            if len(ran.steps) == 4:
                lease.release()

        world.engine.between = release
        (ran,) = world.carry_on(plan)
    assert ran.output == DONE, ran.error
    assert ran.steps[:4] == ["step 1", "wait 1", "step 2", "wait 2"]
    assert len(world.arrived) == 2


def test_a_state_that_is_away_is_waited_for_and_then_the_run_is_incomplete(
    tmp_path: Path, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path, repos(2) + "operations: [sync]\n")
    world = new_world()
    world.write_down(plan)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", "another-key")  # the key of the run, not of the SDK
    world.add_worker()
    monkeypatch.setattr("tests.worker.engine.SIGNING_KEY", "another-key")
    app_is_gone = httpx.ConnectError("refused")

    async def refuse(*_: object, **__: object) -> None:
        raise app_is_gone

    monkeypatch.setattr("httpx.AsyncHTTPTransport.handle_async_request", refuse)
    monkeypatch.setattr("runner.model.patience.FIRST", 0.0)
    (ran,) = world.carry_on(plan)
    assert "incomplete" in ran.error["message"]
    assert ran.failed_requests > 5
    assert world.status() == "incomplete"
    assert any("a step failed" in note for note in world.notes())


def test_requests_that_are_not_signed_start_nothing(tmp_path: Path, new_world: NewWorld) -> None:
    world = new_world()
    world.add_worker()
    (client,) = world.engine.clients
    for headers in ({}, {"x-inngest-signature": "t=1&s=0000"}):
        answer = client.post(
            "/api/inngest",
            params={"fnId": f"{world.engine.app}-run", "stepId": "step"},
            content=b'{"event": {}}',
            headers=headers,
        )
        assert answer.status_code in (401, 500)
    assert world.arrived == []


def test_checks_have_their_time_over_all_steps(
    tmp_path: Path, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{tmp_path / 'app.db'}")
    body = """operations: [sync, embed]
checks:
  - name: never
    after: sync
    timeout: 10m
    every: 10s
    query: select 0 as n
    expect: {column: n, at_least: 1}
"""
    (tmp_path / "app.db").touch()
    plan = make_plan(tmp_path, repos(2) + body)
    world = new_world()
    (ran,) = world.submit(plan)
    assert world.status() == "failed"
    assert {name for name, _, _ in world.arrived} == {"app/sync"}
    assert 600 <= world.clock.now - 2_000_000_000 <= 700
    assert len(ran.steps) < 60


def test_two_workers_take_turns(tmp_path: Path, new_world: NewWorld) -> None:
    plan = make_plan(tmp_path, repos(6) + "operations: [sync]\nbatch_size: 1\ndelay: 30s\n")
    world = new_world()
    world.add_worker()
    world.add_worker()
    (ran,) = world.submit(plan)
    assert ran.output == DONE, ran.error
    assert len(set(world.started)) == len(world.started) == 6


def test_steps_at_once_of_one_run_send_nothing_twice(tmp_path: Path, new_world: NewWorld) -> None:
    """An engine that has lost patience with a worker calls another one, while the first goes on."""
    plan = make_plan(tmp_path, repos(40) + "operations: [sync]\nbatch_size: 1\ndelay: 0s\n")
    world = new_world(limits=RequestLimits(events=1))
    world.write_down(plan)
    from runner.app.worker import StepRequest

    threads = [
        threading.Thread(
            target=world.steps().step, args=(StepRequest("RUN1", request_events=1), None)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.carry_on(plan)
    assert world.status() == "completed"
    assert len(set(world.started)) == len(world.started) == 40


def test_a_worker_that_has_another_state_gives_the_request_back_and_is_not_ready(
    tmp_path: Path, new_world: NewWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = new_world()
    plan = make_plan(tmp_path, repos(3) + "operations: [sync]\n")
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    stranger = world.add_worker(elsewhere)
    assert stranger.get("/readyz").status_code == 200
    world.write_down(plan)
    (given_back,) = world.carry_on(plan)
    assert "there is no run RUN1 in this state" in str(given_back.error)
    assert given_back.failed_requests == ATTEMPTS, "each was to be tried again"
    assert world.status() == "running", "nobody has ended it"
    assert "there is no run RUN1 in this state; workers must use the state" in caplog.text
    until(lambda: stranger.get("/readyz").status_code == 503)
    world.add_worker()
    (ran,) = world.carry_on(plan)
    assert ran.output == {"run": "RUN1", "status": "completed"}, ran.error
    assert ran.failed_requests > 0
    assert [item for _, item, _ in world.arrived] == ["o/r0", "o/r1", "o/r2"]
    world.clock.now += 61
    until(lambda: stranger.get("/readyz").status_code == 200)
