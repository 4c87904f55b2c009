"""When an event is over: by its jobs, by how long they take, or because nothing comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import pytest

from runner.execution.follow import Follower, Timeouts
from runner.execution.pacing import Checkpoint, Step, Waits
from runner.execution.ports import Journal, Listed, Observation
from runner.execution.progress import Tracker
from runner.model import Function, Job, Outcome, SentEvent
from runner.model.function import Rate, Rest, Trigger
from tests.support import FakeClock
from tests.virtual_time import VirtualClock

ID, AT = "01JXT21Q00000G40R40M30E20A", 1_750_000_000.0


def event(number: int, stage: int = 1) -> SentEvent:
    id_ = f"{ID[:-4]}{number:04d}"
    return SentEvent(number, stage, "sync", f"o/r{number}", "app/sync", 0, id_, AT)


def job(name: str = "a", status: str = "Running", **how: Any) -> Job:
    return Job(
        name, how.pop("function", "f"), status, status not in ("Running", "Scheduled"), **how
    )


QUEUED, RUNNING = job(status="Scheduled"), job()
DONE, FAILED = job(status="Completed"), job(status="Failed", message="why")


def fn(name: str = "f", **how: Any) -> Function:
    return Function((name,), (Trigger("app/sync", how.pop("condition", None)),), **how)


@dataclass
class Server:
    """The jobs of each event, by its number. `functions_`: None if the server does not tell."""

    of: dict[int, Sequence[Job]] = field(default_factory=dict)
    functions_: Sequence[Function] | None = None
    lists: Sequence[Listed] | None = ()
    read: int = 0
    known: int = 0  # how often its functions were requested
    looked: list[int] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    async def probe(self) -> None:
        raise AssertionError("nobody probes")

    async def jobs(self, internal_id: str) -> Sequence[Job]:
        number = int(internal_id[-4:])
        self.looked.append(number)
        found = self.of.get(number, ())
        self.meanwhile()
        return found

    async def functions(self) -> Sequence[Function] | None:
        self.known += 1
        return self.functions_

    async def batch(self, _job_id: str) -> Sequence[str]:
        return ()

    async def listed(self, *_given: object) -> Sequence[Listed] | None:
        self.read += 1
        return self.lists


@dataclass
class Kept:
    written: list[int] = field(default_factory=list)
    ends: dict[int, tuple[Outcome, str | None]] = field(default_factory=dict)
    seen: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    going: Mapping[int, tuple[Job, ...]] = field(default_factory=dict)

    def record(self, found: Sequence[Observation]) -> None:
        self.written.append(len(found))
        for one in found:
            self.seen.append((one.event.position, tuple(job.status for job in one.jobs)))
            if one.outcome:
                self.ends[one.event.position] = one.outcome, one.message

    def going_on(self) -> Mapping[int, tuple[Job, ...]]:
        return self.going


@dataclass
class Shown:
    longest_: list[tuple[int, str, float, float, bool]] = field(default_factory=list)
    settled_: list[tuple[int, dict[str, int]]] = field(default_factory=list)

    def longest(self, stage: int, item: str, ago: float, until: float, *, queued: bool) -> None:
        self.longest_.append((stage, item, round(ago, 3), round(until, 3), queued))

    def settled(self, stage: int, outcomes: Mapping[str, int]) -> None:
        self.settled_.append((stage, dict(outcomes)))


class Clock(FakeClock):
    """Durations and recorded times have different starting points."""

    def monotonic(self) -> float:
        return self.now - 1_700_000_000.0


class Made:
    """A follower with a `grace` of 20 s; a job may take 100 s to start, and then 60 s to end."""

    def __init__(self, *numbers: int, functions: Sequence[Function] | None = None) -> None:
        self.clock, self.stop, self.server = Clock(), asyncio.Event(), Server()
        self.server.functions_ = functions
        self.journal, self.shown = Kept(), Shown()
        self.waits: Waits = Waits(self.clock, self.stop, lambda: None)
        self.follower = Follower(
            self.server,
            cast(Journal, self.journal),
            self.clock,
            self.waits,
            cast(Tracker, self.shown),
            self.stop,
            20.0,
            {1: Timeouts(100.0, 60.0), 2: Timeouts(100.0, 60.0)},
        )
        if numbers:
            self.follower.add(event(number) for number in numbers)

    def look(self, seconds: float = 0.0, **of: Sequence[Job]) -> None:
        """Poll after so many seconds, when the server has these jobs (`e0`: of event 0)."""
        self.clock.now += seconds
        self.server.of |= {int(name[1:]): jobs for name, jobs in of.items()}
        self.follower.add([])
        asyncio.run(self.follower.poll_once())

    def again(self, seconds: float = 0.0, **of: Sequence[Job]) -> None:
        """Poll in the same way, with nothing sent meanwhile."""
        self.clock.now += seconds
        self.server.of |= {int(name[1:]): jobs for name, jobs in of.items()}
        asyncio.run(self.follower._sweep())

    @property
    def ends(self) -> dict[int, Outcome]:
        return {number: outcome for number, (outcome, _) in self.journal.ends.items()}


def test_an_event_ends_with_its_jobs_and_is_counted_once() -> None:
    made = Made(0, 1, 2)
    made.again(e0=[DONE], e1=[FAILED], e2=[RUNNING])
    assert made.ends == {0: "completed", 1: "failed"}
    assert (made.follower.ended, made.follower.failures, made.follower.out(1)) == (2, 1, 1)
    assert made.shown.settled_ == [(1, {"completed": 1, "failed": 1})]
    assert made.journal.seen == [(0, ("Completed",)), (1, ("Failed",)), (2, ("Running",))]
    made.again()
    assert made.journal.written == [3], "what is the same is not written again"
    made.again(e2=[job(status="Completed")])
    assert (made.follower.ended, made.follower.out(1)) == (3, 0)
    made.again()
    assert made.server.looked[-1:] == [2], "what has ended is not looked at again"


def test_an_event_that_is_added_twice_is_one_event() -> None:
    made = Made(0, 0)
    made.follower.add([event(0), event(1, 2)])
    assert (made.follower.out(1), made.follower.out(2)) == (1, 1)


@pytest.mark.parametrize(("seconds", "end"), [(19.9, {}), (20.0, {0: "no_job"})])
def test_an_event_without_a_job_is_given_up_after_the_grace(
    seconds: float, end: dict[int, Outcome]
) -> None:
    made = Made(0)
    made.again(seconds)
    assert made.ends == end


def test_the_grace_runs_from_the_latest_sign_of_life_of_any_event() -> None:
    made = Made(0, 1)
    made.again(15.0, e1=[RUNNING])
    made.again(19.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "no_job"}
    assert "although jobs started for other `app/sync` events" in str(made.journal.ends[0][1])


def test_what_a_function_may_let_an_event_rest_is_added_to_the_grace() -> None:
    made = Made(0, functions=[fn(debounce=Rest(30.0))])
    made.again(49.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "dropped"}


@pytest.mark.parametrize(
    ("first", "seconds", "ends", "words"),
    [
        (QUEUED, 99.9, {}, None),
        (QUEUED, 100.0, {0: "timed_out"}, "its job has not started after 1m40s"),
        (RUNNING, 59.9, {}, None),
        (RUNNING, 60.0, {0: "timed_out"}, "its job has not ended after 60s"),
    ],
)
def test_a_job_has_a_time_to_start_and_one_to_end(
    first: Job, seconds: float, ends: dict[int, Outcome], words: str | None
) -> None:
    made = Made(0)
    made.again(e0=[first])
    made.again(seconds)
    assert made.ends == ends
    assert made.journal.ends.get(0, (None, None))[1] == words


def test_a_job_with_a_start_of_its_own_has_its_time_from_then_on() -> None:
    made = Made()
    made.follower.add([event(0)._replace(starts=AT + 500.0)])
    made.again(e0=[QUEUED])
    made.again(599.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "timed_out"}


def test_a_job_that_waited_has_its_time_from_its_start() -> None:
    made = Made(0)
    made.again(e0=[QUEUED])
    made.again(90.0)
    made.again(5.0, e0=[RUNNING])
    made.again(59.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.journal.ends == {0: ("timed_out", "its job has not ended after 60s")}


@pytest.mark.parametrize(
    ("waited", "ran", "left"),
    [(0.0, 50.0, 60.0), (0.0, None, 60.0), (90.0, 3.0, 57.0), (90.0, 5.0, 55.0), (90.0, 8.0, 60.0)],
)
def test_how_long_a_job_has_run_is_the_servers_word_where_it_was_seen_waiting_until_then(
    waited: float, ran: float | None, left: float
) -> None:
    """Some servers report as its start when the job was queued."""
    made = Made(0)
    if waited:
        made.again(waited, e0=[QUEUED])
        made.clock.now += 5.0
    made.again(e0=[job(ran=ran)])
    made.again(left - 0.1)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "timed_out"}


def test_the_job_that_has_the_least_time_left_is_the_one_that_counts() -> None:
    made = Made(0)
    made.again(e0=[job("a"), job("b", "Scheduled")])
    made.again(59.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.journal.ends == {0: ("timed_out", "its job has not ended after 60s")}
    late = Made(0)
    late.again(95.0, e0=[job("b", "Scheduled")])
    late.again(4.0, e0=[job("b", "Scheduled"), job("a")])
    late.again(1.0)
    assert late.journal.ends == {0: ("timed_out", "its job has not started after 1m40s")}


def test_a_job_that_was_seen_and_is_gone_is_left_to_its_timeout() -> None:
    made = Made(0)
    made.again(e0=[RUNNING])
    made.again(59.0, e0=[])
    assert made.ends == {}
    made.again(1.0)
    assert made.ends == {0: "timed_out"}


TWO = [fn("f"), fn("g")]
F_DONE, G_DONE = job("a", "Completed", function="f"), job("b", "Completed", function="g")


def test_each_function_that_hears_an_event_is_waited_for() -> None:
    made = Made(0, functions=TWO)
    made.again(e0=[F_DONE])
    made.again(19.9)
    assert made.ends == {}
    made.again(0.0, e0=[F_DONE, G_DONE])
    assert made.ends == {0: "completed"}
    gone = Made(0, functions=TWO)
    gone.again(e0=[F_DONE])
    gone.again(20.0)
    assert gone.ends == {0: "no_job"}


@pytest.mark.parametrize(
    ("other", "end"),
    [(fn("g", condition="data.x"), "completed"), (fn("g", rate_limit=Rate(1, 60.0)), "dropped")],
)
def test_what_starts_at_once_or_never_is_waited_for_as_long_as_functions_take_to_start(
    other: Function, end: Outcome
) -> None:
    made = Made(0, functions=[fn("f"), other])
    made.again(e0=[F_DONE])
    made.again(1.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: end}


def test_functions_are_asked_for_again_before_anything_is_given_up() -> None:
    made = Made(0, 1)
    made.again(e1=[RUNNING])
    made.again(19.0)
    assert made.server.known == 1
    made.server.functions_ = [fn(debounce=Rest(30.0))]
    made.again(1.0)
    assert (made.server.known, made.ends) == (2, {}), "it rests"
    made.again(19.0)
    assert made.server.known == 2
    made.again(1.0)
    assert made.server.known == 2, "nothing is in doubt"


def test_nothing_is_asked_again_where_nothing_has_been_added_since() -> None:
    made = Made(0)
    made.look()
    assert made.server.looked == [0]
    asyncio.run(made.follower.poll_once())
    assert made.server.looked == [0]
    made.follower.add([event(1)])
    asyncio.run(made.follower.poll_once())
    assert made.server.looked == [0, 0, 1]
    nobody = Made()
    asyncio.run(nobody.follower.poll_once())
    assert nobody.server.known == 0


def test_what_ends_is_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.execution.follow._AT_ONCE", 3)
    made = Made(*range(8))
    made.server.of = {number: [DONE] for number in range(8)}
    made.again()
    assert made.journal.written == [3, 3, 2]
    assert made.follower.ended == 8


def step_of(made: Made, life: float | None = None, submitted: float = 0.0) -> Step:
    before = Checkpoint(life=life or 0.0)
    return Step(made.clock, made.stop, lambda: None, before=before, submitted_at=submitted)


@pytest.mark.parametrize("is_step", [False, True])
def test_a_resumed_run_gives_its_events_their_time_anew(is_step: bool) -> None:
    """And so does a step that nobody has told about one before it, such as the second try of the
    first: it cannot know how much of the time has passed."""
    made = Made()
    made.clock.now += 500.0
    step = Step(made.clock, made.stop, lambda: None) if is_step else None
    made.follower.restore([event(0)], step)
    made.again(19.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "no_job"}


@pytest.mark.parametrize(
    ("life", "submitted", "left"), [(None, 0.0, 5.0), (12.0, 0.0, 17.0), (None, 9.0, 14.0)]
)
def test_a_step_goes_on_counting_from_the_sending_but_gives_nothing_up_before_a_look(
    life: float | None, submitted: float, left: float
) -> None:
    """The event was sent 15 s ago. `life`, `submitted`: how long after that came the latest sign of
    life, or the submission to the workers."""
    made = Made()
    sent = made.clock.now
    before = step_of(made, life and sent + life, submitted and sent + submitted)
    made.clock.now += 15.0
    made.follower.restore([event(0)], before)
    assert made.follower.last_life == pytest.approx(sent + max(life or 0.0, submitted))
    made.again(left - 0.1)
    made.again()
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "no_job"}


@pytest.mark.parametrize(("sent_later", "left"), [(0.0, 15.0), (500.0, 10.0)])
def test_the_time_in_which_no_worker_came_does_not_count(sent_later: float, left: float) -> None:
    """The step before ended 5 s after the sending, or it sent the event as it came late. The clock
    may have been put forward as well: nobody can tell."""
    made = Made()
    sent, made.clock.now = made.clock.now, made.clock.now + 505.0
    before = Checkpoint(life=sent).after(500.0, made.clock.now)
    made.clock.now += sent_later and 10.0
    open_ = event(0)._replace(sent_at=sent + (505.0 if sent_later else 0.0))
    made.follower.restore([open_], Step(made.clock, made.stop, lambda: None, before=before))
    made.again(left - 0.1)
    made.again()
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "no_job"}


def test_what_was_missed_before_the_sending_does_not_count_for_it() -> None:
    """Nobody came in the night before; for the next step, a worker came two minutes late."""
    made = Made()
    before = Checkpoint().after(30_000.0, made.clock.now)
    made.clock.now += 3600.0
    open_ = event(0)._replace(sent_at=made.clock.now)
    made.clock.now += 130.0
    before = before.after(120.0, made.clock.now)
    made.follower.restore([open_], Step(made.clock, made.stop, lambda: None, before=before))
    made.again()
    made.again(20.0)
    assert made.ends == {0: "no_job"}


def test_a_step_whose_events_are_overdue_looks_first_and_then_at_once_again() -> None:
    made = Made()
    before = step_of(made)
    made.clock.now += 500.0
    made.follower.restore([event(0)], before)
    moved, more = asyncio.run(made.follower._sweep())
    assert (moved, more, made.ends) == (False, True, {})
    moved, more = asyncio.run(made.follower._sweep())
    assert (moved, more, made.ends) == (True, False, {0: "no_job"})


@pytest.mark.parametrize(
    ("known", "submitted", "left"),
    [
        (replace(RUNNING, since=1_750_000_030.0), 0.0, 50.0),
        (RUNNING, 0.0, 20.0),
        (replace(QUEUED, since=1_750_000_030.0), 0.0, 60.0),
        (replace(RUNNING, since=1_750_000_030.0), 1_750_000_035.0, 55.0),
        (RUNNING, 1_750_000_035.0, 55.0),
        (replace(QUEUED, since=1_750_000_030.0), 1_750_000_035.0, 95.0),
    ],
)
def test_a_step_knows_since_when_the_jobs_of_before_go_on(
    known: Job, submitted: float, left: float
) -> None:
    """Since its start, or since the run was submitted if that was later."""
    made = Made()
    before = step_of(made, submitted=submitted)
    made.clock.now += 40.0
    made.journal.going = {0: (known,)}
    made.follower.restore([event(0)], before)
    told = replace(known, since=None)
    made.again(e0=[told])
    made.again(left - 0.1)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "timed_out"}
    assert made.journal.seen == [(0, (known.status,))], "which is no news"


def test_a_step_without_open_events_asks_nothing() -> None:
    made = Made()
    made.follower.restore([], step_of(made))
    assert made.follower.out(1) == 0


def followed(work: Callable[[Made], Coroutine[Any, Any, None]], *numbers: int) -> Made:
    """Run `work` on a virtual clock, beside a follower."""
    made = Made()
    clock = VirtualClock()
    made.clock = cast(Clock, clock)
    made.follower.clock = made.waits.clock = clock
    made.follower._poller.clock = clock
    made.follower.add(event(number) for number in numbers)

    async def main() -> None:
        task = asyncio.create_task(made.follower.run())
        await work(made)
        made.stop.set()
        if not task.done():
            task.cancel()

    clock.run(main())
    return made


def test_a_stage_is_settled_once_all_of_its_events_have_ended() -> None:
    async def work(made: Made) -> None:
        made.follower.add([event(7, 2)])
        began = made.clock.now
        asyncio.get_running_loop().call_later(3.0, made.server.of.update, {0: [DONE]})
        asyncio.get_running_loop().call_later(9.0, made.server.of.update, {7: [DONE]})
        await made.follower.settled(1)
        assert 3.0 <= made.clock.now - began < 6.0
        await made.follower.settled()
        assert 9.0 <= made.clock.now - began < 15.0
        await made.follower.settled(1)

    made = followed(work, 0)
    assert made.ends == {0: "completed", 7: "completed"}


def test_what_hangs_in_the_stage_that_is_waited_for_has_a_name() -> None:
    async def work(made: Made) -> None:
        made.follower.add([event(7, 2), event(8, 2)])
        made.server.of.update({7: [RUNNING], 8: [job("b")], 0: [job("c")]})
        asyncio.get_running_loop().call_later(30.0, made.stop.set)
        await made.follower.settled(2)

    made = followed(work, 0)
    assert {(one[0], one[1], one[4]) for one in made.shown.longest_} == {(2, "o/r7", False)}
    first = made.shown.longest_[0]
    assert first[2] + first[3] == pytest.approx(60.0)
    queued = followed(_waits_for_a_job, 0)
    assert {one[4] for one in queued.shown.longest_} == {True}


async def _waits_for_a_job(made: Made) -> None:
    made.server.of[0] = [QUEUED]
    asyncio.get_running_loop().call_later(10.0, made.stop.set)
    await made.follower.settled(1)


def test_looks_are_far_apart_where_nothing_changes_and_close_where_room_is_waited_for() -> None:
    times: list[float] = []

    def looked(room: bool) -> Callable[[Made], Coroutine[Any, Any, None]]:
        async def work(made: Made) -> None:
            times.clear()
            began = made.clock.now
            made.server.of[0] = [RUNNING]
            made.server.meanwhile = lambda: times.append(round(made.clock.now - began, 2))
            asyncio.get_running_loop().call_later(40.0, made.stop.set)
            while not made.stop.is_set():
                await made.follower.looked(1, room=room)

        return work

    followed(looked(False), 0)
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert apart[:4] == pytest.approx([0.1, 0.1, 0.15, 0.225], abs=0.006)
    assert apart[-1] == pytest.approx(5.0)
    followed(looked(True), 0)
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert apart[0] == pytest.approx(0.03, abs=0.02)
    assert apart[-1] < 40.0 / 16 + 0.1


def test_a_job_that_may_rest_has_that_time_to_start_as_well() -> None:
    made = Made(0, functions=[fn(debounce=Rest(30.0))])
    made.again(e0=[QUEUED])
    made.again(129.9)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "timed_out"}


def test_what_is_waited_for_is_in_the_words_of_what_is_given_up() -> None:
    made = Made(0, functions=[fn(batch=Rest(30.0))])
    made.again(50.0)
    assert made.ends == {0: "no_job"}
    assert "within 50s" in str(made.journal.ends[0][1])
    other = Made(0)
    other.again(40.5, e0=[job("a"), job("b", "Scheduled")])
    other.again(59.5)
    assert other.journal.ends == {0: ("timed_out", "its job has not started after 1m40s")}


def test_functions_that_were_told_just_now_are_not_asked_for_again() -> None:
    made = Made(0)
    made.again(15.0)
    made.again(5.0)
    assert (made.server.known, made.ends) == (1, {0: "no_job"})


def test_what_a_filter_leaves_to_others_is_never_in_doubt() -> None:
    """Only doubts make the poller read lists."""
    made = Made(0, functions=[fn("f"), fn("g", condition="data.x")])
    made.again(e0=[F_DONE])
    made.again(2.0)
    assert (made.server.read, made.ends) == (0, {0: "completed"})


def test_a_step_knows_when_the_first_job_of_before_was_there() -> None:
    made = Made(functions=[fn("f"), fn("g", rate_limit=Rate(1, 60.0))])
    before = step_of(made)
    made.clock.now += 10.0
    made.journal.going = {0: (F_DONE,)}
    made.server.of = {0: [F_DONE]}
    made.follower.restore([event(0)], before)
    made.again()
    made.again()
    assert made.ends == {0: "dropped"}


@pytest.mark.parametrize(("ran", "left"), [(25.0, 60.0), (10.0, 50.0)])
def test_a_step_knows_until_when_a_job_of_before_had_not_started(ran: float, left: float) -> None:
    """It was seen waiting 15 s ago, so it cannot have run for 25."""
    made = Made()
    sent, before = made.clock.now, step_of(made)
    made.clock.now += 40.0
    made.journal.going = {0: (replace(QUEUED, since=sent + 30.0),)}
    made.follower.restore([event(0)], before)
    made.again(5.0, e0=[job(ran=ran)])
    made.again(left - 0.1)
    assert made.ends == {}
    made.again(0.1)
    assert made.ends == {0: "timed_out"}


def test_a_step_whose_events_have_time_looks_once() -> None:
    made = Made()
    before = step_of(made)
    made.follower.restore([event(0)], before)
    assert asyncio.run(made.follower._sweep()) == (False, False)


def test_an_event_that_comes_later_is_followed_from_then_on() -> None:
    async def work(made: Made) -> None:
        await asyncio.sleep(30.0)
        made.server.of[0] = [DONE]
        made.follower.add([event(0)])
        await asyncio.wait_for(made.follower.settled(1), 1.0)

    assert followed(work).ends == {0: "completed"}


def test_where_all_is_waited_for_no_stage_has_a_name_and_nothing_is_left_behind() -> None:
    async def work(made: Made) -> None:
        made.server.of[0] = [RUNNING]
        asyncio.get_running_loop().call_later(9.0, made.server.of.update, {0: [DONE]})
        await made.follower.settled()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2, "the work and the follower"

    assert followed(work, 0).shown.longest_ == []


def test_an_event_without_a_job_hangs_as_well() -> None:
    async def work(made: Made) -> None:
        made.server.of[1] = [RUNNING]
        asyncio.get_running_loop().call_later(10.0, made.stop.set)
        await made.follower.settled(1)

    for _, item, ago, until, queued in followed(work, 0, 1).shown.longest_:
        assert (item, queued) == ("o/r0", True)
        assert 0.0 <= ago <= 10.0
        assert ago + until == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("awaited", "own"), [(1, True), (None, True), (2, False), ("nothing", False)]
)
def test_only_where_the_run_waits_for_open_events_alone_it_waits_in_its_own_way(
    awaited: Any, own: bool
) -> None:
    """A step ends there; in other cases the follower sleeps beside the sender."""
    looks: list[float] = []

    class Watched(Waits):
        async def look(self, seconds: float, last_sent: float) -> None:
            looks.append(last_sent)
            await super().look(seconds, last_sent)

    async def work(made: Made) -> None:
        made.follower.waits = Watched(made.clock, made.stop, lambda: None)
        made.server.of[0] = [RUNNING]
        asyncio.get_running_loop().call_later(20.0, made.stop.set)
        while not made.stop.is_set():
            if awaited == "nothing":
                await asyncio.sleep(5.0)
            else:
                await made.follower.looked(awaited)

    made = followed(work, 0)
    assert bool(looks) is own
    assert len(made.server.looked) < 30, "time passes between two looks"


def test_after_room_was_waited_for_looks_are_as_far_apart_as_before() -> None:
    async def work(made: Made) -> None:
        made.server.of[0] = [RUNNING]
        await asyncio.sleep(20.0)
        await made.follower.looked(1, room=True)
        made.server.looked.clear()
        await asyncio.sleep(20.0)
        assert len(made.server.looked) < 8

    followed(work, 0)


def test_overdue_events_of_a_step_are_given_up_at_once_after_a_look() -> None:
    async def work(made: Made) -> None:
        made.clock.now += 500.0
        began = made.clock.now
        made.follower.restore([event(0)], step_of(made))
        await made.follower.settled(1)
        assert made.clock.now == began
        assert made.ends == {0: "no_job"}

    followed(work)
