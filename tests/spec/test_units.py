"""Durations and priorities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.units import PRIORITIES, counted, format_duration, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("0s", 0),
        ("1h", 3600),
        ("1h1m1s1ms", 3661.001),
        ("1.5h", 5400),
        ("90m", 5400),
        ("999999999h", 999999999 * 3600),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


REFUSED = [
    *("", "5", "5 s", "-5s", "5S", "1s1m", "1m1m", ".5s", "5.s", "1e3s", "inf", "5s\n"),
    *("\N{ARABIC-INDIC DIGIT FIVE}s", "9" * 400 + "h"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused(text: str) -> None:
    """Units in the wrong order, other scripts' digits, and numbers that would be infinite."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_formatted_reads_as_the_same(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert math.isclose(parse_duration(text), milliseconds / 1000, rel_tol=1e-12)


def test_a_formatted_duration_is_short() -> None:
    assert [format_duration(s) for s in (0, 0.5, 5, 59.999, 60, 90.5, 3600, 3661)] == [
        "0s",
        "500ms",
        "5s",
        "59.999s",
        "1m",
        "1m30.5s",
        "1h",
        "1h1m1s",
    ]


def test_priorities_rank_from_the_most_urgent() -> None:
    assert sorted(PRIORITIES, key=PRIORITIES.__getitem__) == ["critical", "high", "medium", "low"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((1, "event"), "1 event"),
        ((0, "event"), "0 events"),
        ((2000, "batch"), "2,000 batches"),
        ((2, "query"), "2 queries"),
        ((2, "key"), "2 keys"),
        ((1, "event", "were"), "1 event was"),
        ((3, "more item", "have"), "3 more items have"),
        ((1, "other", "are"), "1 other is"),
    ],
)
def test_a_figure_and_its_noun_agree(given: tuple[int, str], said: str) -> None:
    assert counted(*given) == said


@given(st.integers(0, 4_102_444_800), st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]))
def test_a_count_of_seconds_is_no_time_in_iso_8601(seconds: int, unit: int) -> None:
    """Python would read some as times: milliseconds of 2023 as a day in 1701."""
    if len(str(seconds * unit)) != len("20260131"):
        with pytest.raises(ValueError, match="is not a time in ISO 8601"):
            parse_time(seconds * unit)


@pytest.mark.parametrize("written", [1701011200000, "1701011200000", "170101121200"])
def test_digits_alone_are_a_day_or_nothing(written: object) -> None:
    assert parse_time(20260131) == parse_time("2026-01-31")
    with pytest.raises(ValueError, match="is not a time in ISO 8601"):
        parse_time(written)
