"""What slows a run down, holds it, or ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.app.drive import Noting
from runner.errors import Incomplete
from runner.execution.context import Decision, Ending, RunOptions
from runner.execution.pacing import LONGEST_DELAY, Pace
from runner.execution.ports import Control, Guard, GuardUnanswered, Hold
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import ExecutionPlan, Observer, Pacing, StageRecord
from tests.support import (
    CATALOG,
    FakeClock,
    Recorder,
    StandIn,
    answers,
    connect,
    lost_after,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

FIRE = "operations: [fire]\n"
SYNC = "operations: [sync]\n"


def carry_out(
    server: StandIn,
    plan: ExecutionPlan,
    journal: JournalWriter,
    *,
    clock: FakeClock | None = None,
    observer: Observer | None = None,
    guards: Sequence[Guard] = (),
    follow: bool = True,
    decision: Decision = None,
    past_failures: bool = False,
) -> Ending:
    async def main() -> Ending:
        async with connect(
            server, journal, clock=clock, observer=observer, guards=guards, follow=follow
        ) as context:
            return await execute(
                plan,
                replace(
                    context,
                    options=RunOptions(unanswered=decision, past_failures=past_failures),
                ),
            )

    return asyncio.run(main())


def run(
    folder: Path,
    body: str,
    server: StandIn,
    *,
    clock: FakeClock | None = None,
    observer: Recorder | None = None,
    guards: Sequence[Guard] = (),
) -> tuple[Ending, JournalWriter]:
    plan = make_plan(folder, body)
    journal = start_journal(new_store(folder), plan)
    ending = carry_out(server, plan, journal, clock=clock, observer=observer, guards=guards)
    return ending, journal


def _sizes(server: StandIn) -> list[int]:
    return [len(post) for post in server.posts]


def test_a_429_halves_the_batch_and_lengthens_the_delay_and_both_recover(tmp_path: Path) -> None:
    server, observer, clock = StandIn(faults=[None, answers(429)]), Recorder(), FakeClock()
    body = repos(200) + FIRE + "batch_size: 20\ndelay: 2s\n"
    run(tmp_path, body, server, observer=observer, clock=clock)
    sizes = _sizes(server)
    assert sizes == [20, 20, 10, 12, 14, 16, 18, 10, 20, 20, 20, 20], "then the planned bounds"
    assert sum(sizes) == 200
    slower = [note for note in observer.notes if note.startswith("slower now")]
    assert slower == ["slower now, batches of 10, 4s apart: the server answers 429"]
    assert any(note.startswith("faster again, batches of 20, 2s apart") for note in observer.notes)


def test_every_change_of_pace_is_in_the_journal_with_its_reason(tmp_path: Path) -> None:
    """The notes on the display are the notes in the journal."""
    server, observer = StandIn(faults=[answers(503)]), Recorder()
    plan = make_plan(tmp_path, repos(9) + FIRE + "batch_size: 4\n")
    journal = start_journal(new_store(tmp_path), plan)
    carry_out(server, plan, journal, observer=Noting(observer, journal))
    assert "slower now, batches of 2, 10s apart: the server answers 503" in journal.notes()
    assert journal.notes() == observer.notes


@given(st.integers(1, 500), st.floats(0, 300), st.lists(st.booleans(), max_size=60))
def test_the_pace_stays_within_its_bounds_and_comes_back(
    size: int, delay: float, troubles: list[bool]
) -> None:
    pace = Pace(Pacing(size, delay))
    for trouble in troubles:
        if trouble:
            pace.slow_down("x")
        else:
            pace.speed_up()
        assert 1 <= pace.size <= size
        assert delay <= pace.delay <= max(LONGEST_DELAY, delay)
    for _ in range(600):
        pace.speed_up()
    assert pace.as_planned


def test_a_tuned_pace_is_the_new_normal() -> None:
    pace = Pace(Pacing(10, 5.0))
    assert pace.tune(Control(batch_size=40)) == "batches of 40, 5s apart: tuned by an operator"
    assert pace.tune(Control(batch_size=40)) is None
    pace.slow_down("x")
    for _ in range(50):
        pace.speed_up()
    assert (pace.size, pace.delay) == (40, 5.0)


@pytest.mark.parametrize("wrong", ["failing", "bad"])
def test_max_failures_ends_the_run_as_incomplete_and_says_how_to_go_on(
    tmp_path: Path, wrong: str
) -> None:
    """Failed jobs count as well as rejected events."""
    server = StandIn()
    setattr(server, wrong, {f"o/r{n}" for n in range(0, 40, 2)})
    body = repos(40) + "operations: [sync]\nbatch_size: 4\nmax_failures: 5\ndelay: 5s\n"
    ending, journal = run(tmp_path, body, server)
    assert ending.how == "limit"
    assert ending.reason is not None
    assert "`max_failures` is reached" in ending.reason
    assert 5 <= len(journal.failures()) < 20
    assert len(server.received) < 40
    summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
    assert summary.status == "incomplete"


@pytest.mark.parametrize("wrong", ["failing", "bad"])
@pytest.mark.parametrize("body", [SYNC, FIRE])
def test_max_failures_ends_nothing_where_all_is_sent(tmp_path: Path, body: str, wrong: str) -> None:
    """Such a run used to be incomplete, and its resume, with nothing to send, failed."""
    server = StandIn()
    setattr(server, wrong, {"o/r8"})
    ending, journal = run(tmp_path, repos(9) + body + "max_failures: 1\n", server)
    assert ending == Ending("complete")
    summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
    assert (summary.status, summary.totals.completed) == ("failed", 8)


def test_a_ratio_of_failures_waits_for_enough_events_to_say_anything(tmp_path: Path) -> None:
    few, many = StandIn(failing={"o/r0"}), StandIn(failing={f"o/r{n}" for n in range(100)})
    body = "operations: [sync]\nbatch_size: 5\nmax_failures: 10%\ndelay: 5s\n"
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    assert run(tmp_path / "few", repos(40) + body, few)[0].how == "complete"
    assert run(tmp_path / "many", repos(100) + body, many)[0].how == "limit"
    assert 20 <= len(many.received) < 100


def test_a_resume_after_max_failures_counts_anew(tmp_path: Path) -> None:
    server = StandIn(failing={f"o/r{n}" for n in range(3)})
    plan = make_plan(tmp_path, repos(40) + SYNC + "batch_size: 3\nmax_failures: 3\ndelay: 5s\n")
    assert carry_out(server, plan, start_journal(new_store(tmp_path), plan)).how == "limit"
    assert carry_out(server, plan, reopen(new_store(tmp_path), plan)).how == "complete"
    assert len(server.received) == 40


def test_a_run_that_was_tuned_while_it_stood_still_waits_by_the_new_delay_at_once(
    tmp_path: Path,
) -> None:
    """Otherwise a delay of an hour would pass once more before the request to shorten it counts."""
    server, clock = StandIn(bad={"o/r1"}), FakeClock()
    plan = make_plan(tmp_path, repos(6) + SYNC + "batch_size: 2\nmax_failures: 1\ndelay: 1h\n")
    store = new_store(tmp_path)
    assert carry_out(server, plan, start_journal(store, plan)).how == "limit"
    store.set_pace("RUN1", delay=7.0)
    assert carry_out(server, plan, reopen(store, plan), clock=clock).how == "complete"
    assert clock.slept.count(7.0) == 2
    assert 3600.0 not in clock.slept


def test_an_order_to_cancel_counts_within_a_batch(tmp_path: Path) -> None:
    """The statement that records the next request also reads the control request."""
    plan = make_plan(tmp_path, repos(6_000) + FIRE + "batch_size: 6000\n")
    store, server = new_store(tmp_path), StandIn()
    journal = start_journal(store, plan)

    class Operator(Recorder):
        def progress(self, progress: StageRecord) -> None:
            if progress.sent:
                store.request_cancel("RUN1")

    assert carry_out(server, plan, journal, observer=Operator()).how == "cancelled"
    assert _sizes(server) == [5_000]
    assert journal.next_position() == 5_000


def test_a_pace_that_was_ordered_counts_from_the_next_batch_and_in_the_stages_after(
    tmp_path: Path,
) -> None:
    body = repos(8) + "operations: [fire, fire_again]\nbatch_size: 4\n"
    again = "{event: app/fire, for_each: repo, after: [fire], payload: {repo: x}, done: sent}"
    plan = make_plan(tmp_path, body, catalog=f"{CATALOG}  fire_again: {again}\n")
    store, server = new_store(tmp_path), StandIn()
    journal = start_journal(store, plan)

    class Operator(Recorder):
        def progress(self, progress: StageRecord) -> None:
            if progress.sent == 4 and progress.number == 1:
                store.set_pace("RUN1", batch_size=2)

    assert carry_out(server, plan, journal, observer=Operator()).how == "complete"
    assert _sizes(server) == [4, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("delay", ["0s", "1h"])
def test_an_order_to_cancel_counts_before_the_next_batch(tmp_path: Path, delay: str) -> None:
    """Even if the request is read before the delay, together with the pace."""
    plan = make_plan(tmp_path, repos(8) + FIRE + f"batch_size: 4\ndelay: {delay}\n")
    store, server = new_store(tmp_path), StandIn()
    journal = start_journal(store, plan)

    class Operator(Recorder):
        def progress(self, progress: StageRecord) -> None:
            if progress.sent:
                store.request_cancel("RUN1")

    assert carry_out(server, plan, journal, observer=Operator()).how == "cancelled"
    assert _sizes(server) == [4]


def test_an_order_that_is_found_before_a_delay_is_taken_over_once(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(8) + FIRE + "batch_size: 4\ndelay: 1h\n")
    store, server, clock = new_store(tmp_path), StandIn(), FakeClock()
    journal = start_journal(store, plan)

    class Operator(Recorder):
        def progress(self, progress: StageRecord) -> None:
            if progress.sent == 4:
                store.set_pace("RUN1", batch_size=2, delay=7.0)

    observer = Operator()
    assert carry_out(server, plan, journal, observer=observer, clock=clock).how == "complete"
    assert _sizes(server) == [4, 2, 2]
    assert clock.slept.count(7.0) == 2
    assert observer.notes == ["batches of 2, 7s apart: tuned by an operator"]


class Operators(FakeClock):
    """A clock; at some of its times an operator requests something."""

    def __init__(self, requests: Mapping[float, Callable[[], object]]) -> None:
        super().__init__()
        self._due = {self.now + seconds: request for seconds, request in requests.items()}

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        await super().sleep(seconds, until)
        self.ask()

    def ask(self) -> None:
        for at in [at for at in self._due if at <= self.now]:
            self._due.pop(at)()


def _two_hours_apart(
    folder: Path, requests: Callable[[Store], Mapping[float, Callable[[], object]]]
) -> tuple[Ending, list[float], Recorder]:
    """Drive two batches; return how the run ended, the seconds at which it sent, and what it
    showed."""
    plan = make_plan(folder, repos(2) + FIRE + "batch_size: 1\ndelay: 2h\n")
    store, observer = new_store(folder), Recorder()
    clock = Operators(requests(store))
    began = clock.now
    sent = list[float]()

    def note_the_time(*_: object) -> None:
        sent.append(clock.now - began)
        clock.ask()

    server = StandIn(faults=[note_the_time] * 2)
    journal = start_journal(store, plan)
    ending = carry_out(server, plan, journal, observer=observer, clock=clock)
    return ending, sent, observer


@pytest.mark.parametrize("paused_at", [0, 100], ids=["as it is sent", "within the delay"])
def test_a_pause_in_a_delay_is_shown_at_once_and_adds_nothing_to_it(
    tmp_path: Path, paused_at: float
) -> None:
    ending, sent, observer = _two_hours_apart(
        tmp_path,
        lambda store: {
            paused_at: lambda: store.request_pause("RUN1"),
            1_000: lambda: store.withdraw_pause("RUN1"),
        },
    )
    assert ending.how == "complete"
    assert sent == [0, 7_200]
    told = [one.waiting.reason if one.waiting else "" for one in observer.progresses]
    delay, paused = "2h between batches", "paused by an operator"
    shown = [one for one, _ in groupby(told) if one][:3]
    expected = [delay, paused, delay] if paused_at else [paused, delay]
    assert shown[: len(expected)] == expected


def test_a_delay_that_is_shortened_while_it_passes_is_over(tmp_path: Path) -> None:
    _, sent, _ = _two_hours_apart(
        tmp_path, lambda store: {100: lambda: store.set_pace("RUN1", delay=7.0)}
    )
    assert 100 < sent[1] <= 115


def test_a_run_that_is_cancelled_within_a_delay_sends_no_more(tmp_path: Path) -> None:
    ending, sent, _ = _two_hours_apart(
        tmp_path, lambda store: {100: lambda: store.request_cancel("RUN1")}
    )
    assert (ending.how, sent) == ("cancelled", [0])


def test_only_trouble_is_called_slowed_down(tmp_path: Path) -> None:
    """An operator's request sets the intended pace, whatever the plan says."""
    server, observer = StandIn(faults=[answers(503)]), Recorder()
    plan = make_plan(tmp_path, repos(200) + FIRE + "batch_size: 20\ndelay: 4s\n")
    store = new_store(tmp_path)
    journal = start_journal(store, plan)
    store.set_pace("RUN1", delay=2.0)
    carry_out(server, plan, journal, observer=observer)
    pauses = [one.waiting for one in observer.progresses if one.waiting]
    waits = [wait.reason for wait in pauses if wait.kind == "pace"]
    assert waits[0] == "4s between batches (slowed down)"
    assert waits[-1] == "2s between batches"


