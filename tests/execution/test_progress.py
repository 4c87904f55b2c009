"""What an observer is told."""

from __future__ import annotations

from pathlib import Path

from runner.execution.progress import Tracker
from tests.support import FakeClock, Recorder, make_plan, repos


def test_rate_and_time_left_come_from_what_was_sent_and_the_pacing_to_come(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(10) + "operations: [fire]\nbatch_size: 2\ndelay: 6s\n")
    clock, observer = FakeClock(), Recorder()
    tracker = Tracker(plan.stages, observer, clock)
    tracker.begin(1, 0, 0, 0)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.0, 24.0)
    clock.now += 4
    tracker.sent(1, 2, 0)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.5, 24.0)
    clock.now += 36
    tracker.sent(1, 2, 0)
    assert (observer.progresses[-1].rate, observer.progresses[-1].left) == (0.1, 60.0)
    clock.now += 1000
    tracker.settled(1, completed=1, failed=0)
    last = observer.progresses[-1]
    assert (last.rate, last.running, last.completed) == (0.1, 3, 1)


def test_rejected_events_are_failed_and_not_running(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(3) + "operations: [fire]\n")
    observer = Recorder()
    tracker = Tracker(plan.stages, observer, FakeClock())
    tracker.begin(1, 0, 0, 0)
    tracker.sent(1, 2, 1)
    last = observer.progresses[-1]
    assert (last.sent, last.running, last.failed, last.left) == (3, 2, 1, None)
