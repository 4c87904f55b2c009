"""A target that is held: no run sends anything there until it is released."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from runner.errors import BackfillError
from runner.output import words
from tests.execution.test_pacing import World
from tests.support import ORIGIN, Recorder, lost_after, make_plan, new_store, repos

PLAN = repos(6) + "operations: [sync]\nbatch_size: 1\ndelay: 10s\n"


def hold(folder: Path, seconds: float | None = None) -> None:
    new_store(folder).hold(ORIGIN, "prod", "incident 42", seconds)


def test_a_run_under_way_holds_within_one_request_and_goes_on_when_it_is_let_go(
    tmp_path: Path,
) -> None:
    made = World(tmp_path, make_plan(tmp_path, PLAN))
    made.drive(15)
    assert len(made.server.received) == 2
    hold(tmp_path)
    made.server.faults = []
    made.drive(120)
    assert len(made.server.received) == 2
    assert isinstance(made.observer, Recorder)
    waits = [progress.waiting for progress in made.observer.progresses if progress.waiting]
    assert words.waiting(waits[-1], made.clock.now) == "prod is held: incident 42"
    view = new_store(tmp_path).glance(new_store(tmp_path).find("RUN1"))
    assert "waiting: prod is held: incident 42" in made.observer.notes
    assert view.record.status == "running"
    assert new_store(tmp_path).let_go(ORIGIN)
    assert not new_store(tmp_path).let_go(ORIGIN), "it was held once"
    assert made.drive()[0].how == "complete"
    assert len(made.server.effects) == 6


def test_a_new_run_and_a_request_whose_answer_was_lost_wait_too(tmp_path: Path) -> None:
    made = World(tmp_path, make_plan(tmp_path, PLAN))
    new_store(tmp_path).hold("http://elsewhere.test", "other", "not ours", None)
    made.server.faults = [lost_after] * 10
    with suppress(BackfillError):
        made.drive()
    requests = len(made.server.bodies)
    assert requests > 0, "another target's hold is no hold of this one"
    hold(tmp_path)
    made.server.faults = []
    made.drive(600)
    assert len(made.server.bodies) == requests
    new_store(tmp_path).let_go(ORIGIN)
    assert made.drive()[0].how == "complete"
    assert len(made.server.effects) == 6


def test_a_hold_for_a_time_ends_by_itself(tmp_path: Path) -> None:
    hold(tmp_path, seconds=-1.0)
    made = World(tmp_path, make_plan(tmp_path, PLAN))
    assert made.drive()[0].how == "complete"