def test_a_canary_goes_alone_and_the_rest_only_after_it_succeeded(tmp_path: Path) -> None:
    server = StandIn()
    body = repos(7) + "operations: [sync, embed]\nbatch_size: 3\ncanary: 1\n"
    ending, _ = run(tmp_path, body, server)
    assert ending.how == "complete"
    assert _sizes(server) == [1, 3, 3, 1, 3, 3]


@pytest.mark.parametrize("past", ["on_failure: continue\n", "max_failures: 3\n"])
def test_a_canary_that_fails_ends_the_run(tmp_path: Path, past: str) -> None:
    server = StandIn(failing={"o/r0"})
    body = f"{repos(7)}{SYNC}canary: 2\n{past}"
    ending, journal = run(tmp_path, body, server)
    assert ending.reason == "the canary of `sync` failed"
    assert _sizes(server) == [2]
    summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
    assert summary.status == "failed"
    assert summary.notes == (
        "the canary of `sync` failed; nothing more was sent",
        "5 events were not sent; `backfill resume RUN1 --past-failures` sends them",
    )


def test_a_resume_does_not_pass_a_canary_that_failed(tmp_path: Path) -> None:
    server = StandIn(failing={"o/r0"})
    plan = make_plan(tmp_path, repos(5) + SYNC + "canary: 1\non_failure: continue\n")
    carry_out(server, plan, start_journal(new_store(tmp_path), plan))
    carry_out(server, plan, reopen(new_store(tmp_path), plan))
    assert _sizes(server) == [1]
    carry_out(server, plan, reopen(new_store(tmp_path), plan), past_failures=True)
    assert _sizes(server) == [1, 4]


