"""The whole system under seeds: whatever happens, its promises hold."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.adapters.clock import SystemClock
from tests.depth import depth
from tests.simulation.clockwork import Scheduler, installed
from tests.simulation.story import Story, simulate

PARTS = 8  # separate tests, to use all cores
SEEDS = depth(40, 10_000)  # `.ci/run` goes on from there
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", range(PARTS))
def test_over_seeds_of_plans_people_and_faults_every_promise_holds(
    part: int, record_property: Any
) -> None:
    verdicts = [simulate(seed) for seed in range(part, SEEDS, PARTS)]
    broken = [str(one) for one in verdicts if one.broken]
    assert not broken, "\n".join(broken)
    sums = [sum(getattr(one, name) for one in verdicts) for name in ("events", "faults")]
    record_property("simulation: seeds, events, faults", (len(verdicts), *sums))
    assert all(sums), "something was sent, and something went wrong"


def test_it_holds_in_postgresql_as_well_whose_connections_break(
    new_schema: Callable[[str], str], record_property: Any
) -> None:
    seeds = range(depth(4, 600))
    verdicts = [simulate(seed, server_state=new_schema(str(seed))) for seed in seeds]
    broken = [str(one) for one in verdicts if one.broken]
    assert not broken, "\n".join(broken)
    sums = [sum(getattr(one, name) for one in verdicts) for name in ("events", "faults")]
    record_property("simulation in PostgreSQL: seeds, events, faults", (len(verdicts), *sums))


def test_a_seed_is_replayed_to_the_letter() -> None:
    first, count = 5, 4  # one of them is submitted to workers
    command = [
        sys.executable,
        "-m",
        "tests.simulation",
        "--seed",
        str(first),
        "--count",
        str(count),
    ]
    ran = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    seeds = range(first, first + count)
    assert ran.stdout.splitlines()[:-1] == [str(simulate(seed)) for seed in seeds]


def test_time_passes_in_the_shortest_wait() -> None:
    """Seed 3689 waited forever for the last 0.0000000005 s of a delay, as that took no time."""
    world = Scheduler(0)

    async def nap() -> None:
        await SystemClock().sleep(1e-10, asyncio.Event())

    with installed(world):
        process = world.spawn("one", lambda: asyncio.run(nap()))
        world.run(lambda: process.ended, 60)
    assert process.error is None
    assert world.elapsed() > 0


def _drains_nothing(story: Story) -> bool:
    return story.calm and story.written[-1].drains and story.data.backlog == 0


def _is_followed(story: Story) -> bool:
    return story.calm and story.follow and story.kind == "run" and story.written[-1].drains


@pytest.mark.parametrize(("where", "most"), [(_drains_nothing, 12), (_is_followed, depth(8, 400))])
def test_killed_at_any_transaction_a_run_comes_to_its_end(
    where: Callable[[Story], bool], most: int
) -> None:
    worlds = (simulate(seed, where=where) for seed in range(1_000))
    world = next(one for one in worlds if one.processes)
    kills = [(number, after) for number in range(1, world.written + 1) for after in (False, True)]
    chosen = Random(0).sample(kills, min(most, len(kills)))  # noqa: S311
    verdicts = [simulate(world.seed, kill=kill) for kill in chosen]
    assert not [str(one) for one in verdicts if one.broken]
    assert all(one.processes > world.processes for one in verdicts), "somebody went on with it"
