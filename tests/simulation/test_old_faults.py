"""The simulation finds what was once there, put back by a patch, one at a time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.old_faults import OLD_FAULTS, table
from tests.simulation.story import simulate

PAGE = Path(__file__).parents[2] / "docs/testing.md"


NEAR = 40  # seeds: a change of the code may move a fault to another one


@pytest.mark.parametrize("name", OLD_FAULTS)
def test_a_seed_finds_the_fault_and_holds_without_it(name: str) -> None:
    first, put_back = OLD_FAULTS[name].seed, OLD_FAULTS[name].put_back
    near = range(first, first + NEAR)
    found = next((seed for seed in near if simulate(seed, then=put_back).broken), None)
    assert found is not None
    assert not simulate(found).broken


def test_ten_of_them_at_least_are_in_the_documentation() -> None:
    assert len(OLD_FAULTS) >= 10
    found = re.search(r"<!-- old faults -->\n\n(.*?)\n\n", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    assert found[1] == table()