class Scripted:
    """A guard that gives its answers in turn, and does not hold after the last one."""

    name = "scripted"

    def __init__(self, *script: Hold | GuardUnanswered | None) -> None:
        self.script, self.asked = list(script), 0

    async def ask(self) -> Hold | None:
        self.asked += 1
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, GuardUnanswered):
            raise answer
        return answer


def test_a_guard_is_asked_before_each_batch_and_holds_it(tmp_path: Path) -> None:
    guard, server, clock = Scripted(None, Hold("busy", 7.0)), StandIn(), FakeClock()
    observer = Recorder()
    body = repos(6) + FIRE + "batch_size: 2\ndelay: 1s\n"
    run(tmp_path, body, server, guards=[guard], clock=clock, observer=observer)
    assert guard.asked == 4
    assert 7.0 in clock.slept
    assert "waiting: busy" in observer.notes
    assert len(server.received) == 6


def test_a_guard_that_cannot_be_asked_holds(tmp_path: Path) -> None:
    server, observer = StandIn(), Recorder()
    guard = Scripted(*[GuardUnanswered("no answer")] * 3)
    run(tmp_path, repos(2) + FIRE, server, guards=[guard], observer=observer)
    assert guard.asked == 4
    assert "waiting: the guard `scripted` cannot be asked: no answer" in observer.notes


