"""The order of items: by rank, missing values last, ties as written, whatever a column has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Data, Json, OrderKey, Problem
from runner.planning.rows import ordered

VALUES = (
    st.none() | st.integers(-3, 3) | st.sampled_from(["", "a", "b", "10"]) | st.booleans()
    | st.sampled_from([0.5, 2.0, -1.5]) | st.sampled_from([[1], [], {"x": 1}])
)  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "priority": st.sampled_from(["critical", "high", "medium", "low"]),
            "a": VALUES,
            "b": VALUES,
        },
    ),
    max_size=12,
)
KEYS = st.lists(
    st.builds(OrderKey, st.sampled_from(["priority", "a", "b", "nowhere"]), st.booleans()),
    max_size=3,
)


@pytest.fixture(scope="module", autouse=True, params=[0, 1_000], ids=["many values", "few"])
def few(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.planning.rows._FEW", request.param)
        yield


@dataclass
class Listed:
    rows: list[Data]
    asked: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def __iter__(self) -> Iterator[Data]:
        return iter(self.rows)

    def place(self, index: int) -> Problem:
        return Problem("", "f", index)


def order(rows: list[Data], *keys: OrderKey) -> list[int]:
    return list(ordered(Listed(rows), keys)[0])


def column(rows: list[Data], key: OrderKey) -> list[Json]:
    return [rows[index].get(key.attribute) for index in order(rows, key)]


@given(ROWS, KEYS)
def test_every_row_has_its_one_place(rows: list[Data], keys: list[OrderKey]) -> None:
    assert sorted(order(rows, *keys)) == list(range(len(rows)))


@given(ROWS)
def test_without_a_key_the_written_order_stays(rows: list[Data]) -> None:
    assert order(rows) == list(range(len(rows)))


@given(ROWS, st.booleans())
def test_missing_values_come_last_whichever_way_a_key_points(rows: list[Data], down: bool) -> None:
    for attribute in ("priority", "a", "b"):
        missing = [value is None for value in column(rows, OrderKey(attribute, down))]
        assert missing == sorted(missing)


@given(ROWS, st.booleans())
def test_numbers_and_text_order_each_among_themselves(rows: list[Data], down: bool) -> None:
    values = [value for value in column(rows, OrderKey("a", down)) if value is not None]
    numbers = [value for value in values if isinstance(value, bool | int | float)]
    texts = [str(value) for value in values if not isinstance(value, bool | int | float)]
    assert numbers == sorted(numbers, reverse=down)
    assert texts == sorted(texts, reverse=down)
    first = texts if down else numbers
    assert [str(value) for value in values[: len(first)]] == [str(value) for value in first]


@given(ROWS, st.booleans())
def test_ties_keep_the_written_order(rows: list[Data], down: bool) -> None:
    """In descending order too, which is not the ascending one reversed."""
    indexes = order(rows, OrderKey("a", down))
    for before, after in pairwise(indexes):
        a, b = rows[before].get("a"), rows[after].get("a")
        if type(a) is type(b) and a == b:
            assert before < after


@given(ROWS, KEYS)
def test_an_earlier_key_goes_before_a_later_one(rows: list[Data], keys: list[OrderKey]) -> None:
    """Rows with equal first keys are in the order of the other keys."""
    if not keys:
        return
    by_rest = order(rows, *keys[1:])
    again = [rows[index] for index in by_rest]
    assert order(rows, *keys) == [by_rest[index] for index in order(again, keys[0])]


def test_priorities_go_by_rank_not_by_letter() -> None:
    rows: list[Data] = [{"priority": p} for p in ("low", "medium", "critical", "high")]
    assert order(rows, OrderKey("priority")) == [2, 3, 1, 0]
    assert order(rows, OrderKey("priority", descending=True)) == [0, 1, 3, 2]


def test_attributes_that_no_row_has_are_named() -> None:
    rows: list[Data] = [{"a": 1}, {"a": None}]
    keys = [OrderKey("x"), OrderKey("a"), OrderKey("y")]
    assert ordered(Listed(rows), keys)[1] == ["x", "y"]
