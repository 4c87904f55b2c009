"""What needs what."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.dependencies import closure, find_cycle, stable_order

NAMES = "abcdef"


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    """Names in random order; each needs only names that come before it in a hidden order."""
    hidden = draw(st.permutations(NAMES))
    needs = {
        name: draw(st.lists(st.sampled_from(hidden[:at]), unique=True)) if at else []
        for at, name in enumerate(hidden)
    }
    return {name: needs[name] for name in draw(st.permutations(NAMES))}


@given(acyclic(), st.lists(st.sampled_from(NAMES), unique=True))
def test_needs_precede_what_needs_them(needs: dict[str, list[str]], names: list[str]) -> None:
    """Also through names that were not requested."""
    ordered = stable_order(names, needs)
    assert sorted(ordered) == sorted(names)
    for at, name in enumerate(ordered):
        assert not closure(name, needs) & set(ordered[at:])


@given(acyclic(), st.lists(st.sampled_from(NAMES), unique=True))
def test_the_order_is_the_written_one_wherever_needs_allow(
    needs: dict[str, list[str]], names: list[str]
) -> None:
    """At each step the first name, in written order, whose needs are met comes next."""
    ordered = stable_order(names, needs)
    for at, name in enumerate(ordered):
        waiting = [other for other in names if other in ordered[at:]]
        free = [other for other in waiting if not closure(other, needs) & set(waiting)]
        assert name == free[0]
    assert stable_order(ordered, needs) == ordered


@given(acyclic())
def test_no_cycle_is_seen_where_there_is_none(needs: dict[str, list[str]]) -> None:
    assert find_cycle(needs) is None


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES + "?"))))
def test_a_cycle_is_a_path_of_needs_that_closes(needs: dict[str, list[str]]) -> None:
    cycle = find_cycle(needs)
    if cycle is None:
        assert not any(name in closure(name, needs) for name in needs)
        return
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1
    for name, need in pairwise(cycle):
        assert need in needs[name]


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
    ],
)
def test_the_path_of_a_cycle_is_named(needs: dict[str, list[str]], cycle: list[str]) -> None:
    assert find_cycle(needs) == cycle


def test_a_long_chain_is_no_matter() -> None:
    needs = {str(n): [str(n + 1)] for n in range(3000)}
    assert find_cycle(needs) is None
    assert find_cycle({**needs, "3000": ["0"]}) is not None
