"""A check proves exactly the items that it is meant for, whatever rows come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.execution.doctor import examine_clocks
from runner.execution.judge import Since, covered, judge
from runner.model import (
    BoundQuestion,
    Check,
    Covered,
    DatabaseClock,
    Expect,
    Json,
    Measure,
    Query,
    Table,
)
from runner.spec.units import counted
from tests.support import make_plan, repos

ITEMS = ("o/a", "o/b", "o/c", "o/d")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = Since(START)

# What an item's row has before and after the work; None: it has no row.
Figure = float | str | None
NULL = "NULL"


def check(expect: Expect, items: tuple[str, ...] = ITEMS, *, each: bool = True) -> Check:
    key = "repo" if each else None
    return Check("c", BoundQuestion(Query("q"), {}, "repo", key, items), expect, "end")


def table(figures: dict[str, Figure], column: str = "n") -> Table:
    rows = [(name, None if n == NULL else n) for name, n in figures.items() if n is not None]
    return Table(("repo", column), tuple(rows))


def rows_of(values: st.SearchStrategy[Figure]) -> st.SearchStrategy[dict[str, Figure]]:
    return st.fixed_dictionaries(dict.fromkeys((*ITEMS, "o/other"), values))


FIGURES = rows_of(st.one_of(st.none(), st.just(NULL), st.integers(0, 3).map(float)))


def named(message: str | None, names: list[str]) -> bool:
    return message is not None and all(name in message for name in names)


@given(before=FIGURES, after=FIGURES)
def test_a_bound_is_proved_where_each_item_has_a_row_holds_and_has_moved(
    before: dict[str, Figure], after: dict[str, Figure]
) -> None:
    verdict = judge(check(Expect("n", at_least=1)), table(after), table(before), SINCE)
    missing = [name for name in ITEMS if after[name] is None]
    null = [name for name in ITEMS if after[name] == NULL]
    low = [name for name in ITEMS if after[name] == 0]
    still = [name for name in ITEMS if after[name] == before[name]]
    assert verdict.holds == (not (missing or null or low or still))
    if gone := [name for name in missing if before[name] is not None]:
        assert missing == list(ITEMS) or named(verdict.message, gone)
    first = next((bad for bad in (missing, null, low, still) if bad), [])
    assert not first or gone or named(verdict.message, first)
    assert "o/other" not in str(verdict.message)


@given(before=FIGURES, after=FIGURES)
def test_a_backlog_of_zero_need_not_move_and_any_other_figure_must(
    before: dict[str, Figure], after: dict[str, Figure]
) -> None:
    verdict = judge(check(Expect("n", at_most=2)), table(after), table(before), SINCE)
    good = all(
        isinstance(after[name], float)
        and after[name] <= 2  # type: ignore[operator]
        and (after[name] != before[name] or after[name] == 0)
        for name in ITEMS
    )
    assert verdict.holds == good
    full = [name for name in ITEMS if after[name] == before[name]]
    assert not good or bool(verdict.note) == bool(full)


@given(
    rows_of(st.one_of(st.none(), st.just(NULL), st.integers(-3, 3).map(float))),
    st.sampled_from([UTC, "Europe/Berlin", "America/New_York"]),
)
def test_newer_than_the_runs_start_needs_a_row_of_each_that_is(
    after: dict[str, Figure], zone: object
) -> None:
    called = "UTC" if zone is UTC else str(zone)
    since = Since.of(DatabaseClock(START.isoformat(), called, 0.0, 0.0))

    def shown(hours: Figure) -> Figure:
        if isinstance(hours, float):
            return (
                (START + timedelta(hours=hours)).astimezone(since.zone).strftime("%Y-%m-%d %H:%M")
            )
        return hours

    answer = table({name: shown(figure) for name, figure in after.items()}, "at")
    verdict = judge(check(Expect("at", newer_than="run.started_at")), answer, None, since)
    late = {name: isinstance(after[name], float) and after[name] > 0 for name in ITEMS}  # type: ignore[operator]
    assert verdict.holds == all(late.values())
    if verdict.holds:
        assert verdict.note == f"`at` has no zone and was read in {called}, the zone of the session"


@given(FIGURES, st.integers(0, 3), st.integers(0, 3))
def test_rows_are_counted_item_by_item(after: dict[str, Figure], low: int, more: int) -> None:
    wanted = check(Expect(rows_at_least=low, rows_at_most=low + more))
    answer = table(after)
    answer = Table(answer.columns, answer.rows * 2)
    counts = {name: 2 * (after[name] is not None) for name in ITEMS}
    bad = [name for name, count in counts.items() if not low <= count <= low + more]
    verdict = judge(wanted, answer, None, None)
    assert verdict.holds == (not bad)
    assert not bad or named(verdict.message, bad)


@pytest.mark.parametrize("way", ["increased", "decreased"])
@given(before=FIGURES, after=FIGURES)
def test_each_item_must_have_gone_the_way_that_is_asked_for(
    way: str, before: dict[str, Figure], after: dict[str, Figure]
) -> None:
    wanted = check(Expect("n", change=way))  # type: ignore[arg-type]
    verdict = judge(wanted, table(after), table(before), None)

    def gone(name: str) -> bool:
        old, new = before[name], after[name]
        if not isinstance(new, float):
            return False
        if not isinstance(old, float):
            return way == "increased"
        return new > old if way == "increased" else new < old

    assert verdict.holds == all(map(gone, ITEMS))


@pytest.mark.parametrize(("before", "after"), [((1,), (2, 3)), ((1, 2), (3,)), ((1, 2), (3, 4))])
def test_one_figure_is_compared_with_one_before(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    wanted = check(Expect("n", change="increased"), ("o/a",))
    old, new = (
        Table(("repo", "n"), tuple(("o/a", figure) for figure in figures))
        for figures in (before, after)
    )
    message = judge(wanted, new, old, None).message
    only = "but only one row can be compared with the one before (o/a)"
    assert message == f"{counted(len(after), 'row')}, {only}"


def test_one_repository_of_a_hundred_that_moved_proves_nothing_of_the_others() -> None:
    items = tuple(f"o/r{number}" for number in range(100))
    before: dict[str, Figure] = dict.fromkeys(items, 96.0)
    wanted = check(Expect("n", at_least=95), items)
    message = judge(wanted, table({**before, "o/r7": 97.0}), table(before), None).message
    assert message == (
        "completed but nothing changed: n 96 to 97 in 100 rows, as before (o/r0, o/r1, o/r2, o/r3, "
        "o/r4 and 94 more) (if that is fine, write `unchanged: allow`)"
    )


def test_one_row_for_three_repositories_proves_one() -> None:
    answer = table({"o/a": "2027-01-01"}, "at")
    wanted = check(Expect("at", newer_than="run.started_at"), ITEMS[:3])
    message = judge(wanted, answer, None, SINCE).message
    assert message == "no row for 2 of 3 items (o/b, o/c)"


def test_rows_may_name_an_item_by_its_id_and_several_rows_of_one_must_all_hold() -> None:
    question = BoundQuestion(Query("q"), {}, "repo", "id", ("o/a", "o/b"), (7, "x-1"))
    wanted = Check("c", question, Expect("n", at_least=1), "end")
    answer = Table(("id", "n"), ((7, 1), ("x-1", 1), ("x-1", 2)))
    assert judge(wanted, answer, None, None).holds
    low = Table(("id", "n"), ((7, 1), ("x-1", 1), ("x-1", 0)))
    assert judge(wanted, low, None, None).message == "`n` is 0, below 1 (o/b)"
    nameless = Table(("n",), ((7,),))
    assert "which tells the items apart" in str(judge(wanted, nameless, None, None).message)


SATURATED: list[tuple[Expect, Json, bool]] = [
    (Expect("pct", at_least=95), 100, True),
    (Expect("coverage_pct", at_least=95), 100.0, True),
    (Expect("pct", at_least=95), 99.99, False),
    (Expect("pct", equals=100), 100, True),
    (Expect("pct", at_most=100), 100, False),
    (Expect("n", at_least=95), 100, False),
    (Expect("n", at_least=95, maximum=100), 100, True),
    (Expect("n", at_least=95, maximum=100), 120, True),
    (Expect("coverage_count", at_least=95), 120, False),
    (Expect("covered_percent", at_least=95), 100.00000000000001, True),
    (Expect("n", at_least=1), 4, True),  # as many as items
    (Expect("n", at_least=1), 3, False),
    (Expect("n", at_most=0), 0, True),
    (Expect("n", at_most=10), 5, False),
    (Expect("n", equals=0), 0, True),
    (Expect("n", equals="done"), "done", False),
]


@pytest.mark.parametrize(("expect", "value", "holds"), SATURATED)
def test_only_a_figure_that_can_go_no_further_may_stay(
    expect: Expect, value: Json, holds: bool
) -> None:
    answer = Table((str(expect.column),), ((value,),))
    verdict = judge(check(expect, each=False), answer, answer, None)
    assert verdict.holds == holds
    assert verdict.note == ("unchanged, as it can go no further" if holds else None)
    assert judge(check(expect, each=False), answer, answer, None, sent=False).holds


@pytest.mark.parametrize("ahead", [-3600.0, -20.0, 0.0, 20.0, 3600.0])
def test_the_runners_clock_proves_nothing(ahead: float) -> None:
    """By the clock that wrote it, a row from before the run is older than the run."""
    clock = DatabaseClock((START + timedelta(seconds=ahead)).isoformat(), "UTC", 0.0, ahead)
    since = Since.of(clock)
    wanted = check(Expect("at", newer_than="run.started_at"), ("o/a",))
    for seconds, holds in ((-1, False), (0, False), (1, True)):
        at = datetime.fromisoformat(clock.now) + timedelta(seconds=seconds)
        answer = table({"o/a": at.isoformat()}, "at")
        assert judge(wanted, answer, None, since).holds == holds


def test_of_an_hour_that_the_clock_repeats_the_first_counts() -> None:
    clock = DatabaseClock("2026-10-25T00:45:00+00:00", "Europe/Berlin", 7200.0, 0.0)
    wanted = check(Expect("at", newer_than="run.started_at"), ("o/a",))
    for written, holds in (("2026-10-25 02:30", False), ("2026-10-25 02:50", True)):
        answer = table({"o/a": written}, "at")
        assert judge(wanted, answer, None, Since.of(clock)).holds == holds


def test_a_zone_that_only_the_database_knows_is_read_by_its_offset() -> None:
    since = Since.of(DatabaseClock(START.isoformat(), "<+03>-03", 10800.0, 0.0))
    wanted = check(Expect("at", newer_than="run.started_at"), ("o/a",))
    assert not judge(wanted, table({"o/a": "2026-03-01 15:00"}, "at"), None, since).holds
    assert judge(wanted, table({"o/a": "2026-03-01 15:01"}, "at"), None, since).holds


@given(
    st.dictionaries(
        st.sampled_from((*ITEMS, "o/other")), st.tuples(st.integers(0, 5), st.integers(0, 5))
    )
)
def test_coverage_is_a_hundred_only_where_each_item_has_a_row(
    figures: dict[str, tuple[int, int]],
) -> None:
    measure = Measure("m", BoundQuestion(Query("q"), {}, "repo", "item", ITEMS))
    answer = Table(("item", "total", "done"), tuple((k, *v) for k, v in figures.items()))
    found = covered(measure, answer)
    assert {row.item for row in found} == {*ITEMS, *figures}
    for row in found:
        total, _ = figures.get(row.item, (0, 0))
        assert (row.percent is None) == (total == 0)
    if not set(ITEMS) <= set(figures):
        assert Covered.total_of(found).percent is None


COVERED = Measure("m", BoundQuestion(Query("q"), {}))


def test_coverage_has_the_figures_as_they_are_given() -> None:
    columns = ("item", "total", "done", "pending", "last_sync")
    answer = Table(columns, (("o/a", 9, 4, 2, "2026-01-01"), ("o/b", 1.0, 0.0, None, None)))
    before = Table(columns, (("o/a", 9, 1, 0, None), ("o/c", 1, 1, 0, None)))
    assert covered(COVERED, answer, before) == [
        Covered("m", "o/a", 9, 4, 2, "2026-01-01", 1),
        Covered("m", "o/b", 1, 0),
    ]


@pytest.mark.parametrize("name", ["total", "done", "pending"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "is NULL, which is no data"), (True, "is no number"), ("4", "is no number")],
)
def test_coverage_of_what_is_no_figure_is_refused(name: str, value: Json, words: str) -> None:
    figures = {"total": 9, "done": 4, "pending": 2, name: value}
    answer = Table(("item", *figures), (("o/a", *figures.values()),))
    if (name, value) == ("pending", None):
        assert covered(COVERED, answer)[0].pending is None
        return
    with pytest.raises(ValueError, match=f"the coverage `m` of o/a: `{name}` {words}"):
        covered(COVERED, answer)


@pytest.mark.parametrize("item", [None, True, ["o/a"], {"name": "o/a"}])
def test_coverage_of_what_names_no_item_is_refused(item: Json) -> None:
    answer = Table(("item", "total", "done"), ((item, 1, 1),))
    with pytest.raises(ValueError, match=r"the coverage `m`: `item` is .*, which is not an item"):
        covered(COVERED, answer)
    named = Table(("item", "total", "done"), (("o/a", 1, 1),))
    assert covered(COVERED, named, answer)[0].before is None


def test_coverage_before_a_run_that_had_other_columns_is_not_known() -> None:
    now = Table(("item", "total", "done"), (("o/a", 1, 1),))
    assert covered(COVERED, now, Table(("item", "total"), (("o/a", 1),)))[0].before is None


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (0.0, "ok", "is within 2 s of this machine's; its session's time zone is Europe/Berlin"),
        (-2.0, "ok", "is within 2 s"),
        (2.5, "warn", "is 2.5 s ahead of this machine's"),
        (-3600.0, "warn", "is 3,600.0 s behind this machine's"),
    ],
)
def test_clocks_that_are_far_apart_are_a_warning_and_no_hindrance(
    tmp_path: Path, ahead: float, level: str, words: str
) -> None:
    """One line per database, however many queries go to it."""

    class Clocks:
        def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
            raise AssertionError(f"{query.text} is asked with {parameters}")

        def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:
            raise AssertionError(f"{query.text} is asked with {parameters}")

        def clock(self, name: str | None) -> DatabaseClock:
            return DatabaseClock(START.isoformat(), "Europe/Berlin", 3600.0, 0.0 if name else ahead)

    one = "{name: %s, query: select 1 as n, expect: {rows: 1}%s}"
    checks = [one % ("a", ""), one % ("b", ""), one % ("c", ", database: other")]
    plan = make_plan(tmp_path, f"{repos(1)}operations: [sync]\nchecks: [{', '.join(checks)}]\n")
    found, other = examine_clocks(plan, Clocks())
    assert (found.about, found.level) == ("clock", level)
    assert found.message.startswith(f"the clock of the database {words}")
    assert other.message.startswith("the clock of the database `other` is within 2 s")