def test_a_long_hold_keeps_the_lock(tmp_path: Path) -> None:
    """No single wait exceeds the lease."""
    clock = FakeClock()
    run(tmp_path, repos(1) + FIRE, StandIn(), guards=[Scripted(Hold("x", 3600.0))], clock=clock)
    assert max(clock.slept) <= 15.0


def test_scheduled_pacing_sends_all_at_once_with_the_times_of_the_batches(tmp_path: Path) -> None:
    server, clock = StandIn(), FakeClock()
    plan = make_plan(
        tmp_path, repos(5) + "operations: [fire]\nbatch_size: 2\ndelay: 1m\npacing: scheduled\n"
    )
    journal = start_journal(new_store(tmp_path), plan)
    carry_out(server, plan, journal, clock=clock, follow=False)
    assert clock.slept == []
    first = server.received[0]["ts"]
    assert first == int(journal.started_at * 1000)
    offsets = [event["ts"] - first for event in server.received]
    assert offsets == [0, 0, 60_000, 60_000, 120_000]


def _lose_an_answer(folder: Path, server: StandIn) -> ExecutionPlan:
    server.faults = [lost_after, *[answers(503)] * 10]
    plan = make_plan(folder, repos(3) + SYNC)
    with pytest.raises(Exception, match="503"):
        carry_out(server, plan, start_journal(new_store(folder), plan))
    server.faults = []
    return plan


