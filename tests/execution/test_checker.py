"""When a check is made, with which query and parameters, for how long, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from runner.errors import PreflightRefused
from runner.execution.check import (
    Checker,
    QueryRunner,
    about_items_of,
    ask_now,
    compare_alike,
    needs_run,
    proving,
)
from runner.execution.judge import AFTER, BEFORE
from runner.execution.pacing import Waits
from runner.execution.ports import Journal, Resolved
from runner.execution.progress import Tracker
from runner.model import (
    BoundQuestion,
    Check,
    CheckResult,
    DatabaseClock,
    ExecutionPlan,
    Expect,
    Json,
    Measure,
    Pacing,
    Query,
    QueryRefused,
    Round,
    RowSecurity,
    Stage,
    Table,
    Until,
    Waiting,
)
from runner.planning.event_blocks import pack
from tests.support import FakeClock, Recorder

Answer = Json | Exception
STARTED = "2026-01-01T00:00:00+00:00"
FIVE = Expect("n", at_least=5)


@dataclass
class Database:
    """Gives the answers to each query in turn, the last one forever: a figure, or rows."""

    answers: Mapping[str, Sequence[Answer]]
    security: Sequence[RowSecurity] | None = ()
    asked: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)
    secured: list[Mapping[str, Json]] = field(default_factory=list)
    clocks: list[str | None] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        text = query.text
        number = sum(asked == text for asked, _ in self.asked)
        self.asked.append((text, parameters))
        self.meanwhile()
        answer = self.answers[text][min(number, len(self.answers[text]) - 1)]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Table):
            return answer
        return Table(("n",), ((answer,),))

    def clock(self, name: str | None) -> DatabaseClock:
        self.clocks.append(name)
        return DatabaseClock(STARTED, "UTC", 0.0, 0.0)

    def row_security(
        self, query: Query, parameters: Mapping[str, Json]
    ) -> Sequence[RowSecurity] | None:
        assert query.text in self.answers
        self.secured.append(parameters)
        return self.security


@dataclass
class Kept:
    """A journal that keeps answers and results."""

    answers: dict[str, Json] = field(default_factory=dict)
    results: list[CheckResult] = field(default_factory=list)

    def remembered(self, name: str) -> Json:
        return self.answers.get(name)

    def remember(self, name: str, value: Json) -> None:
        self.answers[name] = value

    def checks(self) -> Sequence[CheckResult]:
        return self.results

    def rounds(self, stage: int) -> Sequence[Round]:
        return [Round(stage, number, 0, 1, None, 0.0) for number in (1, 2)]

    def keep_check(self, result: CheckResult) -> None:
        self.results.append(result)


@dataclass
class Shown:
    waits: list[tuple[int, str | None]] = field(default_factory=list)

    def waiting(self, stage: int, wait: Waiting | None) -> None:
        self.waits.append((stage, wait and wait.reason))


def stage(number: int, operation: str, count: int = 2, **how: Any) -> Stage:
    items = pack("app/x", [(f"o/r{n}", b"{}") for n in range(count)])
    pacing = Pacing(9, 0.0)
    return Stage(number, operation, "app/x", "repo", pacing, "sent", 9.0, items=items, **how)


SYNC, EMBED = stage(1, "sync"), stage(2, "embed")


def question(text: str = "q", **parameters: Json) -> BoundQuestion:
    return BoundQuestion(Query(text), parameters)


def check(name: str = "c", moment: Any = "end", expect: Expect = FIVE, **how: Any) -> Check:
    given = {"unchanged": "allow", **how}
    asked = given.pop("question", None) or question()
    return Check(name, asked, expect, moment, **given)


class Made:
    def __init__(
        self,
        checks: Sequence[Check],
        *answers: Answer,
        coverage: Sequence[Measure] = (),
        stages: Sequence[Stage] = (SYNC, EMBED),
        **more: Sequence[Answer],
    ) -> None:
        self.clock, self.observer, self.shown = FakeClock(), Recorder(), Shown()
        self.journal, self.stop = Kept(), asyncio.Event()
        self.database = Database({"q": answers or (5,), **more})
        self.most: list[float | None] = []
        journal, tracker = cast(Journal, self.journal), cast(Tracker, self.shown)

        async def patiently(
            what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None
        ) -> Any:
            assert what == "asking the database"
            self.most.append(most)
            return await attempt()

        self.plan = ExecutionPlan(
            "p",
            "p.yaml",
            "d",
            tuple(stages),
            (),
            (),
            checks=tuple(checks),
            coverage=tuple(coverage),
        )
        waits = Waits(self.clock, self.stop, lambda: None)
        self.queries = QueryRunner(
            self.database, self.clock, self.stop, self.observer, journal, patiently
        )
        self.checker = Checker(self.plan, journal, self.queries, tracker, waits)

    def before(self) -> bool:
        return asyncio.run(self.checker.before())

    def after(self, of: Stage = SYNC) -> bool:
        return asyncio.run(self.checker.after(of))

    def end(self, stages: Sequence[Stage] = (SYNC, EMBED)) -> bool:
        return asyncio.run(self.checker.end(stages))

    @property
    def kept(self) -> list[tuple[str, bool]]:
        return [(one.name, one.ok) for one in self.journal.results]


@pytest.mark.parametrize("asks", ["before", "after", "end"])
def test_a_check_is_asked_at_its_moment_alone(asks: str) -> None:
    checks = [
        check("b", "before"),
        check("of sync", "after", operation="sync"),
        check("of embed", "after", operation="embed"),
        check("e", "end"),
    ]
    made = Made(checks)
    assert getattr(made, asks)()
    assert made.kept == [({"before": "b", "after": "of sync", "end": "e"}[asks], True)]


def test_after_a_stage_of_several_operations_the_checks_of_each_are_asked() -> None:
    made = Made([check("a", "after", operation="sync"), check("b", "after", operation="embed")])
    members = (("sync", "app/sync"), ("embed", "app/embed"))
    assert made.after(stage(1, "sync, embed", members=members))
    assert made.kept == [("a", True), ("b", True)]


def test_each_check_that_does_not_hold_is_kept_and_said() -> None:
    made = Made([check("a"), check("b", question=question("r")), check("d")], 4, r=[5])
    assert not made.end()
    assert made.kept == [("a", False), ("b", True), ("d", False)]
    assert made.observer.notes == [f"the check `{name}`: `n` is 4, below 5" for name in "ad"]


def test_what_held_before_a_resume_is_not_asked_again_and_what_did_not_is() -> None:
    made = Made([check("a"), check("b")])
    made.journal.results = [
        CheckResult("a", "end", None, ok=True, expected="", seen=""),
        CheckResult("b", "end", None, ok=False, expected="", seen=""),
    ]
    assert made.end()
    assert made.kept[2:] == [("b", True)]


def test_a_check_is_asked_again_until_it_holds_and_shown_meanwhile() -> None:
    made = Made([check(timeout=60.0, every=10.0)], 3, 4, 5)
    assert made.end()
    assert made.clock.slept == [10.0, 10.0]
    words = [f"for the check `c`: n {figure}" for figure in (3, 4)]
    assert made.shown.waits == [*((2, word) for word in words), (2, None)]
    assert made.most == [60.0, 50.0, 40.0], "the time that it has left"


def test_a_check_that_holds_at_once_shows_nothing() -> None:
    made = Made([check(timeout=60.0, every=10.0)])
    assert made.end()
    assert (made.shown.waits, made.clock.slept, made.most) == ([], [], [60.0])


def test_before_the_run_it_is_the_first_stage_that_waits() -> None:
    made = Made([check(moment="before", timeout=60.0)], 3, 5)
    assert made.before()
    assert made.shown.waits == [(1, "for the check `c`: n 3"), (1, None)]
    assert Made([check(moment="before", timeout=60.0)], 3, 5, stages=[]).before()


@pytest.mark.parametrize(
    ("timeout", "every", "slept"),
    [
        (25.0, 10.0, [10.0, 10.0, 5.0]),
        (20.0, 10.0, [10.0, 10.0]),
        (10.5, 10.0, [10.0, 0.5]),
        (0.0, 10.0, []),
    ],
)
def test_a_check_that_does_not_hold_ends_with_its_time(
    timeout: float, every: float, slept: list[float]
) -> None:
    made = Made([check(timeout=timeout, every=every)], 3)
    assert not made.end()
    assert made.clock.slept == slept
    assert made.most[-1] == (0.0 if timeout else None)
    assert made.kept == [("c", False)]
    assert made.shown.waits[-1:] == ([(2, None)] if slept else [])


def test_without_a_time_a_question_has_the_patience_of_the_run() -> None:
    made = Made([check()])
    assert made.end()
    assert made.most == [None]


def test_what_was_waited_for_before_this_step_counts() -> None:
    made = Made([check(timeout=25.0, every=10.0)], 3)
    waited = made.checker.waits

    class Before(Waits):
        def waited(self, what: str) -> float:
            return {"check c": 20.0}[what]

    made.checker.waits = Before(waited.clock, waited.stop, waited.keep_lease)
    assert not made.end()
    assert made.clock.slept == [5.0]


@pytest.mark.parametrize(("answer", "holds"), [(3, False), (5, True)])
def test_a_check_that_was_not_given_its_time_is_left_to_a_resume(answer: int, holds: bool) -> None:
    made = Made([check(timeout=25.0)], answer)
    made.database.meanwhile = made.stop.set
    assert made.end() is holds
    assert made.kept == ([("c", True)] if holds else [])
    assert made.shown.waits == []


def test_a_query_that_is_refused_is_no_answer() -> None:
    made = Made([check()], QueryRefused("no such column"))
    assert not made.end()
    (result,) = made.journal.results
    assert (result.seen, result.message) == ("no answer", "it cannot be asked: no such column")


@pytest.mark.parametrize(
    ("security", "figure", "holds", "note"),
    [
        ((), 0, True, None),
        (None, 0, True, "it is not known whether this key sees the rows"),
        ((RowSecurity("t", True),), 0, False, None),
        ((RowSecurity("t", True),), 1, True, None),
    ],
)
def test_a_zero_counts_only_where_the_rows_may_be_seen(
    security: Sequence[RowSecurity] | None, figure: int, holds: bool, note: str | None
) -> None:
    made = Made([check(expect=Expect("n", at_most=1))], figure)
    made.database.security = security
    assert made.end() is holds
    assert made.journal.results[0].note == note
    verdict = ask_now(check(expect=Expect("n", at_most=1)), made.database)
    assert (verdict.holds, verdict.note) == (holds, note)


RISES = Expect("n", change="increased")


def test_a_figure_is_compared_with_the_one_that_the_run_began_with() -> None:
    made = Made([check(expect=RISES)], 3, 4, 4)
    assert made.before()
    assert made.journal.answers == {"before c": [("n",), ((3,),)]}
    assert made.before(), "a resume keeps it"
    assert len(made.database.asked) == 1
    assert made.end()
    assert made.journal.results[0].seen == "n 4"


def test_a_figure_that_has_not_moved_proves_something_only_where_nothing_was_sent() -> None:
    for stages, holds in (([SYNC], False), ([stage(1, "sync", 0)], True)):
        made = Made([check(unchanged="fail")], 7)
        made.before()
        assert made.end(stages) is holds


def test_what_is_not_compared_is_not_asked_before() -> None:
    made = Made([check()])
    assert made.before()
    assert made.database.asked == []


def test_a_run_does_not_begin_where_nobody_tells_when(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_database: Database, _name: str | None) -> DatabaseClock:
        raise QueryRefused("no time", "ask another")

    monkeypatch.setattr(Database, "clock", refuse)
    made = Made([check(expect=Expect("n", newer_than="run.started_at"))])
    with pytest.raises(PreflightRefused, match="the run's start cannot be read: no time") as one:
        made.before()
    assert one.value.hint == "ask another"
    assert Made([check()]).before()


@pytest.mark.parametrize(("hint", "shown"), [(None, "fix its query"), ("grant it", "grant it")])
def test_what_cannot_be_asked_before_the_run_keeps_it_from_beginning(
    hint: str | None, shown: str
) -> None:
    made = Made([check(expect=RISES)], QueryRefused("no such column", hint))
    with pytest.raises(PreflightRefused, match="the check `c` cannot be asked: no such") as error:
        made.before()
    assert error.value.hint == shown
    made = Made([], QueryRefused("no such table", hint), coverage=[Measure("m", question())])
    with pytest.raises(PreflightRefused, match="the coverage `m` cannot be asked") as error:
        made.before()
    assert error.value.hint == shown


def test_coverage_is_measured_as_the_run_begins_and_at_its_end() -> None:
    made = Made([], 1, 2, 3, coverage=[Measure("m", question())])
    assert made.before()
    assert made.before(), "a resume keeps what it began with"
    assert made.end()
    assert made.end(), "what is there now is asked again"
    before, after = f"coverage m {BEFORE}", f"coverage m {AFTER}"
    assert made.journal.answers == {before: [("n",), ((1,),)], after: [("n",), ((3,),)]}


def test_coverage_that_cannot_be_told_at_the_end_is_said() -> None:
    refused = QueryRefused("no such table")
    made = Made(
        [check("c", question=question("r"))], refused, coverage=[Measure("m", question())], r=[5]
    )
    assert made.end()
    assert made.observer.notes == ["the coverage `m` cannot be asked: no such table"]
    assert made.journal.answers == {}


TIMED = "select n where at > :run_started_at"


def test_each_database_tells_once_when_the_run_began() -> None:
    other = BoundQuestion(Query("q", database="other"), {})
    newer = Expect("n", newer_than="run.started_at")
    until = Until(question(TIMED, x=1), FIVE, 3, 9, 60.0)
    checks = [check("a", expect=newer), check("b", expect=newer, question=other)]
    stages = [stage(1, "sync", until=until), EMBED]
    made = Made(checks, stages=stages)
    made.database.answers = {"q": [Table(("n",), (("2026-01-02",),))], TIMED: [5]}
    for _ in range(2):
        assert made.before()
    assert made.database.clocks == [None, "other"]
    assert {*made.journal.answers} == {"clock", "clock other"}
    asyncio.run(made.queries.ask(until.question))
    assert made.database.asked[-1] == (TIMED, {"run_started_at": STARTED, "x": 1})
    assert made.end()
    since = made.queries.since(other)
    assert since is not None
    assert since.at.isoformat() == STARTED


def test_whether_rows_are_hidden_from_a_timed_question_is_asked_with_the_runs_start() -> None:
    """Of 0 rows since the run's start: every such check failed after all had been sent."""
    none = Expect("n", at_most=0)
    made = Made([check(expect=none, question=question(TIMED, x=1))])
    made.database.answers = {TIMED: [0]}
    assert made.before()
    assert made.end()
    assert made.database.secured == [{"run_started_at": STARTED, "x": 1}]


