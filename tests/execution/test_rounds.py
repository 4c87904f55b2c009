"""What a stage with a goal does next, and what is recorded of its rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from runner.errors import InvalidPlan
from runner.execution.check import QueryRunner
from runner.execution.ports import NOTHING, About, Journal, JournalReads, Resolved
from runner.execution.rounds import Next, Rounds, with_rounds
from runner.model import (
    BoundQuestion,
    Check,
    Driven,
    ExecutionPlan,
    Expect,
    Measure,
    Pacing,
    Problem,
    Query,
    QueryRefused,
    Round,
    RowSecurity,
    Stage,
    Table,
    Until,
)
from runner.planning.event_blocks import pack
from tests.support import FakeClock, Recorder

EMPTY = Expect("pending", at_most=0)
FULL = Expect("done", at_least=9)


@dataclass
class Kept:
    """A journal of rounds; the run has been driven since it began."""

    clock: FakeClock
    known: list[Round] = field(default_factory=list)
    origins: Mapping[int, int] = field(default_factory=dict)
    reached: list[tuple[int, float | None, ExecutionPlan | None]] = field(default_factory=list)
    began: float = 0.0

    def rounds(self, stage: int) -> Sequence[Round]:
        return [one for one in self.known if one.stage == stage]

    def driven(self) -> Driven:
        return Driven(((self.began, self.clock.now),))

    def begin_round(self, plan: ExecutionPlan, begun: Round, origins: Mapping[int, int]) -> None:
        assert plan.stages[begun.stage - 1].total == begun.first + begun.events
        self.known.append(begun)
        self.origins = origins

    def reach(self, stage: int, left: float | None, plan: ExecutionPlan | None = None) -> None:
        self.reached.append((stage, left, plan))


@dataclass
class Asked:
    """The user's database: the figure, or the error; and the items of each round."""

    answer: Any = 3
    security: Sequence[RowSecurity] | None = ()
    items: Sequence[str] = ("a", "b")
    observer: Recorder = field(default_factory=Recorder)
    most: list[float | None] = field(default_factory=list)
    asked_security: int = 0
    unresolved: bool = False  # the items cannot be found out

    async def ask(self, question: BoundQuestion) -> Table:
        assert question.query.text == "backlog"
        if isinstance(self.answer, Exception):
            raise self.answer
        return Table(("pending", "done"), ((self.answer, self.answer),))

    async def row_security(self, _question: BoundQuestion) -> Sequence[RowSecurity] | None:
        self.asked_security += 1
        return self.security

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        self.most.append(seconds)
        yield

    async def patient(self, attempt: Any) -> Any:
        return await attempt()

    async def resolve(self, stage: Stage, _about: About = NOTHING) -> Resolved:
        if self.unresolved:
            raise InvalidPlan((Problem("no such table", "p"),))
        return Resolved(replace(stage, items=packed(self.items)))


def packed(names: Sequence[str]) -> Any:
    return pack("app/drain", [(name, b"{}") for name in names])


def until(expect: Expect = EMPTY, **how: Any) -> Until:
    bounds = {"stalled_after": 3, "max_rounds": 9, "max_time": 60.0, **how}
    return Until(BoundQuestion(Query("backlog"), {}), expect, **bounds)


def stage(goal: Until | None, *names: str, number: int = 2) -> Stage:
    pacing, items = Pacing(9, 0.0), packed(names)
    return Stage(
        number, "drain", "app/drain", "row", pacing, "completed", 9.0, items=items, until=goal
    )


class Made:
    def __init__(self, goal: Until | None = None, *names: str, **asked: Any) -> None:
        self.clock, self.asked = FakeClock(), Asked(**asked)
        self.journal = Kept(self.clock)
        self.journal.began = self.clock.now
        self.stage = stage(goal, *names)
        first = stage(None, "x", "y", "z", number=1)
        after = stage(None, "x", number=3)
        self.plan = ExecutionPlan("p", "p", "d", (first, self.stage, after), (), ())
        self.rounds = Rounds(
            cast(Journal, self.journal), self.asked, cast(QueryRunner, self.asked), self.clock
        )

    def had(self, *left: float | None, events: int = 2) -> None:
        """Record rounds that began with the run."""
        began = self.journal.began
        self.journal.known = [
            Round(2, number, 0, events, one, began) for number, one in enumerate(left, 1)
        ]

    def next(self, rest: float = 0.0) -> Next:
        return asyncio.run(self.rounds.next(self.stage, rest))

    def begin(self, *items: str, left: float | None = 3.0) -> None:
        self.asked.items = items
        self.plan = asyncio.run(self.rounds.begin(self.plan, self.stage, left))
        self.stage = self.plan.stages[1]