def _a_day_later() -> FakeClock:
    clock = FakeClock()
    clock.now += 25 * 3600
    return clock


def test_after_a_day_a_request_whose_jobs_are_there_is_not_made_again(tmp_path: Path) -> None:
    server = StandIn()
    plan = _lose_an_answer(tmp_path, server)
    before = len(server.bodies)
    journal = reopen(new_store(tmp_path), plan)
    assert carry_out(server, plan, journal, clock=_a_day_later()).how == "complete"
    assert len(server.bodies) == before
    assert journal.totals().completed == 3


@pytest.mark.parametrize(("decision", "posts"), [("send", 1), ("taken", 0)])
def test_after_a_day_a_request_without_a_trace_is_the_operators_to_decide(
    tmp_path: Path, decision: Decision, posts: int
) -> None:
    server = StandIn(silent={"app/sync"})
    plan = _lose_an_answer(tmp_path, server)
    before = len(server.bodies)
    journal = reopen(new_store(tmp_path), plan)
    with pytest.raises(Incomplete, match=r"3 events from o/r0 on\) was sent 25h ago") as error:
        carry_out(server, plan, journal, clock=_a_day_later())
    assert "--unanswered send" in str(error.value.hint)
    assert len(server.bodies) == before, "nothing was sent before it was decided"
    carry_out(server, plan, journal, clock=_a_day_later(), decision=decision)
    assert len(server.bodies) == before + posts