def test_where_no_time_is_compared_no_database_is_asked_for_it() -> None:
    made = Made([check()])
    assert made.before()
    assert made.end()
    assert (made.database.clocks, made.database.asked) == ([], [("q", {})])
    assert made.queries.since(question()) is None


def test_without_patience_a_question_is_asked_once() -> None:
    made = Made([])
    made.queries.patiently = None
    assert asyncio.run(made.queries.ask(question())).rows == ((5,),)
    assert made.most == []


def test_what_is_asked_within_a_time_has_that_time_and_what_comes_after_has_not() -> None:
    made = Made([], QueryRefused("x"), 5)

    async def main() -> None:
        with pytest.raises(QueryRefused), made.queries.within(7.0):
            await made.queries.ask(question())
        await made.queries.ask(question())

    asyncio.run(main())
    assert made.most == [7.0, None]


@pytest.mark.parametrize(
    ("expect", "text", "needs"),
    [
        (FIVE, "q", False),
        (RISES, "q", True),
        (Expect("n", newer_than="run.started_at"), "q", True),
        (Expect("n", newer_than="2026-01-01"), "q", False),
        (FIVE, TIMED, True),
    ],
)
def test_a_check_that_is_about_a_run_cannot_be_asked_without_one(
    expect: Expect, text: str, needs: bool
) -> None:
    assert needs_run(check(expect=expect, question=question(text))) is needs


