"""Coverage never claims more than there is, and figures are shown as they are compared."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.execution.judge import covered, judge
from runner.model import BoundQuestion, Check, Covered, Expect, Json, Measure, Query, Table
from runner.output.coverage import figures_json, write_coverage_text


@given(st.integers(1, 10**12), st.integers(0, 2 * 10**12))
def test_a_hundred_per_cent_is_all_and_nothing_is_more(total: int, done: int) -> None:
    row = Covered("of", "item", total, done)
    assert row.percent is not None
    assert (row.percent == 100, row.percent_text == "100.0") == (done >= total,) * 2
    assert 0 <= row.percent <= 100
    assert (row.missing == 0) == (done >= total)


def test_what_one_item_has_too_much_of_does_not_hide_what_another_lacks() -> None:
    found = Covered.total_of([Covered("of", "a", 10, 15), Covered("of", "b", 10, 5)])
    assert (found.done, found.missing, found.percent) == (15, 5, 75.0)


def test_what_one_item_does_not_tell_is_not_known_of_all() -> None:
    known, unknown = Covered("of", "a", 9, 5, pending=4, before=3), Covered("of", "b", 9, 5)
    both = Covered.total_of([known, known])
    assert (both.pending, both.gained) == (8, 4)
    both = Covered.total_of([known, unknown])
    assert (both.pending, both.gained) == (None, None)


@pytest.mark.parametrize("column", ["total", "done", "pending"])
@pytest.mark.parametrize(("value", "words"), [(-1, "-1"), (1.5, "1.5"), (-1.0, "-1")])
def test_what_is_no_count_is_no_coverage(column: str, value: float, words: str) -> None:
    """Cut to a whole number, 1 of 1.5 would be all; -5 of -1 would be a bar of 500 %."""
    figures = {"item": "a", "total": 3, "done": 2.0, "pending": 1, column: value}
    measure = Measure("m", BoundQuestion(Query("q"), {}))
    with pytest.raises(ValueError, match=f"of a: `{column}` is {words}, which is not a count"):
        covered(measure, Table(tuple(figures), (tuple(figures.values()),)))


@pytest.mark.parametrize(
    ("wanted", "value", "words"),
    [
        (True, 0, "`n` is 0, not true"),
        (False, True, "`n` is true, not false"),
        ("ready", 2.0, "`n` is 2, not ready"),
        ("", 2.0, '`n` is 2, not ""'),
        ("-", "", '`n` is "", not -'),
        ("-", " ", '`n` is " ", not -'),
    ],
)
def test_a_value_is_shown_as_queries_and_plans_write_it(
    wanted: str | bool, value: Json, words: str
) -> None:
    expect = Expect("n", equals=wanted)
    check = Check("c", BoundQuestion(Query("q"), {}), expect, "end")
    assert judge(check, Table(("n",), ((value,),)), None, None).message == words
    assert expect.words == f"n equal to {words.rpartition(' ')[2]}"


@pytest.mark.parametrize(
    ("bound", "value", "words"),
    [
        ({"at_most": 1_000_000}, 1_000_001, "`n` is 1000001, above 1000000"),
        ({"at_least": 95}, 94.9999999, "`n` is 94.9999999, below 95"),
        ({"at_most": 0.5}, 0.50000001, "`n` is 0.50000001, above 0.5"),
        ({"at_least": 10**18}, 10**17, "`n` is 100000000000000000, below"),
    ],
)
def test_a_figure_is_shown_as_it_is_compared(
    bound: dict[str, float], value: float, words: str
) -> None:
    check = Check("c", BoundQuestion(Query("q"), {}), Expect("n", **bound), "end")  # type: ignore[arg-type]
    assert str(judge(check, Table(("n",), ((value,),)), None, None).message).startswith(words)


def test_what_is_not_there_has_no_figures() -> None:
    rows = [Covered("x", "o/r0", 10, 3), Covered.unknown("x", "o/r1")]
    out = io.StringIO()
    write_coverage_text({"x": rows}, out, color=False, width=100)
    lines = {line.split()[0]: line.split()[1:5] for line in out.getvalue().splitlines()[2:]}
    assert lines == {"o/r0": ["10", "3", "7", "-"], "o/r1": ["-"] * 4, "all": ["-"] * 4}


def test_of_many_items_those_that_lack_most_are_shown_and_the_others_counted() -> None:
    rows = [Covered("x", f"o/r{n}", 10, 10 if n % 30 else 3) for n in range(3_000)]
    out = io.StringIO()
    write_coverage_text({"x": rows}, out, color=False, width=100)
    text = out.getvalue()
    assert len(text.splitlines()) < 60
    assert text.index("o/r0 ") < text.index("o/r30 ") < text.index("o/r1470 "), "in their order"
    assert "o/r1500 " not in text
    assert "... and 2,950 more, 50 of them not whole (--format json)" in text
    assert "30,000" in text, "the total is that of all"
    out = io.StringIO()
    write_coverage_text({"x": rows[:50]}, out, color=False, width=100)
    assert "more" not in out.getvalue()
    assert len(figures_json({"x": rows})["x"]["items"]) == 3_000  # type: ignore[index]