def test_a_stage_without_a_goal_has_one_round() -> None:
    made = Made()
    assert made.next() == Next("round")
    made.had(None)
    assert made.next() == Next("done")


@pytest.mark.parametrize(
    ("expect", "left", "what"),
    [
        (EMPTY, 0, "done"),
        (EMPTY, 1, "round"),
        (Expect("pending", at_most=5), 5, "done"),
        (Expect("pending", at_most=5), 6, "round"),
        (FULL, 9, "done"),
        (FULL, 8, "round"),
        (Expect("pending", at_least=2, at_most=5), 1, "round"),
        (Expect("pending", at_least=2, at_most=5), 3, "done"),
        (Expect("pending", at_least=2, at_most=5), 6, "round"),
    ],
)
def test_another_round_is_due_until_the_goal_is_reached(
    expect: Expect, left: float, what: str
) -> None:
    found = Made(until(expect), answer=left).next()
    assert (found.what, found.left, found.reason) == (what, left, None)


@pytest.mark.parametrize(
    ("left", "security", "what"),
    [
        (0, (RowSecurity("backlog", blind=True),), "stalled"),
        (0, (RowSecurity("backlog", blind=False),), "done"),
        (3, (RowSecurity("backlog", blind=True),), "round"),
        (0, None, "done"),
    ],
)
def test_a_first_zero_of_rows_that_policies_hide_is_no_goal(
    left: int, security: Sequence[RowSecurity] | None, what: str
) -> None:
    made = Made(until(), answer=left, security=security)
    found = made.next()
    assert found.what == what
    assert made.asked.asked_security == (left == 0)
    reasons = {
        "stalled": (
            "`drain`: `pending` is 0, but row-level security hides all rows of `backlog` "
            "from this role"
        ),
        "done": None if security else "it is not known whether this key sees the rows",
    }
    assert found.reason == reasons.get(what)


def test_a_zero_after_a_round_needs_no_proof_of_rights() -> None:
    made = Made(until(), answer=0, security=None)
    made.had(3)
    assert made.next() == Next("done", 0)
    assert made.asked.asked_security == 0


def test_where_the_rights_cannot_be_told_and_the_goal_is_not_zero_another_round_is_due() -> None:
    made = Made(until(FULL), answer=0, security=None)
    assert made.next() == Next("round", 0)


@pytest.mark.parametrize(
    ("answer", "what", "words"),
    [
        (None, "stalled", "`pending` is NULL"),
        ("x", "stalled", "`pending` is not a number"),
        (QueryRefused("no such table"), "limit", "no such table"),
    ],
)
def test_a_backlog_that_cannot_be_told_ends_the_stage(answer: Any, what: str, words: str) -> None:
    found = Made(until(), answer=answer).next()
    assert (found.what, found.reason) == (what, f"`drain`: its backlog cannot be read: {words}")


@pytest.mark.parametrize(
    ("expect", "before", "left", "stalled"),
    [
        (EMPTY, [5, 5], 5, True),
        (EMPTY, [5, 6], 7, True),
        (EMPTY, [5, 4], 4, False),
        (EMPTY, [5], 5, False),
        (EMPTY, [9, 3, 7], 4, True),
        (EMPTY, [9, 5, 7], 4, False),
        (FULL, [5, 5], 5, True),
        (FULL, [5, 4], 3, True),
        (FULL, [5, 6], 5, False),
        (EMPTY, [None, 5], 5, False),
        (EMPTY, [float(2**63 - 1)] * 2, 2**63 - 1, True),
    ],
)
def test_a_drain_that_comes_no_nearer_in_its_last_rounds_is_stalled(
    expect: Expect, before: list[float | None], left: float, stalled: bool
) -> None:
    made = Made(until(expect, stalled_after=2), answer=left)
    made.had(*before)
    found = made.next()
    assert found.what == ("stalled" if stalled else "round")
    column = expect.column
    words = f"`drain` is stalled: `{column}` is {left}, without progress after its last 2 rounds"
    assert found.reason == (words if stalled else None)
    assert found.left == left


