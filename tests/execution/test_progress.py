"""What an observer is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from runner.execution.context import Ending, How
from runner.execution.ports import Control, Journal, Unanswered
from runner.execution.progress import Tracker, summarise
from runner.model import (
    CheckResult,
    Driven,
    Failure,
    JobLink,
    Outcome,
    Round,
    RunStatus,
    StageFigures,
    StageRecord,
    Summary,
    Totals,
    Waiting,
)
from runner.model.run import WaitKind
from runner.planning.event_blocks import pack
from runner.planning.limits import PAST
from tests.support import FakeClock, Recorder, make_plan, repos


def test_rate_and_time_left_come_from_what_was_sent_and_the_pacing_to_come(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(10) + "operations: [fire]\nbatch_size: 2\ndelay: 6s\n")
    clock, observer = FakeClock(), Recorder()
    driven = Driven(((clock.now, clock.now),))
    tracker = Tracker(plan.stages, {}, observer, clock, followed=True, driven=driven)
    tracker.begin(1)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.0, 24.0)
    clock.now += 4
    tracker.sent(1, 2, 0, clock.now)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.0, 24.0)
    clock.now += 40
    tracker.sent(1, 2, 0, clock.now)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.1, 60.0)
    clock.now += 1000
    tracker.settled(1, {"completed": 1})
    last = observer.progresses[-1]
    assert (last.rate, last.running, last.outcomes) == (0.1, 3, {"completed": 1})


def test_time_left_goes_by_the_pace_that_an_operator_has_set(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(10) + "operations: [fire]\nbatch_size: 2\ndelay: 6s\n")
    clock, observer = FakeClock(), Recorder()
    driven = Driven(((clock.now, clock.now),))
    tracker = Tracker(plan.stages, {}, observer, clock, followed=True, driven=driven)
    tracker.sent(1, 2, 0, clock.now)
    assert observer.progresses[-1].left == 24.0
    tracker.tuned(Control(batch_size=4, delay=60.0))
    tracker.begin(1)
    assert observer.progresses[-1].left == 120.0


def test_rejected_events_are_not_running(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(3) + "operations: [fire]\n")
    observer = Recorder()
    tracker = Tracker(plan.stages, {}, observer, FakeClock(), followed=True, driven=Driven())
    tracker.begin(1)
    tracker.sent(1, 2, 1, 0.0)
    last = observer.progresses[-1]
    assert (last.sent, last.running, last.left) == (3, 2, None)
    assert last.outcomes == {"rejected": 1}


@pytest.mark.parametrize("followed", [True, False])
def test_what_ends_before_its_stage_is_gone_through_again_makes_nothing_negative(
    tmp_path: Path, followed: bool
) -> None:
    """A resumed run has open events in stages that it has not reached again."""
    plan = make_plan(tmp_path, repos(3) + "operations: [fire]\n")
    observer = Recorder()
    known = {1: StageFigures(3, {"completed": 1})}
    tracker = Tracker(plan.stages, known, observer, FakeClock(), followed=followed, driven=Driven())
    tracker.settled(1, {"timed_out": 1})
    tracker.begin(1)
    assert [one.running for one in observer.progresses] == [1 if followed else 0] * 2
    assert observer.progresses[-1].outcomes == {"completed": 1, "timed_out": 1}


class Tracked:
    """A stage of three events, ten seconds apart, that waits for its jobs."""

    def __init__(self, folder: Path, known: StageFigures | None = None) -> None:
        plan = make_plan(folder, repos(3) + "operations: [sync]\nbatch_size: 1\ndelay: 10s\n")
        self.stage, self.clock, self.observer = plan.stages[0], FakeClock(), Recorder()
        self.tracker = Tracker(
            plan.stages,
            {1: known} if known else {},
            self.observer,
            self.clock,
            followed=True,
            driven=Driven(),
        )

    @property
    def last(self) -> StageRecord:
        return self.observer.progresses[-1]


def test_a_rejected_event_has_ended_as_it_was_sent_and_an_accepted_one_has_not(
    tmp_path: Path,
) -> None:
    made = Tracked(tmp_path, StageFigures(1, {"completed": 1}, 5.0, 7.0, 9.0))
    made.tracker.waiting(1, Waiting("for room", "room"))
    made.tracker.sent(1, 1, 0, 6.0)
    assert (made.last.began, made.last.last_sent, made.last.ended) == (5.0, 7.0, 9.0)
    assert [bool(one.waiting) for one in made.observer.progresses] == [True, False]
    made.tracker.sent(1, 0, 1, 8.0)
    assert (made.last.last_sent, made.last.ended) == (8.0, made.clock.now)
    assert made.tracker.lost() == {1: 1}
    made.tracker.settled(1, {"failed": 1})
    assert made.tracker.lost() == {1: 2}
    assert Tracked(tmp_path).tracker.lost() == {1: 0}


def test_a_stage_is_done_once_it_was_gone_through_and_nothing_goes_on(tmp_path: Path) -> None:
    made = Tracked(tmp_path)
    made.tracker.sent(1, 3, 0, 1.0)
    made.tracker.settled(1, {"completed": 2})
    made.tracker.waiting(1, Waiting("for its jobs to end", "jobs"))
    made.tracker.ended(1)
    assert (made.last.waiting, made.last.done) == (None, False)
    made.tracker.settled(1, {"completed": 1})
    assert made.last.done
    made.tracker.waiting(1, Waiting("a check", "pace"))
    assert not made.last.done


def test_a_round_is_shown_with_the_events_that_it_has(tmp_path: Path) -> None:
    made = Tracked(tmp_path)
    begun = Round(1, 2, 3, 6, None, 0.0)
    made.tracker.in_round(begun)
    assert (made.last.rounds, made.last.total) == ((begun,), 3)
    items = pack("app/sync", [(f"o/r{n}", b"{}") for n in range(9)])
    following = Round(1, 3, 6, 9, None, 0.0)
    made.tracker.resolved(replace(made.stage, items=items), following)
    assert (made.last.rounds, made.last.total) == ((following,), 9)
    assert made.last.left == 80.0, "nine batches, ten seconds apart"


@pytest.mark.parametrize(
    ("wait", "ago", "queued", "kind"),
    [
        (None, 60.0, False, None),
        ("pace", 60.0, False, "pace"),
        ("jobs", 9.9, False, "jobs"),
        ("jobs", 10.0, False, "named jobs"),
        ("jobs", 60.0, True, "named queued"),
        ("queued", 60.0, False, "named jobs"),
        ("room", 60.0, False, "named room"),
        ("room", 60.0, True, "named room"),
    ],
)
def test_the_job_that_a_stage_waits_for_longest_is_named_after_ten_seconds(
    tmp_path: Path, wait: WaitKind | None, ago: float, queued: bool, kind: str | None
) -> None:
    made = Tracked(tmp_path)
    made.tracker.waiting(1, Waiting("x", wait) if wait else None)
    for _ in range(2):
        made.tracker.longest(1, "o/r0", ago, 30.0, queued=queued)
    shown = made.last.waiting
    named = shown is not None and shown.item == "o/r0"
    assert (f"named {shown.kind}" if named else shown.kind) == kind if shown else kind is None
    assert len(made.observer.progresses) == 1 + named, "once"
    if named and shown:
        assert (shown.since, shown.until) == (made.clock.now - ago, made.clock.now + 30.0)


@dataclass
class Over:
    """The journal of a run that has ended."""

    sums: Totals
    lost: Sequence[Outcome] = ()
    checks_: Sequence[CheckResult] = ()
    run_id: str = "RUN1"
    open_: Sequence[Unanswered] = ()

    def unanswered(self) -> Sequence[Unanswered]:
        return self.open_

    def totals(self) -> Totals:
        return self.sums

    def failures(self) -> Sequence[Failure]:
        return [
            Failure("sync", f"o/r{number}", "app/sync", outcome, "why")
            for number, outcome in enumerate(self.lost)
        ]

    def checks(self) -> Sequence[CheckResult]:
        return self.checks_

    def unsettled(self) -> Sequence[int]:
        return [0] * (self.sums.sent - sum(self.sums.outcomes.values()))

    def driven(self) -> Driven:
        return Driven(((1.0, 4.0),))

    def links(self, limit: int) -> Sequence[JobLink]:
        assert limit == 5
        return ()

    def chain(self) -> None:
        return None


def summary(
    how: How = "complete",
    lost: Sequence[Outcome] = (),
    *,
    failed_check: bool | None = None,
    followed: bool = True,
    reason: str | None = None,
    unanswered: int = 0,
    started_again: bool = False,
    option: str = "more",
    **sums: int,
) -> Summary:
    """Summarise a run of three events."""
    totals = Totals(planned=3, **{"accepted": 3, **sums})
    checks = (
        [] if failed_check is None else [CheckResult("c", "end", None, not failed_check, "", "")]
    )
    chunk = Unanswered(1, 1, 1, "", range(unanswered), 0.0, 0.0, started_again)
    journal = cast(Journal, Over(totals, lost, checks, open_=[chunk]))
    ending = Ending(how, reason, option)
    return summarise(journal, plan="p", target="t", followed=followed, ending=ending)


ALL: dict[str, Any] = {"completed": 3}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({**ALL}, "completed"),
        ({**ALL, "followed": False}, "completed"),
        ({**ALL, "failed_check": False}, "completed"),
        ({**ALL, "failed_check": True}, "failed"),
        ({"completed": 2, "failed": 1, "lost": ["failed"]}, "failed"),
        ({"completed": 2, "timed_out": 1, "lost": ["timed_out"]}, "incomplete"),
        ({"completed": 1, "timed_out": 1, "failed": 1, "lost": ["timed_out", "failed"]}, "failed"),
        ({"accepted": 2, "completed": 2}, "incomplete"),
        ({"accepted": 2, "rejected": 1, "completed": 2, "lost": ["rejected"]}, "failed"),
        ({"completed": 2, "followed": False}, "sent"),
        ({"completed": 2}, "completed"),
        ({"how": "cancelled", **ALL}, "cancelled"),
        ({"how": "failed", **ALL}, "failed"),
        ({"how": "limit", **ALL}, "incomplete"),
        ({"how": "limit", "completed": 2, "failed": 1, "lost": ["failed"]}, "incomplete"),
        ({"how": "stopped", **ALL}, "incomplete"),
        ({"how": "stopped", "completed": 2, "failed": 1, "lost": ["failed"]}, "failed"),
        ({"how": "stopped", "completed": 1, "failed": 1, "lost": ["failed"]}, "incomplete"),
        (
            {"how": "stopped", "completed": 1, "failed": 1, "lost": ["failed"], "followed": False},
            "failed",
        ),
        (
            {"how": "stopped", "accepted": 2, "completed": 1, "failed": 1, "lost": ["failed"]},
            "incomplete",
        ),
    ],
)
def test_a_run_has_the_status_that_its_events_and_checks_give_it(
    given: dict[str, Any], status: RunStatus
) -> None:
    found = summary(**given)
    assert found.status == status
    assert (found.duration, found.option, found.run_id) == (3.0, "more", "RUN1")


STOPS = "not sent, since the plan stops on a failure; `backfill resume RUN1 --past-failures` sends"
AGAIN = (
    "2 events were sent again with the same ids after an answer was lost; each takes effect once"
)
UNFOLLOWED = (
    "sent without following: it is not known whether jobs started or how they ended; `backfill "
    "resume RUN1` follows them"
)


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        ({**ALL}, []),
        ({**ALL, "reason": "a check fails"}, ["a check fails; nothing more was sent"]),
        ({**ALL, "option": PAST}, [f"`backfill resume RUN1 {PAST}` works on its goal again"]),
        ({**ALL, "option": PAST, "reason": "no"}, ["no; nothing more was sent"]),
        ({"accepted": 2, "completed": 2, "option": PAST}, ["1 event is not sent yet"]),
        (
            {"accepted": 2, "completed": 1, "failed": 1, "lost": ["failed"]},
            [f"1 event was {STOPS} it"],
        ),
        ({"accepted": 1, "failed": 1, "lost": ["failed"]}, [f"2 events were {STOPS} them"]),
        ({"accepted": 2, "completed": 2}, ["1 event is not sent yet"]),
        ({"accepted": 1, "completed": 1}, ["2 events are not sent yet"]),
        (
            {"how": "stopped", "accepted": 1, "failed": 1, "lost": ["failed"]},
            ["2 events are not sent yet"],
        ),
        (
            {"how": "stopped", "accepted": 0, "unanswered": 1},
            [
                "2 events are not sent yet",
                "1 event may have been accepted: no valid answer came",
            ],
        ),
        (
            {"how": "cancelled", "accepted": 0, "unanswered": 3},
            ["3 events may have been accepted: no valid answer came"],
        ),
        (
            {"how": "stopped", "accepted": 0, "unanswered": 3, "started_again": True},
            ["3 events are not sent yet"],
        ),
        ({"how": "cancelled", "accepted": 2, "completed": 2}, ["1 event was not sent"]),
        ({"how": "cancelled", "accepted": 1, "completed": 1}, ["2 events were not sent"]),
        ({"completed": 1, "followed": False}, [UNFOLLOWED]),
        ({"completed": 1}, []),
        ({**ALL, "followed": False}, []),
        (
            {**ALL, "deduplicated": 2},
            [AGAIN],
        ),
        (
            {"completed": 2, "failed": 1},
            ["1 attempt did not take effect, and later ones have done the work"],
        ),
        (
            {"completed": 0, "failed": 3, "lost": ["failed"]},
            ["2 attempts did not take effect, and later ones have done the work"],
        ),
    ],
)
def test_what_a_caller_must_know_besides_the_figures_is_said(
    given: dict[str, Any], notes: list[str]
) -> None:
    assert [*summary(**given).notes] == notes
