"""What an observer is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.execution.progress import Tracker
from runner.model import Driven, StageFigures
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
    """A resumed run has events open in stages that it has not come to yet."""
    plan = make_plan(tmp_path, repos(3) + "operations: [fire]\n")
    observer = Recorder()
    known = {1: StageFigures(3, {"completed": 1})}
    tracker = Tracker(plan.stages, known, observer, FakeClock(), followed=followed, driven=Driven())
    tracker.settled(1, {"timed_out": 1})
    tracker.begin(1)
    assert [one.running for one in observer.progresses] == [1 if followed else 0] * 2
    assert observer.progresses[-1].outcomes == {"completed": 1, "timed_out": 1}
