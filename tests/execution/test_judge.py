"""Which answers of a database make a check hold; no answer is never 0 or 100 %."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.execution.judge import Since, compares, figure, judge
from runner.model import BoundQuestion, Check, Expect, Json, Query, RowSecurity, Table

STARTED = Since(datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC))


def check(**expect: Any) -> Check:
    options = {key: expect.pop(key) for key in ("unchanged", "moment") if key in expect}
    return Check(
        "c",
        BoundQuestion(Query("q"), {}),
        Expect(**expect),
        options.pop("moment", "end"),
        **options,
    )


def table(*values: Any) -> Table:
    return Table(("repo", "pct"), tuple((f"o/r{i}", value) for i, value in enumerate(values)))


HOLDS = [
    (check(column="pct", at_least=95), table(95, 100)),
    (check(column="pct", at_most=0), table(0)),
    (check(column="pct", at_least=1, at_most=2), table(1, 2)),
    (check(column="pct", equals="done"), table("done")),
    (check(column="pct", newer_than="run.started_at"), table("2025-06-15T15:06:41+00:00")),
    (check(column="pct", newer_than="run.started_at"), table("2025-06-15T17:06:41+02:00")),
    (check(column="pct", newer_than="2025-01-01"), table("2025-06-15T15:06:41")),
    (check(rows_at_most=0, rows_at_least=0), table()),
    (check(rows_at_least=2), table(None, None)),
]


@pytest.mark.parametrize(("wanted", "answer"), HOLDS)
def test_an_answer_that_is_expected_holds(wanted: Check, answer: Table) -> None:
    assert judge(wanted, answer, None, STARTED).message is None


FAILS = [
    (check(column="pct", at_least=0), table(), "no data: the query gives no rows"),
    (check(column="pct", at_most=100), table(None), "no data: `pct` is NULL (o/r0)"),
    (check(column="pct", at_most=100), table(3, None, None), "`pct` is NULL (o/r1, o/r2)"),
    (check(column="percent", at_least=0), table(1), "the query gives no column `percent`"),
    (check(column="pct", at_least=95), table(96, 94.5), "(o/r1)"),
    (check(column="pct", at_least=95), table("96"), "`pct`"),
    (check(column="pct", at_least=1), table(True), "`pct`"),
    (check(column="pct", equals="done"), table("failed"), "`pct`"),
    (check(column="pct", equals="5"), table(5), "the number `5`, not the string `5`"),
    (check(column="pct", newer_than="run.started_at"), table("2025-06-15T15:06:40+00:00"), "newer"),
    (check(column="pct", newer_than="run.started_at"), table("yesterday"), "is not a time"),
    (check(column="pct", newer_than="2025-01-01", at_least=1), table("2025-06-15"), "not a number"),
    (check(column="pct", newer_than="2025-01-01", equals="x"), table("2025-06-15"), "not x"),
    (check(column="pct", equals=4, at_least=5), table(4), "below 5"),
    (check(rows_at_most=0, rows_at_least=0), table(1), "1 row; expected rows 0"),
    (check(rows_at_least=2), table(1), "1 row; expected rows at least 2"),
]


@pytest.mark.parametrize(("wanted", "answer", "words"), FAILS)
def test_an_answer_that_is_not_expected_says_why(wanted: Check, answer: Table, words: str) -> None:
    verdict = judge(wanted, answer, None, STARTED)
    assert verdict.message
    assert words in verdict.message


@pytest.mark.parametrize(
    ("answer", "expect", "seen", "holds"),
    [
        (table(None), {"column": "pct", "at_most": 0}, "no item", True),
        (table(), {"column": "pct", "at_most": 0}, "no item", True),
        (table(0), {"column": "pct", "at_most": 0}, "pct 0", True),
        (table(3), {"column": "pct", "at_most": 0}, "pct 3", False),
        (table(0), {"column": "pct", "at_least": 1}, "pct 0", False),
        (table(), {"rows_at_least": 1}, "0 rows", False),
    ],
)
def test_a_figure_of_no_items_that_is_no_figure_proves_and_refutes_nothing(
    answer: Table, expect: Any, seen: str, holds: bool
) -> None:
    whole = Check("c", BoundQuestion(Query("q"), {"left": []}, "left"), Expect(**expect), "after")
    verdict = judge(whole, answer, None, STARTED)
    assert (verdict.seen, verdict.holds) == (seen, holds)
    some = replace(whole, question=replace(whole.question, items=("a",)))
    assert judge(some, answer, None, STARTED).holds == (holds and seen != "no item")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (({"a": 1}, {"b": None}), '`pct` is not a number: `{"a": 1}`'),
        ((["a", None], [None, "a"]), '`pct` is not a number: `["a", null]`'),
        ((True, False), "`pct` is not a number: `true`"),
        (("x" * 100_000,), f"`pct` is not a number: `{'x' * 60}…`"),
    ],
)
def test_whatever_a_column_holds_is_shown_as_json_and_not_at_length(
    values: tuple[Json, ...], shown: str
) -> None:
    """Even values without an order, such as those of `jsonb` and of arrays."""
    bound = judge(check(column="pct", at_least=1), table(*values), None, STARTED)
    assert shown in (bound.message or "")
    newer = judge(check(column="pct", newer_than="2020-01-01"), table(*values), None, STARTED)
    assert shown.replace("number", "time") in (newer.message or "")
    equal = judge(check(column="pct", equals=1), table(*values[:1]), None, STARTED)
    assert max(len(equal.message or ""), len(equal.seen)) < 100


@pytest.mark.parametrize("length", [79, 80, 81])
def test_a_value_of_eighty_characters_is_shown_whole(length: int) -> None:
    verdict = judge(check(column="pct", equals="x"), table("x" * length), None, STARTED)
    assert verdict.seen == f"pct {'x' * length if length <= 80 else '`' + 'x' * 60 + '…`'}"


COMPARED = [
    (check(column="pct", change="increased"), 40, 41, None),
    (check(column="pct", change="increased"), 40, 40, "completed but nothing changed"),
    (check(column="pct", change="increased"), 40, 39, "not increased"),
    (check(column="pct", change="decreased"), 40, 39, None),
    (check(column="pct", change="decreased"), 40, 41, "not decreased"),
    (check(column="pct", at_least=95), 90, 96, None),
    (check(column="pct", at_least=95), 96, 96, "completed but nothing changed: pct 96, as before"),
    (check(column="pct", at_least=95, unchanged="allow"), 96, 96, None),
    (check(column="pct", at_least=95), 90, 90, "`pct`"),
]


@pytest.mark.parametrize(("wanted", "before", "now", "words"), COMPARED)
def test_figures_are_compared_with_those_before(
    wanted: Check, before: float, now: float, words: str | None
) -> None:
    message = judge(wanted, table(now), table(before), STARTED).message
    assert (message is None) == (words is None)
    assert words is None or words in (message or "")


@pytest.mark.parametrize(
    ("values", "blank"),
    [((0,), True), ((0, 0.0), True), ((0, 1), False), ((1,), False), ((False,), False)],
)
def test_zeros_alone_are_what_a_blind_role_would_see_as_well(
    values: tuple[object, ...], blank: bool
) -> None:
    verdict = judge(check(column="pct", at_most=1), table(*values), None, STARTED)
    assert verdict.blank is blank


def test_one_row_that_changed_is_a_change() -> None:
    """Rows are compared by their text, whatever their order."""
    now = Table(("repo", "pct"), (("o/b", 99), ("o/a", 97)))
    wanted = check(column="pct", at_least=95)
    before = Table(("repo", "pct"), (("o/a", 96), ("o/b", 99)))
    assert judge(wanted, now, before, STARTED).holds
    same = Table(("repo", "pct"), (("o/a", 97), ("o/b", 99)))
    assert not judge(wanted, now, same, STARTED).holds


def test_a_row_that_was_not_there_before_has_increased_and_cannot_have_decreased() -> None:
    increased, decreased = (check(column="pct", change=way) for way in ("increased", "decreased"))
    assert judge(increased, table(5, 5), table(4), STARTED).holds
    assert not judge(decreased, table(3, 5), table(4), STARTED).holds


def test_what_has_to_be_asked_before_the_work() -> None:
    assert compares(check(column="pct", at_least=95))
    assert compares(check(column="pct", change="decreased", unchanged="allow"))
    assert not compares(check(column="pct", at_least=95, unchanged="allow"))
    assert not compares(check(column="pct", newer_than="run.started_at"))
    assert not compares(check(column="pct", at_least=95, moment="before"))
    assert not compares(check(rows_at_least=1))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (table(), "0 rows, but one is needed"),
        (table(1, 2), "2 rows, but one is needed"),
        (table(None), "`pct` is NULL"),
        (table("3"), "`pct` is not a number"),
        (Table(("n",), ((3,),)), "no column `pct`"),
    ],
)
def test_a_backlog_is_one_number_and_nothing_else_is_zero(answer: Table, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        figure("pct", answer)
    assert figure("pct", table(0)) == 0


@pytest.mark.parametrize(
    ("security", "message", "note"),
    [
        ([], None, None),
        (None, None, "it is not known whether this key sees the rows"),
        ([RowSecurity("t", False)], None, None),
        (
            [RowSecurity("t", True), RowSecurity("u", False), RowSecurity("v", True)],
            "no data: row-level security hides all rows of `t`, `v` from this role",
            None,
        ),
    ],
)
def test_a_zero_proves_nothing_where_policies_hide_the_rows(
    security: Sequence[RowSecurity] | None, message: str | None, note: str | None
) -> None:
    verdict = judge(check(column="pct", at_most=0), table(0), None, STARTED).under(security)
    assert (verdict.message, verdict.note) == (message, note)
    full = judge(check(column="pct", at_most=0), table(0), table(0), STARTED)
    assert full.note
    assert full.under(security).note == full.note


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("o/a", 0), ("o/a", 5)], "`n` is 0, below 1 (o/a)"),
        ([("o/a", 5), ("o/a", 0)], "`n` is 0, below 1 (o/a (row 2))"),
        ([("o/a", 5), ("o/a", 5), ("o/a", 0)], "`n` is 0, below 1 (o/a (row 3))"),
        ([(7, 5), (8, 0)], "`n` is 0, below 1 (row 2)"),
        ([(7, 0), (8, 5)], "`n` is 0, below 1 (row 1)"),
        ([(7, 0)], "`n` is 0, below 1"),
        ([(7, "x")], "`n` is not a number: `x`"),
    ],
)
def test_each_row_counts_and_is_named_by_its_text_or_its_number(
    rows: list[tuple[Json, ...]], words: str
) -> None:
    answer = Table(("item", "n"), tuple(rows))
    assert judge(check(column="n", at_least=1), answer, None, None).message == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0,) * 5, "(o/r0, o/r1, o/r2, o/r3, o/r4)"),
        ((0,) * 6, "(o/r0, o/r1, o/r2, o/r3, o/r4 and 1 more)"),
    ],
)
def test_five_items_are_named_and_the_others_counted(values: tuple[int, ...], words: str) -> None:
    verdict = judge(check(column="pct", at_least=1), table(*values), None, None)
    assert verdict.message == f"`pct` is 0, below 1 {words}"


def test_a_truth_may_be_of_rows_that_a_blind_role_does_not_see() -> None:
    """Such as `not exists (select ...) as done`."""
    assert judge(check(column="pct", equals=True), table(True), None, STARTED).blank
    assert not judge(check(column="pct", equals=1), table(1), None, STARTED).blank


@pytest.mark.parametrize(("answer", "blank"), [(table(), True), (table(0), False)])
def test_no_rows_are_what_a_blind_role_would_see_as_well(answer: Table, blank: bool) -> None:
    assert judge(check(rows_at_least=0), answer, None, STARTED).blank is blank


@pytest.mark.parametrize(
    ("than", "words"),
    [
        ("run.started_at", "the run's start, 2025-06-15 15:06:40+0000"),
        ("2025-06-01", "2025-06-01"),
    ],
)
def test_what_is_not_newer_is_shown_beside_what_it_had_to_be_newer_than(
    than: str, words: str
) -> None:
    verdict = judge(check(column="pct", newer_than=than), table("2025-05-01"), None, STARTED)
    assert verdict.message == f"`pct` is 2025-05-01, not newer than {words} (o/r0)"


@pytest.mark.parametrize(
    ("written", "zone", "since", "note"),
    [
        ("2026-01-01T00:00Z", None, STARTED, None),
        (
            "2026-01-01",
            None,
            STARTED,
            "`pct` has no zone and was read in UTC, the zone of the session",
        ),
        (
            "2026-01-01",
            None,
            None,
            "`pct` has no zone and was read in UTC, the zone of the session",
        ),
        (
            "2026-01-01",
            "Asia/Tokyo",
            Since(STARTED.at, ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
            "`pct` has no zone and was read in Asia/Tokyo, as `timezone` says",
        ),
    ],
)
def test_a_time_without_a_zone_is_noted_with_the_zone_it_was_read_in(
    written: str, zone: str | None, since: Since | None, note: str | None
) -> None:
    question = BoundQuestion(Query("q", timezone=zone), {})
    wanted = Check("c", question, Expect("pct", newer_than="2025-01-01"), "end")
    verdict = judge(wanted, table(written), None, since)
    assert (verdict.message, verdict.note) == (None, note)