def test_a_drain_may_be_stalled_after_one_round() -> None:
    made = Made(until(stalled_after=1), answer=5)
    made.had(5)
    assert (made.next().reason or "").endswith("without progress after its last round")


def test_a_drain_without_items_is_stalled() -> None:
    made = Made(until(), answer=4)
    made.had(5, events=0)
    reason = "`drain` is stalled: `pending` is 4, but no item is left to send"
    assert made.next() == Next("stalled", 4, reason, "--past-failures")


@pytest.mark.parametrize(("before", "after"), [([5, 5, 5], []), ([5, 5, 5], [5]), ([5], [5, 5])])
@pytest.mark.parametrize("events", [2, 0])
def test_rounds_that_were_passed_over_keep_no_drain_from_another_one(
    before: list[float | None], after: list[float | None], events: int
) -> None:
    made = Made(until(stalled_after=2), answer=5)
    made.had(*before, *after, events=events)
    assert made.next().what == "stalled"
    made.rounds.since = made.clock.now + 60
    known = made.journal.known
    made.journal.known = [
        *known[: len(before)],
        *(replace(one, at=made.clock.now + 60) for one in known[len(before) :]),
    ]
    stalled = len(after) == 2 or (after and not events)
    assert made.next().what == ("stalled" if stalled else "round")


@pytest.mark.parametrize(
    ("rounds", "seconds", "rest", "words", "option"),
    [
        (1, 50.0, 0.0, None, None),
        (1, 50.0, 9.9, None, None),
        (1, 50.0, 10.0, "1m", "--max-time 2m"),
        (1, 60.0, 0.0, "1m", "--max-time 2m"),
        (2, 50.0, 0.0, "2 rounds", "--max-rounds 4"),
        (2, 61.0, 0.0, "2 rounds", "--max-rounds 4 --max-time 2m2s"),
        (0, 90.0, 0.0, None, None),
        (0, 90.0, 90.0, None, None),
    ],
)
def test_a_drain_ends_with_its_rounds_or_its_time_and_says_how_to_go_on(
    rounds: int, seconds: float, rest: float, words: str | None, option: str | None
) -> None:
    made = Made(until(max_rounds=2), answer=1)
    made.had(*[9.0, 5.0][:rounds])
    made.clock.now += seconds
    reason = words and f"`drain` has used up its {words}, and `pending` is 1"
    assert made.next(rest) == Next("limit" if words else "round", 1, reason, option)
    left = max(0.0, 60.0 - seconds) if rounds else 60.0
    assert made.asked.most == [left], "what it asks has the time that is left"


@pytest.mark.parametrize(
    ("seconds", "rest", "over"), [(59.0, 0.0, False), (59.0, 1.0, True), (60.0, 0.0, True)]
)
def test_of_a_drain_whose_time_is_up_no_other_batch_begins(
    seconds: float, rest: float, over: bool
) -> None:
    made = Made(until())
    assert made.rounds.over(made.stage, 99.0) is None, "no round has begun"
    made.had(3)
    made.clock.now += seconds
    found = made.rounds.over(made.stage, rest)
    words = "`drain` has used up its 1m in the middle of a round"
    assert found == (Next("limit", None, words, "--max-time 2m") if over else None)
    assert Made().rounds.over(made.stage) is None


def test_a_stage_without_a_goal_has_no_time_to_be_over() -> None:
    made = Made()
    made.had(None)
    made.clock.now += 1e6
    assert made.rounds.over(made.stage) is None


def test_a_round_goes_on_where_the_last_one_ended_and_takes_the_place_of_the_preview() -> None:
    made = Made(until(), "preview", "of", "today")
    made.begin("a", "b")
    made.clock.now += 5.0
    made.begin("b", "c", "d", left=2.0)
    began = made.journal.began
    assert made.journal.known == [
        Round(2, 1, 0, 2, 3.0, began),
        Round(2, 2, 2, 3, 2.0, began + 5.0),
    ]
    assert [item for item, _ in made.stage.items.raw()] == ["a", "b", "b", "c", "d"]
    assert [one.total for one in made.plan.stages] == [3, 5, 1]
    assert made.asked.most == [60.0, 55.0]
    assert made.asked.observer.notes == []


