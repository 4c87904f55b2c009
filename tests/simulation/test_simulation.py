"""The whole system under seeds: whatever befalls it, what it promises holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.depth import depth
from tests.simulation.story import simulate

PARTS = 8  # tests of their own, so that all cores are at work
SEEDS = depth(40, 10_000)
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


@pytest.mark.parametrize("seed", [5])
def test_a_seed_is_replayed_to_the_letter(seed: int) -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    ran = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == str(simulate(seed))