@pytest.mark.parametrize(("than", "clocks"), [(None, []), ("2026-01-01", [None])])
def test_a_check_without_a_run_asks_for_the_time_where_times_are_compared(
    than: str | None, clocks: list[None]
) -> None:
    database = Database({"q": [Table(("n",), (("2026-01-02" if than else 5,),))]})
    expect = Expect("n", newer_than=than) if than else FIVE
    assert ask_now(check(expect=expect), database).holds
    assert database.clocks == clocks


def rows(*names: str) -> Table:
    return Table(("repo", "n"), tuple((name, 5) for name in names))


@pytest.mark.parametrize(
    ("of", "for_each", "operation", "begun", "items"),
    [
        ("users", "users", "sync", False, "bc"),
        ("users", "users", "sync", True, "abc"),
        ("users", "users", None, False, "abc"),
        ("users", "users", "embed", False, "ab"),  # another stage's that runs for them, too
        ("users", "users", "tidy", False, "abc"),
        ("users", "cells", "sync", False, "bc"),  # a part of a product
        ("users", "cells", None, False, "abc"),
        ("users", "cells", "embed", False, "ab"),
        ("row", "row", "sync", False, "bc"),
        ("repo", "repo", "sync", False, "bc"),
        ("repo", "workspace", "sync", False, "bc"),
        ("repo", "repo", None, False, "ab"),  # which are given
        ("repo", "users", None, False, "abc"),  # the query goes by `:users` as well
        ("repo", "users", "tidy", False, "abc"),
        ("repo", "users", "embed", False, "ab"),
        (None, "users", "sync", False, "ab"),
    ],
)
def test_what_a_stage_has_found_out_as_it_started_is_what_is_to_be_proved(
    of: str | None, for_each: str, operation: str | None, begun: bool, items: str
) -> None:
    """The preview had `a` and `b`; the stage found `b` and `c`."""

    def asked(names: str) -> BoundQuestion:
        ids = tuple(map(ord, names))
        given = {"users": list(names), "ids": list(ids)}
        return BoundQuestion(Query("q"), given, of, "item", tuple(names), ids)

    then, now, of_stage = asked("ab"), asked("bc"), stage(1, "sync", deferred=True)
    of_stage = replace(of_stage, for_each=for_each)
    stages = (of_stage, replace(EMBED, for_each=for_each))
    plan = Made([check(operation=operation, question=then)], stages=stages).checker.plan
    resolved = Resolved(of_stage, checks=dict.fromkeys(about_items_of(plan, of_stage).checks, now))
    (found,) = proving(plan, resolved, begun=begun).checks
    assert found.question == asked(items)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize(
    ("expect", "names", "asked"),
    [
        (Expect("n", change="decreased"), "ab", False),
        (Expect("n", change="decreased"), "ba", False),
        (Expect("n", change="decreased"), "abc", True),
        (FIVE, "abc", False),
    ],
)
def test_a_figure_from_before_is_asked_for_again_exactly_if_it_is_about_other_items(
    expect: Expect, names: str, each: bool, asked: bool
) -> None:
    """Asked again for the same items, it would be compared with itself."""

    def about(names: str) -> Check:
        key = "item" if each else None
        given = BoundQuestion(Query("q"), {"users": [*names]}, "users", key, tuple(names))
        return check(expect=expect, question=given)

    def figures(names: str) -> Table:
        return Table(("item", "n"), tuple((name, ord(name)) for name in names))

    then = Made([about("ab")], figures(names))
    then.journal.remember("before c", [["item", "n"], [["a", 9], ["b", 9]]])
    plan = replace(then.checker.plan, checks=(about(names),))
    asyncio.run(compare_alike(then.checker.queries, then.checker.plan, plan))
    assert bool(then.database.asked) == asked
    kept = [["a", 9], ["b", 9]] if each else [["a", 97], ["b", 98]]
    found = [list(row) for row in cast(Any, then.journal.answers["before c"])[1]]
    assert found == ([*kept, ["c", 99]] if asked else [["a", 9], ["b", 9]])


@pytest.mark.parametrize("columns", [("item", "n"), ("name", "m")], ids=["others", "no key"])
def test_figures_from_before_that_have_other_columns_now_stay_for_their_judge(
    columns: tuple[str, str],
) -> None:
    def about(names: str) -> Check:
        given = BoundQuestion(Query("q"), {"users": [*names]}, "users", "item", tuple(names))
        return check(expect=Expect("n", change="decreased"), question=given)

    then = Made([about("a")], Table(columns, (("a", 1), ("b", 2))))
    kept = [["name", "m"], [["a", 9]]]
    then.journal.remember("before c", kept)
    plan = replace(then.checker.plan, checks=(about("ab"),))
    asyncio.run(compare_alike(then.checker.queries, then.checker.plan, plan))
    found = cast(Any, then.journal.answers["before c"])
    assert [[*found[0]], [[*row] for row in found[1]]] == kept