def test_a_round_without_items_says_so() -> None:
    made = Made(None, "preview")
    made.begin(left=None)
    assert made.stage.total == 0
    assert made.asked.observer.notes == ["`drain` has no items when its stage starts"]
    assert made.asked.most == [None]


def test_a_later_round_without_items_is_not_the_start_of_its_stage() -> None:
    made = Made(until(), "a")
    made.had(5)
    made.begin(left=4)
    assert made.asked.observer.notes == []


def test_an_event_for_work_that_was_tried_before_is_known_by_its_first_try() -> None:
    """Positions count over the whole run: three events come before the stage."""
    made = Made(until())
    made.begin("a", "b", "a")
    assert made.journal.origins == {}
    made.begin("a", "c", "a", "a")
    assert made.journal.origins == {6: 3, 8: 5}, "the first is the first's again, and so on"
    made.begin("b", "a", "c", "a", "a")
    assert made.journal.origins == {10: 4, 11: 3, 12: 7, 13: 5, 14: 9}


def test_a_resumed_drain_knows_the_tries_of_before() -> None:
    made = Made(until())
    made.begin("a", "b", "a")
    made.begin("a", "c", "a", "a")
    again = Rounds(made.rounds.journal, made.asked, made.rounds.queries, made.clock)
    made.rounds = again
    made.begin("b", "a", "c", "a", "a")
    assert made.journal.origins == {10: 4, 11: 3, 12: 7, 13: 5, 14: 9}


def test_without_a_goal_no_work_is_tried_again() -> None:
    made = Made()
    made.begin("a", "a")
    assert made.journal.origins == {}


@pytest.mark.parametrize("what", ["round", "stalled", "limit"])
def test_only_a_goal_that_is_reached_closes_a_stage(what: Any) -> None:
    made = Made(until(), "a")
    assert made.rounds.close(made.plan, made.stage, Next(what)) is made.plan
    assert made.journal.reached == []
    none = Made(None, "a")
    assert none.rounds.close(none.plan, none.stage, Next("done")) is none.plan
    assert none.journal.reached == []


def test_a_goal_that_rounds_have_reached_is_kept() -> None:
    made = Made(until(), "a")
    made.had(3)
    assert made.rounds.close(made.plan, made.stage, Next("done", 0.0)) is made.plan
    assert made.journal.reached == [(2, 0.0, None)]
    assert made.asked.observer.notes == []


@pytest.mark.parametrize(
    ("left", "reason", "words"),
    [(0.0, None, "0 already"), (4.5, None, "4.5 already"), (0.0, "but why", "0 already; but why")],
)
def test_a_goal_that_is_reached_before_any_round_leaves_nothing_to_send(
    left: float, reason: str | None, words: str
) -> None:
    made = Made(until(), "a", "b")
    plan = made.rounds.close(made.plan, made.stage, Next("done", left, reason))
    assert [one.total for one in plan.stages] == [3, 0, 1]
    assert made.journal.reached == [(2, left, plan)]
    assert made.asked.observer.notes == [f"`drain` has nothing to do: `pending` is {words}"]


@pytest.mark.parametrize(
    ("begun", "items", "what"),
    [
        (False, (), "done"),
        (False, ("a",), "stalled"),
        (True, (), "stalled"),
        (True, ("a",), "stalled"),
    ],
)
def test_a_null_is_a_backlog_of_nothing_only_where_there_has_never_been_an_item(
    begun: bool, items: tuple[str, ...], what: str
) -> None:
    """It is the sum over no rows; later, it is an answer that gives no figure."""
    goal = until()
    of_users = replace(goal.question, parameters={"users": []}, of="users")
    made = Made(replace(goal, question=of_users), answer=None, items=items)
    made.stage = replace(made.stage, for_each="users")
    if begun:
        made.had(3)
    found = made.next()
    assert found.what == what
    assert ("is NULL" in (found.reason or "")) is (what == "stalled")


