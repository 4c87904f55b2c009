"""Random faults and deaths: whatever happens, each event takes effect exactly once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.depth import depth
from tests.faults.schedules import come_through, lost_and_doubled
from tests.support import make_plan, new_store, repos

PARTS = 4  # the schedules are split over so many tests, to keep all cores busy
SCHEDULES = depth(104, 1_000) // PARTS
SOAKED = depth(1_000, 10_000)


@pytest.mark.parametrize("part", range(PARTS))
def test_over_random_schedules_of_faults_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, record_property: Any, part: int
) -> None:
    plan = make_plan(tmp_path, repos(5) + "operations: [sync, embed]\nbatch_size: 2\n")
    store = new_store(tmp_path)
    lost = doubled = processes = 0
    for number in range(part * SCHEDULES, (part + 1) * SCHEDULES):
        random = Random(number)  # noqa: S311 - a schedule that fails can be run again
        run_id = f"RUN{number}."
        server, took = come_through(store, plan, random, faulty=0.3, deadly=0.04, run_id=run_id)
        more_lost, more_doubled = lost_and_doubled(server, plan, run_id)
        assert (more_lost, more_doubled) == (0, 0), f"schedule {number}"
        lost, doubled, processes = lost + more_lost, doubled + more_doubled, processes + took
    record_property(
        "random faults: schedules, processes, lost, doubled", (SCHEDULES, processes, lost, doubled)
    )
    assert processes > SCHEDULES, "some of them must have died"


def test_soak_many_events_through_random_faults(tmp_path: Path, record_property: Any) -> None:
    plan = make_plan(tmp_path, repos(SOAKED) + "operations: [fire]\nbatch_size: 40\n")
    server, processes = come_through(
        new_store(tmp_path),
        plan,
        Random(7),  # noqa: S311
        faulty=0.2,
        deadly=0.01,
    )
    lost, doubled = lost_and_doubled(server, plan)
    record_property("soak: events, processes, lost, doubled", (SOAKED, processes, lost, doubled))
    assert (lost, doubled) == (0, 0)
