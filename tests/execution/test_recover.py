"""What happens, when a run goes on, to requests whose answer was lost and to earlier failures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from runner.errors import Incomplete, TargetDown
from runner.execution.context import Decision
from runner.execution.pacing import Step
from runner.execution.ports import JobsApi, Journal, RequestTooLarge
from runner.execution.recover import passed_over, recover, settle_sent, tally, watched
from runner.execution.seeds import internal_ids
from runner.execution.send import Sent
from runner.model import Job, StageFigures
from tests.execution.test_send import MIXED, Made, make
from tests.support import FakeClock, make_plan, repos

FIRE = "operations: [fire]\n"
HOURS = 3600.0


@dataclass
class Jobs:
    """The jobs of the events with these internal ids."""

    of: set[str] = field(default_factory=set)
    asked: int = 0

    async def jobs(self, internal_id: str) -> Sequence[Job]:
        self.asked += 1
        return [Job("a", "f", "Running", ended=False)] if internal_id in self.of else []


def lost(folder: Path, *, most: int = 5_000) -> Made:
    """Make a run whose second request, of three events, got no answer."""
    made = make(folder, repos(5) + FIRE, 2, TargetDown("away"), most=most)

    async def main() -> None:
        ahead = made.ahead()
        await made.batch(ahead, 2)
        await made.batch(ahead, 3)

    with pytest.raises(Incomplete):
        asyncio.run(main())
    return made


def recovered(made: Made, jobs: Jobs | None, decision: Decision = None) -> list[Sent]:
    async def main() -> list[Sent]:
        found = recover(made.plan, made.sender, cast(JobsApi, jobs), decision)
        return [sent async for sent in found]

    made.observer.notes.clear()
    made.server.asked.clear()
    return asyncio.run(main())


def later(made: Made, seconds: float) -> None:
    assert isinstance(made.sender.clock, FakeClock)
    made.sender.clock.now += seconds


def ids_of(made: Made) -> list[str]:
    return internal_ids(made.journal.unanswered()[0].seed, range(3))


def test_a_request_whose_answer_was_lost_is_made_again_and_says_so(tmp_path: Path) -> None:
    made = lost(tmp_path)
    later(made, 23 * HOURS - 1.0)
    jobs = Jobs({*ids_of(made)})
    (sent,) = recovered(made, jobs)
    assert made.server.asked == [3]
    assert (sent.accepted, sent.chunk.batch, sent.chunk.operation) == (3, 1, "fire")
    assert [event.item for event in sent.events()] == ["o/r2", "o/r3", "o/r4"]
    assert made.observer.notes == ["batch 1 of fire: its answer was lost; sent again"]
    assert jobs.asked == 0, "the server knows the events again"
    made.journal.settle()
    times = [one.sent_at for one in made.journal.unsettled()][2:]
    assert times == [made.sender.clock.time()] * 3, "its jobs are waited for from now on"
    assert made.journal.totals().deduplicated == 3


def test_what_is_done_when_it_is_sent_has_completed(tmp_path: Path) -> None:
    made = lost(tmp_path)
    (stage,) = made.plan.stages
    waits = replace(made.plan, stages=(replace(stage, wait="completed"),))
    assert settle_sent(waits, made.journal) == {}
    assert (stage.wait, made.journal.totals().completed) == ("sent", 0)
    assert settle_sent(made.plan, made.journal) == {1: 2}
    assert made.journal.totals().completed == 2


@pytest.mark.parametrize("of", [0, 2])
@pytest.mark.parametrize("age", [23 * HOURS, 900 * HOURS])
def test_after_a_day_its_jobs_are_looked_for_and_where_there_is_one_it_was_taken(
    tmp_path: Path, of: int, age: float
) -> None:
    made = lost(tmp_path)
    later(made, age)
    (sent,) = recovered(made, Jobs({ids_of(made)[of]}))
    assert made.server.asked == []
    assert sent.accepted == 3
    assert made.observer.notes == ["batch 1 of fire: its answer was lost, but its jobs exist"]
    assert not made.journal.unanswered()


@pytest.mark.parametrize("followed", [True, False])
@pytest.mark.parametrize(("decision", "asked"), [("send", [3]), ("taken", [])])
def test_where_there_is_no_trace_of_it_the_decision_counts(
    tmp_path: Path, followed: bool, decision: Decision, asked: list[int]
) -> None:
    made = lost(tmp_path)
    later(made, 48 * HOURS)
    (sent,) = recovered(made, Jobs() if followed else None, decision)
    assert made.server.asked == asked
    assert sent.accepted == 3


def test_without_a_decision_the_run_ends_and_says_what_is_open(tmp_path: Path) -> None:
    made = lost(tmp_path)
    later(made, 47.505 * HOURS)
    with pytest.raises(Incomplete) as error:
        recovered(made, Jobs())
    assert str(error.value) == (
        "batch 1 of fire (3 events from o/r2 on) was sent 48h ago and its answer was lost; the "
        "server would no longer recognise its events, and none of their jobs can be found"
    )
    assert made.server.asked == []
    assert len(made.journal.unanswered()) == 1


def test_what_died_with_an_embedded_target_is_started_again_however_old(tmp_path: Path) -> None:
    made = make(tmp_path, repos(2) + FIRE)
    made.send(2)
    made.journal.requeue(lambda: "1750000000000,AAECAwQFBgcICQ==")
    later(made, 48 * HOURS)
    (sent,) = recovered(made, Jobs())
    assert (made.server.asked, sent.accepted) == ([2], 2)
    ended = "its jobs ended with their process"
    assert made.observer.notes == [f"batch 1 of fire: {ended}; sent again"], "no answer was lost"


@pytest.mark.parametrize(("there", "accepted", "left"), [(True, 3, 5), (False, 0, 2)])
def test_a_request_that_is_too_large_when_made_again_was_taken_or_is_cut_anew(
    tmp_path: Path, there: bool, accepted: int, left: int
) -> None:
    made = lost(tmp_path)
    made.server.script = [RequestTooLarge("too large")]
    (sent,) = recovered(made, Jobs({ids_of(made)[2]} if there else set()))
    assert sent.accepted == accepted
    assert made.journal.next_position() == left
    assert not made.journal.unanswered()


def test_what_is_made_again_is_the_request_that_it_was_in_any_stage(tmp_path: Path) -> None:
    """Even in a stage of several operations, or with items that occur more than once."""
    plan = repos(3) + "flow: items\noperations: [sync, mark]\n"
    made = make(tmp_path, plan, 1, 1, TargetDown("away"), catalog=MIXED)
    bodies: list[bytes] = []
    send = made.server.send

    async def kept(body: bytes, *given: object) -> object:
        bodies.append(body)
        return await send(body, *given)  # type: ignore[arg-type]

    made.server.send = kept  # type: ignore[method-assign,assignment]
    with pytest.raises(Incomplete):
        made.send(6)
    (sent,) = recovered(made, None)
    assert bodies[2] == bodies[3]
    assert (sent.chunk.operation, sent.chunk.event) == ("sync", "app/sync")
    open_ = [(one.position, one.operation, one.name) for one in watched(made.plan, made.journal)]
    assert open_ == [(0, "sync", "app/sync"), (1, "mark", "app/mark"), (2, "sync", "app/sync")]


@dataclass
class Known:
    """A journal that is made up of its figures."""

    figures: Mapping[int, StageFigures] = field(default_factory=dict)
    good: Mapping[int, int] = field(default_factory=dict)
    position: int = 0
    open_: int = 0
    lost: Sequence[int] = ()  # the number of events of each unanswered request

    def by_stage(self) -> Mapping[int, StageFigures]:
        return self.figures

    def made_good(self) -> Mapping[int, int]:
        return self.good

    def next_position(self) -> int:
        return self.position

    def unsettled(self) -> Sequence[int]:
        return range(self.open_)

    def unanswered(self) -> Sequence[object]:
        return [_Lost(range(count)) for count in self.lost]


@dataclass
class _Lost:
    positions: Sequence[int]


def step(*, failed: int = 0, ended: int = 0) -> Step:
    nothing = lambda: None  # noqa: E731
    return Step(FakeClock(), asyncio.Event(), nothing, failed=failed, ended=ended)


@pytest.mark.parametrize(
    ("limit", "in_step", "figures"),
    [("", True, (0, 0)), ("max_failures: 5\n", False, (0, 0)), ("max_failures: 5\n", True, (4, 8))],
)
def test_a_step_counts_on_where_the_last_one_ended_and_a_resume_anew(
    tmp_path: Path, limit: str, in_step: bool, figures: tuple[int, int]
) -> None:
    plan = make_plan(tmp_path, repos(40) + FIRE + limit)
    stages = {1: StageFigures(20, {"failed": 4, "completed": 9}), 2: StageFigures(9, {"no_job": 2})}
    journal = Known(stages, position=20, open_=3, lost=[2, 4])
    before = step(failed=2, ended=3) if in_step else None
    assert tally(plan, cast(Journal, journal), before) == figures


LOST = {2: StageFigures(9, {"failed": 3}), 1: StageFigures(9, {"failed": 2, "completed": 1})}


@pytest.mark.parametrize(
    ("failed", "past", "passed"),
    [
        (None, True, {1: 2, 2: 3}),
        (None, False, {2: 1}),
        (0, True, {1: 0, 2: 1}),
        (1, True, {1: 1, 2: 1}),
        (2, True, {1: 2, 2: 1}),
        (4, True, {1: 2, 2: 2}),
        (9, True, {1: 2, 2: 3}),
        (9, False, {2: 1}),
    ],
)
def test_failures_that_were_made_good_or_passed_over_do_not_stop_a_run(
    failed: int | None, past: bool, passed: dict[int, int]
) -> None:
    """The first failures are passed over. `failed`: how many a step passed over when it began."""
    journal = cast(Journal, Known(LOST, {2: 1}))
    before = None if failed is None else step(failed=failed)
    assert passed_over(journal, before, past=past) == passed