@pytest.mark.parametrize(
    ("for_each", "begun", "answer", "what"),
    [
        ("repo", False, 0, "limit"),
        ("repo", False, 3, "limit"),
        ("repo", True, 0, "done"),  # those that were sent are known
        ("repo", True, 3, "limit"),
        ("repo", True, None, "stalled"),
        ("users", False, 0, "limit"),
        ("users", True, 0, "limit"),
    ],
)
def test_a_drain_whose_items_cannot_be_found_out_ends_unless_its_goal_is_reached_for_those_sent(
    for_each: str, begun: bool, answer: int | None, what: str
) -> None:
    goal = until()
    about = replace(goal.question, parameters={"repos": [], "users": []}, of=for_each)
    made = Made(replace(goal, question=about), answer=answer, unresolved=True)
    made.stage = replace(made.stage, for_each=for_each)
    if begun:
        made.had(3)
    found = made.next()
    assert found.what == what
    assert ("cannot be resolved: no such table" in (found.reason or "")) is (what == "limit")


def planned(*items: str, about: str, query: str = "q", deferred: bool = True) -> ExecutionPlan:
    """Return a plan of three stages, of which two find their items when they start; with a check of
    each, and one of the whole plan."""
    stages = [
        replace(
            stage(until() if number == 1 else None, *items, number=number),
            operation=f"op{number}",
            for_each="users" if number == 1 else "rows",
            deferred=deferred and number < 3,
        )
        for number in (1, 2, 3)
    ]
    question = BoundQuestion(Query(query), {"users": [about]}, "users", "item", (about,))
    checks = [Check(f"of {of}", question, EMPTY, "end", of) for of in ("op1", "op2", "op3", None)]
    coverage = (Measure("part", question),)
    return ExecutionPlan(
        "p", "p", "d", tuple(stages), (), (), checks=tuple(checks), coverage=coverage
    )


def test_a_resumed_run_keeps_what_its_begun_stages_have_found_and_takes_the_rest_as_it_is_now() -> (
    None
):
    made = Made()
    made.journal.known = [Round(number, 1, 0, 1, None, 0.0) for number in (1, 3)]
    kept, built = planned("then", about="then"), planned("now", about="now", query="changed")
    added = replace(built.checks[0], name="added")
    built = replace(built, checks=(*built.checks, added))
    found = with_rounds(built, kept, cast(JournalReads, made.journal))
    items = [name for one in found.stages for name, _ in one.items.raw()]
    assert items == ["then", "now", "now"]
    asked = {check.name: check.question for check in found.checks}
    assert {name: one.items for name, one in asked.items()} == {
        "of op1": ("then",),
        "of op2": ("then",),  # which is about the items of the first, too
        "of op3": ("then",),
        "of None": ("then",),
        "added": ("then",),
    }
    assert {one.query.text for one in asked.values()} == {"changed"}
    assert found.coverage[0].question.items == ("then",)
    made.journal.known = []
    assert with_rounds(built, kept, cast(JournalReads, made.journal)) == built


def test_a_check_that_is_new_is_about_what_was_sent_unless_events_are_of_groups() -> None:
    """A group's name has only its first item."""
    made = Made()
    made.journal.known = [Round(1, 1, 0, 1, None, 0.0)]
    kept, built = planned("then", about="then"), planned("now", about="now")
    stages = tuple(replace(one, grouped=True) for one in kept.stages)
    kept = replace(kept, stages=stages, checks=())
    built = replace(built, stages=tuple(replace(one, grouped=True) for one in built.stages))
    found = with_rounds(built, kept, cast(JournalReads, made.journal))
    asked = {check.operation: check.question.items for check in found.checks}
    assert asked["op1"] == ("now",)


@pytest.mark.parametrize("goal", [None, until()], ids=["there was none", "of other items"])
def test_a_goal_that_is_new_or_about_none_of_the_stages_items_is_as_it_is_now(
    goal: Until | None,
) -> None:
    made = Made()
    made.journal.known = [Round(1, 1, 0, 1, None, 0.0)]
    kept, built = planned("then", about="then"), planned("now", about="now")
    now = until()
    about = replace(now.question, parameters={"users": ["now"]}, of="users") if not goal else None
    now = replace(now, question=about or replace(now.question, parameters={"ids": [7]}))
    if goal:
        goal = replace(goal, question=replace(goal.question, parameters={"ids": [5]}))

    def having(plan: ExecutionPlan, one: Until | None, **how: Any) -> ExecutionPlan:
        return replace(plan, stages=(replace(plan.stages[0], until=one, **how), *plan.stages[1:]))

    kind = "row" if goal else "users"
    kept, built = having(kept, goal, for_each=kind), having(built, now, for_each=kind)
    assert with_rounds(built, kept, cast(JournalReads, made.journal)).stages[0].until == now
