"""How long a run waits: in its own process, and in steps, which end where a wait is long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from runner.execution.pacing import Checkpoint, Pace, Pacer, Step, Waits
from runner.execution.ports import Control, Journal, Latest
from runner.model import Pacing, Stage
from runner.planning.event_blocks import pack
from tests.support import FakeClock


def stage_of(count: int = 10, number: int = 1, **how: Any) -> Stage:
    items = pack("app/fire", [(f"i{n}", b"{}") for n in range(count)])
    pacing = how.pop("pacing", Pacing(4, 10.0))
    return Stage(number, "fire", "app/fire", "repo", pacing, "sent", 60.0, items=items, **how)


JITTERY = stage_of(pacing=Pacing(4, 10.0, jitter=5.0))


@dataclass
class Waiting:
    """A run that waits, and what it does meanwhile."""

    clock: FakeClock = field(default_factory=FakeClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    kept: int = 0  # how often the lease was kept

    def keep(self) -> None:
        self.kept += 1

    def waits(self) -> Waits:
        return Waits(self.clock, self.stop, self.keep)

    def step(self, before: Checkpoint | None = None) -> Step:
        return Step(self.clock, self.stop, self.keep, before=before)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_trouble_halves_the_batch_and_doubles_the_delay_and_a_tenth_comes_back_each_time() -> None:
    pace = Pace(Pacing(40, 10.0))
    seen = []
    for trouble in (True, True, True, False, False):
        if trouble:
            pace.slow_down("x")
        else:
            pace.speed_up()
        seen.append((pace.size, pace.delay))
    assert seen == [(20, 20.0), (10, 40.0), (5, 60.0), (9, 55.0), (13, 50.5)]
    assert str(pace) == "batches of 13, 50.5s apart"
    assert str(Pace(Pacing(1_000, 2.26))) == "batches of 1,000, 2.3s apart"


def test_a_small_batch_loses_and_gains_one_event_and_one_second() -> None:
    pace = Pace(Pacing(3, 0.0))
    seen = []
    for change in (pace.slow_down, pace.slow_down):
        change("x")
        seen.append((pace.size, pace.delay))
    for _ in range(2):
        assert pace.speed_up()
        seen.append((pace.size, pace.delay))
    assert seen == [(1, 1.0), (1, 2.0), (2, 1.0), (3, 0.0)]
    assert pace.speed_up() is None


def test_a_pace_that_is_kept_is_the_same_one() -> None:
    pace = Pace(Pacing(10, 5.0))
    pace.tune(Control(batch_size=40, delay=9.0))
    pace.slow_down("x")
    assert pace.kept == (40, 9.0, 20, 18.0)
    again = Pace(Pacing(10, 5.0), pace.kept)
    assert again.kept == pace.kept
    assert again.slowed


@pytest.mark.parametrize(
    ("seconds", "slept"), [(0, []), (15, [15]), (30, [15, 15]), (40, [15, 15, 10])]
)
def test_a_long_wait_of_a_process_keeps_the_lease_every_15_seconds(
    seconds: float, slept: list[float]
) -> None:
    made = Waiting()
    run(made.waits().again(seconds, "gate"))
    assert made.clock.slept == slept
    assert made.kept == len(slept)


def test_a_process_waits_for_a_part_of_a_delay_and_for_a_whole_look_at_jobs() -> None:
    """A delay is cut to read control requests; between polls, another task reads them."""
    made = Waiting()

    async def main() -> None:
        await made.waits().pace(40.0)
        await made.waits().look(40.0, 0.0)

    run(main())
    assert made.clock.slept == [15.0, 40.0]


def test_a_process_has_asked_about_nothing_before() -> None:
    assert Waiting().waits().waited("gate") == 0
    assert Waiting().waits().left_of_batch(stage_of()) is None


@pytest.mark.parametrize(
    ("seconds", "slept"),
    [
        ([3.0], [3.0]),
        ([3.1], []),
        ([3.0, 2.0], [3.0, 2.0]),
        ([3.0, 2.1], [3.0]),
        ([2.0, 2.0, 1.0, 0.5], [2.0, 2.0, 1.0]),
    ],
)
def test_a_step_sleeps_for_3_seconds_at_once_and_for_5_in_all(
    seconds: list[float], slept: list[float]
) -> None:
    made = Waiting()
    step = made.step()

    async def main() -> None:
        for wait in seconds:
            await step.look(wait, made.clock.now)

    began = made.clock.now
    run(main())
    assert made.clock.slept == slept
    over = len(slept) < len(seconds)
    assert made.stop.is_set() == over
    assert step.until == (began + sum(seconds) if over else 0.0)


def test_a_step_that_is_over_already_says_when_the_next_is_due() -> None:
    made = Waiting()
    made.stop.set()
    step = made.step()
    run(step.look(2.0, made.clock.now))
    assert step.until == made.clock.now + 2.0


@pytest.mark.parametrize(
    ("before", "what", "waited"),
    [
        (None, "gate", 0.0),
        (Checkpoint(what="gate", since=-400.0), "gate", 400.0),
        (Checkpoint(what="gate", since=-400.0), "other", 0.0),
        (Checkpoint(what="gate", since=50.0), "gate", 0.0),
    ],
)
def test_what_the_step_before_asked_about_has_been_waited_for_since_then(
    before: Checkpoint | None, what: str, waited: float
) -> None:
    """A clock that was set back adds nothing."""
    made = Waiting()
    made.clock.now = 0.0
    step = made.step(before)
    assert step.waited(what) == waited
    step.moved()
    assert step.waited(what) == 0.0


@pytest.mark.parametrize(
    ("ago", "most", "due"),
    [(0, 1e9, 1.0), (100, 1e9, 25.0), (400, 1e9, 60.0), (400, 20.0, 20.0)],
)
def test_what_does_not_change_is_asked_about_less_and_less_often(
    ago: float, most: float, due: float
) -> None:
    made = Waiting()
    before = Checkpoint(what="gate", since=made.clock.now - ago)
    step = made.step(before)
    run(step.again(1.0, "gate", most=most))
    assert made.stop.is_set() == (due > 3.0)
    assert step.until == (made.clock.now + due if due > 3.0 else 0.0)
    assert made.clock.slept == ([1.0] if due == 1.0 else [])
    assert made.kept == 1
    kept = step.checkpoint()
    assert (kept.what, kept.since) == ("gate", before.since)


def test_within_a_step_a_question_is_as_old_as_its_first_time_and_another_is_new() -> None:
    made = Waiting()
    step = made.step()
    began = made.clock.now

    async def main() -> None:
        await step.again(1.0, "gate")
        await step.again(1.0, "gate")
        assert step.checkpoint().since == began
        await step.again(1.0, "check")

    run(main())
    assert (step.checkpoint().what, step.checkpoint().since) == ("check", began + 2.0)
    step.moved()
    assert step.checkpoint().what == ""


@pytest.mark.parametrize(
    ("late", "since", "life", "missed"),
    [(0.0, 10.0, 20.0, 7.0), (60.0, 70.0, 20.0, 7.0), (61.0, 71.0, 81.0, 68.0)],
)
def test_what_a_step_comes_late_does_not_count_as_waited(
    late: float, since: float, life: float, missed: float
) -> None:
    """A little is how an engine comes."""
    before = Checkpoint(since=10.0, life=20.0, missed=7.0, came_at=15.0)
    after = before.after(late, 500.0)
    assert (after.since, after.life, after.missed) == (since, life, missed)
    came = 500.0 if missed > 7.0 else 15.0
    assert after.counts_from(came - missed - 1.0) == came - 1.0
    assert after.counts_from(came - 1.0) == came, "it was sent after what was missed before"
    assert after.counts_from(came) == came


@pytest.mark.parametrize(("forward", "missed"), [(7200.0, 7300.0), (30.0, 100.0), (-7200.0, 100.0)])
def test_by_what_the_clock_is_put_forward_within_a_step_does_not_count(
    forward: float, missed: float
) -> None:
    made = Waiting()
    before = Checkpoint(missed=100.0, came_at=1.0)
    step = made.step(before)
    made.clock.ahead = forward
    kept = step.checkpoint()
    assert kept.missed == missed
    assert kept.came_at == (made.clock.time() if missed > 100.0 else 1.0)


@pytest.mark.parametrize(
    ("paced", "rested"), [(None, False), (0.0, False), (0.5, True), (9.0, True), (9.5, False)]
)
def test_a_delay_was_waited_for_where_its_end_is_past(paced: float | None, rested: bool) -> None:
    made = Waiting()
    made.clock.now = 9.0
    before = None if paced is None else Checkpoint(paced=paced)
    assert made.step(before).rested is rested


def test_a_step_leaves_behind_until_when_it_paces_at_which_pace() -> None:
    made = Waiting()
    step = made.step()
    empty = step.checkpoint()
    assert (empty.stage, empty.pace, empty.paced) == (0, None, 0.0)
    pace = step.pace_of(stage_of(number=3))
    pace.slow_down("x")
    run(step.pace(10.0))
    assert step.until == made.clock.now + 10.0
    kept = step.checkpoint()
    assert (kept.stage, kept.pace, kept.paced) == (3, (4, 10.0, 2, 20.0), made.clock.now + 10.0)
    following = made.step(kept)
    assert following.pace_of(stage_of(number=3)).kept == pace.kept
    assert following.pace_of(stage_of(number=4)).kept == (4, 10.0, 4, 10.0)


@dataclass
class Sent:
    """A journal of a run whose latest request was sent so many seconds ago."""

    clock: FakeClock
    ago: float | None
    run_id: str = "RUN1"
    sent: int = 4

    @property
    def started_at(self) -> float:
        return self.clock.now

    def next_position(self) -> int:
        return self.sent

    def latest(self) -> Latest | None:
        if self.ago is None:
            return None
        return Latest(1, self.clock.now - self.ago, self.clock.now - 100.0)


def pacer(made: Waiting, waits: Waits, ago: float | None) -> Pacer:
    return Pacer(made.clock, cast(Journal, Sent(made.clock, ago)), waits)


@pytest.mark.parametrize(
    ("ago", "process", "rested"),
    [
        (None, 0.0, 0.0),
        (3.0, 7.0, 7.0),
        (0.0, 10.0, 10.0),
        (0.5, 9.5, 9.5),
        (100.0, 0.0, 0.0),
        (-60.0, 10.0, 0.0),
    ],
)
def test_what_is_left_of_a_delay_is_owed_but_not_again_where_the_clock_was_put_back(
    ago: float | None, process: float, rested: float
) -> None:
    """`rested`: in a step that follows one that waited for a delay."""
    made = Waiting()
    assert pacer(made, made.waits(), ago).owed(stage_of()) == process
    step = made.step(Checkpoint(paced=made.clock.now - 1.0))
    assert pacer(made, step, ago).owed(stage_of()) == rested


def test_the_jitter_lies_anywhere_between_nothing_and_its_most() -> None:
    stage = stage_of(pacing=Pacing(4, 10.0, jitter=2.0))
    chosen = [Pacer.chosen("RUN1", stage, position) for position in range(300)]
    assert 0.0 <= min(chosen) < 0.1
    assert 1.9 < max(chosen) <= 2.0


def test_a_delay_has_its_jitter_until_something_is_sent() -> None:
    made, stage = Waiting(), stage_of(pacing=Pacing(4, 10.0, jitter=5.0))
    paced = pacer(made, made.waits(), 0.0)
    owed = paced.owed(stage)
    assert owed == pytest.approx(10.0 + Pacer.chosen("RUN1", stage, 4), abs=1e-3)
    assert paced.owed(stage) == owed
    assert isinstance(paced.journal, Sent)
    paced.journal.sent = 8
    assert paced.owed(stage) == owed
    paced.sent(1)
    assert paced.owed(stage) == pytest.approx(10.0 + Pacer.chosen("RUN1", stage, 8), abs=1e-3)


@pytest.mark.parametrize(
    ("size", "delay", "pause", "words"),
    [
        (None, None, 10.0 + Pacer.chosen("RUN1", JITTERY, 4), "4, 10s to 15s apart"),
        (8, None, 10.0 + Pacer.chosen("RUN1", JITTERY, 4), "8, 10s to 15s apart"),
        (None, 10.0, 10.0, "4, 10s apart"),
        (None, 0.0, 0.0, "4, 0s apart"),
        (8, 2.0, 2.0, "8, 2s apart"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_delay_that_an_operator_sets_is_the_whole_pause(
    *, size: int | None, delay: float | None, pause: float, words: str, kept: bool
) -> None:
    """Even in the next step, and in the time left that all surfaces show."""
    made, control = Waiting(), Control(batch_size=size, delay=delay)
    paced = pacer(made, made.waits(), 0.0)
    pace = paced.of(JITTERY)
    pace.tune(control)
    if kept:
        pace = paced._paces[1] = Pace(JITTERY.pacing, pace.kept)
        assert pace.tune(control) is None
    assert paced.owed(JITTERY) == pytest.approx(pause, abs=1e-3)
    assert str(pace) == f"batches of {words}"
    tuned = JITTERY.pacing.tuned(size, delay)
    assert (tuned.delay, tuned.delay + tuned.jitter) == (pace.delay, pace.delay + pace.jitter)


@pytest.mark.parametrize(
    ("index", "fresh", "left"),
    [(0, False, 0), (2, False, 2), (2, True, 0), (4, False, 0), (9, False, 1)],
)
def test_what_is_left_of_a_batch_is_told_by_the_plan(index: int, fresh: bool, left: int) -> None:
    made = Waiting()
    assert pacer(made, made.waits(), 1.0).left_of_batch(stage_of(), index, fresh=fresh) == left


@pytest.mark.parametrize(("number", "left"), [(1, 3), (2, 0)])
def test_what_is_left_of_a_batch_is_as_the_step_before_has_left_it(number: int, left: int) -> None:
    made = Waiting()
    waits = made.step(Checkpoint(stage=1, left=7))
    stage = stage_of(number=number)
    found = pacer(made, waits, 1.0).left_of_batch(stage, 7 if number == 1 else 8, fresh=False)
    assert found == left


@pytest.mark.parametrize(
    ("late", "moved"), [(-5.0, 0.0), (0.0, 0.0), (1.0, 0.0), (1.5, 1.5), (90.0, 90.0)]
)
def test_times_of_a_scheduled_stage_are_moved_where_they_are_a_second_late(
    late: float, moved: float
) -> None:
    made = Waiting()
    began = made.clock.now
    scheduled, made_then = stage_of(begins=20.0), pacer(made, made.waits(), None)
    made.clock.now += 20.0 + 10.0 + late  # into its second batch
    assert made_then.base(scheduled, 4) == began + moved
    assert made_then.base(stage_of(), 4) == began + moved


@pytest.mark.parametrize(
    ("seconds", "put_forward", "missed"),
    [(999.0, 0.0, 0.0), (0.0, 60.0, 0.0), (0.0, 61.0, 61.0), (999.0, 61.0, 61.0)],
)
def test_the_time_by_which_the_clock_was_put_forward_in_a_step_was_missed(
    seconds: float, put_forward: float, missed: float
) -> None:
    """How long the step itself takes does not count."""
    made = Waiting()
    step = made.step()
    made.clock.now += seconds
    made.clock.ahead += put_forward
    assert step.checkpoint().missed == missed
