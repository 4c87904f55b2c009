"""Windows of a plan: nothing is sent outside them, whatever the run waits for meanwhile."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from runner.adapters.guards.window import Window
from runner.errors import BackfillError
from runner.model import WindowGuard
from runner.output import words
from runner.spec.opening import opening
from tests.execution.test_pacing import World
from tests.support import Recorder, lost_after, make_plan, repos

NIGHT = WindowGuard("22:00-06:00", "mon-fri", "Europe/Berlin")
SLOWLY = "operations: [sync]\nbatch_size: 1\ndelay: 2h\n"


def world(folder: Path, body: str, start: str) -> World:
    made = World(folder, make_plan(folder, body))
    made.clock.now = datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()
    made.guards = [Window(NIGHT, opening(NIGHT), made.clock.time)]
    return made


def sent_at(made: World) -> list[str]:
    return [datetime.fromtimestamp(at, UTC).strftime("%a %H:%M") for at, _, _ in made.server.came]


def test_what_is_due_outside_a_window_waits_for_it_and_says_so(tmp_path: Path) -> None:
    made = world(tmp_path, repos(6) + SLOWLY, "2026-11-27 12:00")  # a Friday; UTC is an hour less
    made.drive(3600)
    reason = (
        "outside its window (22:00-06:00, mon-fri, Europe/Berlin): it opens at 2026-11-27 21:00 UTC"
    )
    assert isinstance(made.observer, Recorder)
    waits = [progress.waiting for progress in made.observer.progresses if progress.waiting]
    assert words.waiting(waits[-1], made.clock.now) == reason
    assert f"waiting: {reason}" in made.observer.notes
    assert made.drive()[0].how == "complete"
    assert sent_at(made) == [
        "Fri 21:00", "Fri 23:00", "Sat 01:00", "Sat 03:00", "Mon 21:00", "Mon 23:00",
    ]  # fmt: skip


def test_a_request_whose_answer_was_lost_is_made_again_within_the_window_alone(
    tmp_path: Path,
) -> None:
    made = world(tmp_path, repos(3) + SLOWLY, "2026-11-27 21:30")
    made.server.faults = [lost_after] * 10
    with suppress(BackfillError):
        made.drive()
    made.server.faults = []
    requests = len(made.server.bodies)
    made.clock.now = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
    made.drive(3600)
    assert len(made.server.bodies) == requests
    assert made.drive()[0].how == "complete"
    assert len(made.server.effects) == 3
