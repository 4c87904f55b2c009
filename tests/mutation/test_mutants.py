"""When enough of the changes is noticed."""

from __future__ import annotations

import pytest

from tests.mutation.mutants import DECIDING, Mutant, equivalents, holds, mutants

CARRIES = [Mutant("runner/app/run.py", "f", range(1), range(1), "c", n) for n in range(100)]
DECIDES = [Mutant(DECIDING[0], "f", range(1), range(1), "c", n) for n in range(900)]


@pytest.mark.parametrize(
    ("lived", "enough"),
    [([], True), (CARRIES[:15], True), (CARRIES[:16], False), (DECIDES[:1], False)],
)
def test_of_the_sample_85_of_100_are_noticed_and_of_what_decides_each(
    lived: list[Mutant], enough: bool
) -> None:
    assert holds(CARRIES, lived) is enough


def test_what_is_said_to_be_equivalent_is_a_change_of_the_code() -> None:
    said = equivalents().keys()
    made = {mutant.key for file in {file for file, *_ in said} for mutant in mutants(file)}
    assert said - made == set()
