"""A run over the real adapters and a stand-in for Inngest that asserts every request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.app.preflight import refuse_empty
from runner.errors import KeyRefused, PreflightRefused, TargetError
from runner.execution.context import Ending
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import Summary
from tests.depth import depth
from tests.support import (
    FakeClock,
    Recorder,
    StandIn,
    answers,
    connect,
    items_of,
    lost_after,
    lost_before,
    make_plan,
    new_store,
    repos,
    start_journal,
)

SYNC = "operations: [sync]\n"


def run(
    folder: Path,
    body: str,
    server: StandIn,
    *,
    clock: FakeClock | None = None,
    observer: Recorder | None = None,
    follow: bool = True,
) -> Summary:
    """Plan, run, and summarise."""
    plan = make_plan(folder, body)
    journal = start_journal(new_store(folder), plan)

    async def main() -> Ending:
        async with connect(
            server, journal, clock=clock, observer=observer, follow=follow
        ) as context:
            return await execute(plan, context)

    ending = asyncio.run(main())
    return summarise(journal, plan=plan.name, target="test", followed=follow, ending=ending)


def test_every_event_arrives_once_and_its_job_is_followed_to_its_end(tmp_path: Path) -> None:
    server = StandIn()
    summary = run(tmp_path, repos(7) + SYNC + "batch_size: 3\n", server)
    assert summary.status == "completed"
    assert [len(post) for post in server.posts] == [3, 3, 1]
    assert items_of(server.received) == [f"o/r{n}" for n in range(7)]
    assert summary.totals.accepted == summary.totals.jobs == summary.totals.completed == 7


@settings(
    max_examples=depth(12, 40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    operations=st.sampled_from(["[sync]", "[embed, sync]", "[sync, fire, embed]"]),
)
def test_what_arrives_is_what_the_dry_run_shows_in_order(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, operations: str
) -> None:
    folder, server = tmp_path_factory.mktemp("run"), StandIn()
    body = repos(count) + f"operations: {operations}\nbatch_size: {size}\n"
    planned = [(e.event.name, e.event.data) for e in make_plan(folder, body).planned()]
    run(folder, body, server)
    assert [(e["name"], e["data"]) for e in server.received] == planned


def test_event_ids_hold_run_operation_and_item(tmp_path: Path) -> None:
    """The server deduplicates by function and id, not by event name: so the id has the
    operation."""
    server = StandIn()
    run(tmp_path, repos(1) + "operations: [sync, embed]\n", server)
    assert [event["id"] for event in server.received] == ["RUN1:sync:o/r0", "RUN1:embed:o/r0"]


def test_a_failure_is_told_with_the_id_that_its_event_has_of_its_own(tmp_path: Path) -> None:
    use = "{use: sync, id: 'own-{{ repo.name }}'}"
    server = StandIn(failing={"o/r1"})
    summary = run(tmp_path, repos(3) + f"operations: [{use}]\n", server)
    assert [event["id"] for event in server.received] == ["own-r0", "own-r1", "own-r2"]
    assert [failure.event_id for failure in summary.failures] == ["own-r1"]


def test_the_delay_is_kept_between_batches_and_not_after_the_last(tmp_path: Path) -> None:
    clock = FakeClock()
    body = repos(7) + "operations: [fire]\nbatch_size: 3\ndelay: 7s\n"
    run(tmp_path, body, StandIn(), clock=clock, follow=False)
    assert clock.slept == [7.0, 7.0]


def test_a_barrier_holds_the_next_stage_until_the_jobs_have_ended(tmp_path: Path) -> None:
    server, observer = StandIn(), Recorder()
    run(tmp_path, repos(2) + "operations: [sync, embed]\n", server, observer=observer)
    first_embed = next(i for i, p in enumerate(observer.progresses) if p.number == 2)
    before = observer.progresses[first_embed - 1]
    assert (before.operation, before.outcomes, before.done) == ("sync", {"completed": 2}, True)


def test_an_event_that_starts_no_job_fails_by_name(tmp_path: Path) -> None:
    server = StandIn(silent={"app/sync"})
    summary = run(tmp_path, repos(2) + SYNC, server)
    assert summary.status == "failed"
    assert summary.totals.no_job == 2
    assert summary.failures[0].outcome == "no_job"
    assert (
        "no job started for it, and the server does not list its functions"
        in summary.failures[0].message
    )


def test_an_event_that_the_server_has_lost_is_not_said_to_have_no_listener(tmp_path: Path) -> None:
    """Other events of that name started jobs, so a function does listen."""

    class Losing(StandIn):
        def _start(self, internal_id: str, event: dict[str, Any]) -> None:
            if event["data"]["repo"] != "o/r1":
                super()._start(internal_id, event)

    summary = run(tmp_path, repos(3) + SYNC, Losing())
    assert summary.totals.no_job == 1
    (lost,) = summary.failures
    assert lost.item == "o/r1"
    assert "although jobs started for other `app/sync` events" in lost.message


def test_a_failed_job_shows_its_own_message(tmp_path: Path) -> None:
    summary = run(tmp_path, repos(2) + SYNC, StandIn(failing={"o/r1"}))
    assert summary.status == "failed"
    assert [(f.item, f.message, f.job) for f in summary.failures] == [
        ("o/r1", "ValueError: no such repo", f"{2:026d}")
    ]


def test_a_failure_stops_the_stages_that_follow(tmp_path: Path) -> None:
    server = StandIn(failing={"o/r0"})
    summary = run(tmp_path, repos(2) + "operations: [sync, embed]\n", server)
    assert [event["name"] for event in server.received] == ["app/sync"] * 2
    assert summary.status == "failed"
    assert summary.notes[0].startswith("2 events were not sent, since the plan stops on a failure")


def test_on_failure_continue_sends_everything(tmp_path: Path) -> None:
    server = StandIn(failing={"o/r0"})
    body = repos(2) + "operations: [sync, embed]\non_failure: continue\n"
    summary = run(tmp_path, body, server)
    assert len(server.received) == 4
    assert summary.status == "failed"
    assert summary.totals.failed == 2


def test_jobs_of_a_stage_without_a_barrier_are_followed_after_a_stop(tmp_path: Path) -> None:
    """A failure stops the sending; jobs that are running are still followed to their end."""
    server = StandIn(bad={"o/r0"})
    summary = run(tmp_path, repos(4) + "operations: [fire]\nbatch_size: 2\n", server)
    assert summary.totals.rejected == 1
    assert summary.totals.accepted == summary.totals.completed == 1


def test_a_partial_accept_keeps_what_was_taken_and_sends_the_rest(tmp_path: Path) -> None:
    server = StandIn(bad={"o/r2"})
    summary = run(tmp_path, repos(5) + SYNC, server)
    assert items_of(server.received) == ["o/r0", "o/r1", "o/r3", "o/r4"]
    assert (summary.totals.accepted, summary.totals.rejected) == (4, 1)
    assert [(f.item, f.outcome, f.message) for f in summary.failures] == [
        ("o/r2", "rejected", "bad event")
    ]
    seeds = [seed for seed, _ in server.bodies]
    assert len(set(seeds)) == 2, "a chunk that is cut anew has a seed of its own"


def test_a_bad_first_event_is_isolated_too(tmp_path: Path) -> None:
    server = StandIn(bad={"o/r0"})
    summary = run(tmp_path, repos(2) + SYNC, server)
    assert items_of(server.received) == ["o/r1"]
    assert summary.totals.rejected == 1


def test_413_halves_the_request_until_it_fits(tmp_path: Path) -> None:
    server = StandIn(faults=[answers(413), answers(413)])
    summary = run(tmp_path, repos(8) + SYNC, server)
    assert [len(post) for post in server.posts] == [2, 2, 2, 2]
    assert summary.totals.accepted == 8


def test_a_single_event_that_is_too_large_is_rejected(tmp_path: Path) -> None:
    server = StandIn(faults=[answers(413)])
    summary = run(tmp_path, repos(1) + SYNC, server)
    assert summary.failures[0].message == "the request is too large (413)"


@pytest.mark.parametrize(
    "fault", [lost_before, lost_after, answers(500), answers(503), answers(429)]
)
def test_a_passing_fault_is_retried_with_the_same_bytes_and_seed(
    tmp_path: Path, fault: object
) -> None:
    server = StandIn(faults=[fault, fault])  # type: ignore[list-item]
    summary = run(tmp_path, repos(3) + SYNC, server)
    assert len(server.bodies) == 3
    assert len(set(server.bodies)) == 1
    assert summary.status == "completed"
    assert len(server.effects) == 3


def test_events_sent_again_after_a_lost_answer_are_counted(tmp_path: Path) -> None:
    summary = run(tmp_path, repos(3) + SYNC, StandIn(faults=[lost_after]))
    assert summary.totals.deduplicated == 3
    assert summary.totals.accepted == summary.totals.jobs == 3


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    clock = FakeClock()
    server = StandIn(faults=[answers(429, **{"retry-after": "17"})])
    run(tmp_path, repos(1) + SYNC, server, clock=clock)
    assert clock.slept[0] == 17.0


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_run_at_once(tmp_path: Path, status: int) -> None:
    server = StandIn(faults=[None, answers(status)])
    with pytest.raises(KeyRefused, match="refuses the event key"):
        run(tmp_path, repos(9) + SYNC + "batch_size: 3\n", server)
    assert len(server.bodies) == 2


def test_a_server_that_stays_away_ends_the_tries_and_leaves_the_chunk_uncertain(
    tmp_path: Path,
) -> None:
    server = StandIn(faults=[answers(503)] * 50)
    with pytest.raises(TargetError, match="the server answers 503"):
        run(tmp_path, repos(3) + SYNC, server)
    assert 2 <= len(server.bodies) <= 10
    store = new_store(tmp_path)
    lost = store.reading(store.find("RUN1")).unanswered()
    assert [chunk.seed for chunk in lost] == [server.bodies[0][0]]


def test_a_200_with_fewer_ids_than_events_is_no_success(tmp_path: Path) -> None:
    server = StandIn(faults=[answers(200, {"ids": ["x"], "status": 200})])
    with pytest.raises(TargetError, match="not one for each event"):
        run(tmp_path, repos(3) + SYNC, server)


def test_a_job_that_never_ends_times_out(tmp_path: Path) -> None:
    server = StandIn(slow_jobs={"o/r0"})
    body = repos(1) + "operations: [{use: sync, timeout: 30s}]\n"
    summary = run(tmp_path, body, server)
    assert summary.status == "incomplete"
    assert summary.failures[0].outcome == "timed_out"
    assert summary.failures[0].message == "its job has not ended after 30s"


def test_without_following_nothing_is_claimed(tmp_path: Path) -> None:
    summary = run(tmp_path, repos(2) + SYNC, StandIn(silent={"app/sync"}), follow=False)
    assert summary.status == "sent"
    assert (summary.totals.accepted, summary.totals.jobs) == (2, 0)
    assert any("is not known" in note for note in summary.notes)


def test_a_plan_with_no_events_is_refused_by_name(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "repos: []\n" + SYNC)
    with pytest.raises(PreflightRefused, match="nothing to send"):
        refuse_empty(plan)


def test_one_large_event_does_not_slow_all_that_follow(tmp_path: Path) -> None:
    server = StandIn(faults=[answers(413), answers(413), answers(413)])
    run(tmp_path, repos(64) + SYNC + "batch_size: 8\n", server)
    assert [len(post) for post in server.posts][-4:] == [8, 8, 8, 8]


def test_an_event_whose_job_appears_is_not_given_up_in_a_slow_sweep(tmp_path: Path) -> None:
    """What counts is when the event was polled, not when the sweep ended."""
    clock = FakeClock()

    class Slow(StandIn):
        def handle(self, request: httpx.Request) -> httpx.Response:
            began = clock.now
            answer = super().handle(request)
            if request.method == "GET":
                clock.now += 1
                if began < 1_750_000_002:  # jobs take a moment to appear
                    return httpx.Response(200, json={"data": []})
            return answer

    summary = run(tmp_path, repos(60) + SYNC + "batch_size: 60\n", Slow(), clock=clock)
    assert summary.status == "completed"


def test_a_job_that_was_seen_and_is_gone_is_left_to_its_timeout(tmp_path: Path) -> None:
    """A server that restarted has forgotten the job: that does not mean that no function
    listens."""
    asked = 0

    class Forgetful(StandIn):
        def handle(self, request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += request.url.path.startswith("/v1/")
            if asked > 1:
                return httpx.Response(200, json={"data": []})
            return super().handle(request)

    body = repos(1) + "operations: [{use: sync, timeout: 60s}]\n"
    summary = run(tmp_path, body, Forgetful(slow_jobs={"o/r0"}))
    assert [failure.outcome for failure in summary.failures] == ["timed_out"]
