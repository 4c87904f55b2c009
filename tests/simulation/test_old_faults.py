"""The simulation finds each old fault that is put back by a patch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.old_faults import OLD_FAULTS, SEEDS, table
from tests.simulation.story import simulate

PAGE = Path(__file__).parents[2] / "docs/testing.md"
NEAR = 200  # seeds: a change of the code may move a fault to another seed


@pytest.mark.parametrize("name", OLD_FAULTS)
def test_a_seed_finds_the_fault_and_holds_without_it(name: str) -> None:
    fault = OLD_FAULTS[name]
    found = next(filter(fault.breaks, range(SEEDS[name], SEEDS[name] + NEAR)), None)
    assert found is not None
    assert not simulate(found).broken


def test_ten_of_them_at_least_are_in_the_documentation() -> None:
    assert len(OLD_FAULTS) >= 10
    found = re.search(r"<!-- old faults -->\n\n(.*?)\n\n", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    assert found[1] == table()
