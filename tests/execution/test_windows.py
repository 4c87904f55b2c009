"""Windows of a plan: nothing is sent outside them, whatever the run waits for."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.adapters.guards import Window
from runner.errors import BackfillError
from runner.execution.context import RunContext
from runner.execution.pacing import Checkpoint, Step
from runner.model import WindowGuard
from runner.output import words
from runner.spec.opening import opening
from tests.depth import depth
from tests.execution.test_in_flight import Mortals, capped, server_of
from tests.execution.test_in_flight import world as jobs_of
from tests.execution.test_pacing import World
from tests.faults.schedules import Crash
from tests.support import (
    ORIGIN,
    Recorder,
    close_stores,
    lost_after,
    make_plan,
    new_store,
    repos,
)

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
    made = world(
        tmp_path, repos(6) + SLOWLY, "2026-11-25 12:00"
    )  # a Wednesday; UTC is one hour behind
    made.drive(600)
    reason = (
        "outside its window (22:00-06:00, mon-fri, Europe/Berlin): it opens at 2026-11-25 21:00 UTC"
    )
    assert isinstance(made.observer, Recorder)
    waits = [progress.waiting for progress in made.observer.progresses if progress.waiting]
    assert words.waiting(waits[-1], made.clock.now) == reason
    assert f"waiting: {reason}" in made.observer.notes
    assert made.drive()[0].how == "complete"
    assert sent_at(made) == [
        "Wed 21:00", "Wed 23:00", "Thu 01:00", "Thu 03:00", "Thu 21:00", "Thu 23:00",
    ]  # fmt: skip


def test_a_request_whose_answer_was_lost_is_made_again_within_the_window_alone(
    tmp_path: Path,
) -> None:
    made = world(tmp_path, repos(3) + SLOWLY, "2026-11-25 21:30")
    made.server.faults = [lost_after] * 10
    with suppress(BackfillError):
        made.drive()
    made.server.faults = []
    requests = len(made.server.bodies)
    made.clock.now = datetime(2026, 11, 26, 18, tzinfo=UTC).timestamp()
    made.drive(600)
    assert len(made.server.bodies) == requests
    assert made.drive()[0].how == "complete"
    assert len(made.server.effects) == 3


@settings(
    max_examples=depth(2, 1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cap=st.integers(1, 5),
    takes=st.sampled_from([0.5, 60.0, 900.0]),
    delay=st.sampled_from(["0s", "1m", "10m"]),
    seed=st.integers(0, 1 << 30),
    steps=st.booleans(),
)
def test_windows_holds_and_caps_are_kept_whatever_dies_and_is_resumed(
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Any,
    cap: int,
    takes: float,
    delay: str,
    seed: int,
    steps: bool,
) -> None:
    folder, random = tmp_path_factory.mktemp("windows"), Random(seed)  # noqa: S311 - repeated
    body = capped(cap, 12, f"batch_size: {random.randint(1, 5)}\ndelay: {delay}\n")
    made = jobs_of(folder, body, workers=3, takes=takes)
    made.random, made.chance = random, 0.03
    made.clock.now = datetime(2026, 11, 27, 23, random.randrange(60), tzinfo=UTC).timestamp()
    spec = WindowGuard("00:20-00:05")  # it is closed for a quarter of an hour each day
    window = opening(spec)
    made.guards = [Window(spec, window, made.clock.time)]
    held = 0
    for _ in range(1_000):
        if is_held := random.random() < 0.2:
            new_store(folder, made.clock.time).hold(ORIGIN, "prod", "incident", None)
        before = len(made.server.came)
        try:
            for_so_long = 60.0 if is_held else random.choice([60.0, 900.0, 20_000.0])
            ending = _driven(made, for_so_long, steps=steps)
        except (Crash, BackfillError):
            ending = None
        if is_held:
            held += 1
            assert len(made.server.came) == before, "what is held sends nothing"
            new_store(folder, made.clock.time).let_go(ORIGIN)
        if ending == "complete":
            break
    assert len(set(made.server.effects)) == len(made.server.effects) == 12
    assert 0 < server_of(made).most_out <= cap
    outside = [at for at, _, _ in made.server.came if not window.state(at)[0]]
    record_property(
        "windows and holds: schedules, requests, outside a window, holds",
        (1, len(made.server.came), len(outside), held),
    )
    assert outside == []
    close_stores()


def _driven(made: Mortals, seconds: float, *, steps: bool) -> str:
    """Drive for so long: in one process, or step by step."""
    if not steps:
        return made.drive(seconds)[0].how
    until = made.clock.now + seconds
    before: Checkpoint | None = None
    while made.clock.now < until:
        kept = before

        def step(context: RunContext, kept: Checkpoint | None = kept) -> Step:
            return Step(context.clock, context.stop, context.journal.keep_lease, before=kept)

        ending, driven = made.drive(20.0, step)
        if ending.how != "stopped":
            return ending.how
        assert driven
        before = driven.checkpoint()
        made.clock.now = max(made.clock.now + 0.1, driven.until)
    return "stopped"
