"""A seed determines the ids of its events, as on the server."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ulid import ULID

from runner.execution.seeds import event_id, internal_ids, make_seed
from tests.support import make_plan, repos

SMALL = st.integers(0, 3)
NEAR_THE_END = st.integers(2**32 - 3, 2**32 - 1)


@example(1, b"\x12\x34\x56\x78\x9a\xbc", 0x89ABCDEF, range(2))
@given(
    st.integers(0, 2**48 - 1),
    st.binary(min_size=6, max_size=6),
    st.one_of(SMALL, NEAR_THE_END, st.integers(0, 2**32 - 1)),
    st.builds(lambda start, count: range(start, start + count), *[st.integers(0, 2_500)] * 2),
)
def test_the_ids_of_a_request_are_those_that_the_server_counts_up_from_its_seed(
    milliseconds: int, entropy: bytes, low: int, indices: range
) -> None:
    seed = f"{milliseconds},{base64.b64encode(entropy + low.to_bytes(4, 'big')).decode()}"
    prefix = milliseconds.to_bytes(6, "big") + entropy
    assert internal_ids(seed, indices) == [
        str(ULID(prefix + ((low + index + 1) % 2**32).to_bytes(4, "big"))) for index in indices
    ]


def test_a_seed_is_the_time_and_ten_random_bytes() -> None:
    milliseconds, _, encoded = make_seed(1_750_000_000.5, Random(0)).partition(",")  # noqa: S311
    assert milliseconds == "1750000000500"
    assert len(base64.b64decode(encoded)) == 10
    assert make_seed(1.0, Random(0)) != make_seed(1.0, Random(1))  # noqa: S311


@pytest.mark.parametrize(
    ("numbered", "operation", "expected"),
    [
        (False, None, "RUN1:sync:o/r0"),
        (True, None, "RUN1:sync:o/r0#1"),
        (False, "other", "RUN1:other:o/r0"),
    ],
)
def test_an_event_is_known_by_its_run_operation_item_and_place(
    tmp_path: Path, numbered: bool, operation: str | None, expected: str
) -> None:
    (stage,) = make_plan(tmp_path, repos(1) + "operations: [sync]\n").stages
    assert event_id("RUN1", replace(stage, numbered=numbered), "o/r0", 0, operation) == expected
