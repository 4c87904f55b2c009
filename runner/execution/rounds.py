"""Stages whose events are resolved when they start, and those that are sent until a goal is met.

A round and its events are recorded before any event is sent, so that a resume continues it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from runner.errors import InvalidPlan
from runner.execution.check import QueryRunner, about_items_of, compare_alike, finds_out, proving
from runner.execution.judge import UNTOLD, blinded, figure
from runner.execution.ports import Clock, Journal, JournalReads, Resolved, Resolver
from runner.model import (
    BUILT_IN,
    PARAMETERS,
    BoundQuestion,
    ExecutionPlan,
    Measure,
    QueryRefused,
    Round,
    Stage,
    Until,
    frozen,
)
from runner.model.value import as_compared
from runner.planning.event_blocks import EventBlocks, extended, pack
from runner.planning.limits import PAST, more_time, time_is_up, to_raise
from runner.spec.units import counted, format_duration


@frozen
class Next:
    """What a stage does next. `reason`: why it ends short of its goal, or a remark on a goal that
    was reached.

    `left` is the backlog as just counted.
    """

    what: Literal["round", "done", "stalled", "limit"]
    left: float | None = None
    reason: str | None = None
    option: str | None = None


@dataclass(slots=True)
class _Tried:
    """The first attempt at each piece of work among the first `count` events of a stage: the item
    and its occurrence in a round -> the event's position."""

    count: int = 0
    first: dict[tuple[str, int], int] = field(default_factory=dict)
    in_round: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Rounds:
    """Decides on rounds and begins them. `since`: rounds that began earlier (seconds since 1970) do
    not make a drain count as stalled."""

    journal: Journal
    resolver: Resolver
    queries: QueryRunner
    clock: Clock
    since: float = 0.0
    _tried: dict[int, _Tried] = field(default_factory=dict)

    async def next(self, stage: Stage, rest: float = 0.0) -> Next:
        """Decide whether another round is due once `rest` seconds are over.

        Without a goal there is exactly one round. The time of a drain also limits its questions,
        retries included.
        """
        rounds, until = self.journal.rounds(stage.number), stage.until
        if until is None:
            return Next("done" if rounds else "round")
        try:
            with self.queries.within(self._left(until, rounds)):
                goal, none, unresolved = await self._goal_now(stage, until, begun=bool(rounds))
                if unresolved and not (rounds and stage.for_each in BUILT_IN):
                    return unresolved
                table = await self.queries.ask(goal)
                left = figure(until.expect.column or "", table, none=none)
                first_zero = not rounds and left == 0
                security = await self.queries.row_security(goal) if first_zero else ()
        except ValueError as error:  # a wrong answer stalls it; a refusal ends it early
            reason = f"`{stage.operation}`: its backlog cannot be read: {error}"
            return Next("limit" if isinstance(error, QueryRefused) else "stalled", reason=reason)
        if blind := blinded(security):
            column = f"`{until.expect.column}` is {as_compared(left)}"
            return Next("stalled", reason=f"`{stage.operation}`: {column}, but {blind}")
        following = self._judged(stage.operation, until, rounds, left, rest)
        if unresolved and following.what != "done":
            return unresolved
        untold = security is None and following.what == "done"
        return replace(following, reason=UNTOLD) if untold else following

    async def _goal_now(
        self, stage: Stage, until: Until, *, begun: bool
    ) -> tuple[BoundQuestion, bool, Next | None]:
        """Return the goal's question about the current items, whether there are none, and the end
        of a stage that cannot be resolved.

        Items that are given are known all the same: the goal of those sent may be reached, and a
        lookup finds them no more.
        """
        if not stage.goal_finds_out:
            return until.question, False, None
        try:
            found = await self.queries.patient(lambda: self.resolver.resolve(stage))
        except InvalidPlan as error:  # as where a round begins
            reason = f"`{stage.operation}` cannot be resolved: {error.problems[0].message}"
            return until.question, False, Next("limit", reason=reason)
        return _goal_of(until, found, begun=begun), not begun and not found.stage.items, None

    async def begin(self, plan: ExecutionPlan, stage: Stage, left: float | None) -> ExecutionPlan:
        """Return the plan with another round of the stage, and record it; a round may be empty."""
        rounds, then = self.journal.rounds(stage.number), plan
        most = self._left(stage.until, rounds) if stage.until else None
        about = about_items_of(plan, stage)
        with self.queries.within(most):
            found = await self.queries.patient(lambda: self.resolver.resolve(stage, about))
            plan = proving(plan, found, begun=bool(rounds))
            await compare_alike(self.queries, then, plan)
        items, more = stage.items, found.stage.items
        assert isinstance(items, EventBlocks)  # noqa: S101 - we planned it ourselves
        assert isinstance(more, EventBlocks)  # noqa: S101
        if not more and not rounds:
            self.queries.observer.note(f"`{stage.operation}` has no items when its stage starts")
        grown = replace(stage, items=extended(items, more) if rounds else more)
        if stage.until:
            goal = _goal_of(stage.until, found, begun=bool(rounds))
            grown = replace(grown, until=replace(stage.until, question=goal))
        return self._written(plan, grown, len(items) if rounds else 0, len(more), left)

    def over(self, stage: Stage, rest: float = 0.0) -> Next | None:
        """Return what ends a drain in the middle of a round if its time is up after `rest` seconds;
        None if another batch may begin."""
        until = stage.until  # called for each batch, so do not read the journal for other stages
        if until is None or not (rounds := self.journal.rounds(stage.number)):
            return None
        worked = self._worked(rounds[0].at) + rest
        if not time_is_up(until, rounds, worked):
            return None
        reason = f"`{stage.operation}` has used up its {format_duration(until.max_time)}"
        return Next("limit", None, f"{reason} in the middle of a round", more_time(until, worked))

    def abandon(self, stage: Stage, due: Next) -> Next:
        """Return how a drain ends if the plan stops on a failure of its round, and not what is
        due."""
        column = stage.until.expect.column if stage.until else None
        why = due.reason if due.left is None else f"`{column}` is {as_compared(due.left)}"
        reason = f"`{stage.operation}` stops on a failure, short of its goal: {why}"
        return Next("stalled", due.left, reason, PAST)

    def close(self, plan: ExecutionPlan, stage: Stage, after: Next) -> ExecutionPlan:
        """Return the plan at the end of the stage. If its goal was reached before any round, the
        events that the preview showed are removed from the plan."""
        if after.what != "done" or stage.until is None:
            return plan
        if self.journal.rounds(stage.number):
            self.journal.reach(stage.number, after.left)
            return plan
        column = stage.until.expect.column
        left = as_compared(after.left or 0)
        message = f"`{stage.operation}` has nothing to do: `{column}` is {left} already"
        message += f"; {after.reason}" if after.reason else ""
        self.queries.observer.note(message)
        plan = _with(plan, replace(stage, items=pack(stage.event, [])))
        # One write for both: after a crash between two, the run would wait for events that are
        # never sent.
        self.journal.reach(stage.number, after.left, plan)
        return plan

    def _written(
        self, plan: ExecutionPlan, stage: Stage, first: int, count: int, left: float | None
    ) -> ExecutionPlan:
        """Return the plan with the stage as it is now, and record its new round."""
        number = len(self.journal.rounds(stage.number)) + 1
        origins = self._origins(plan, stage, first) if stage.until else {}
        plan = _with(plan, stage)
        begun = Round(stage.number, number, first, count, left, self.clock.time())
        self.journal.begin_round(plan, begun, origins)
        return plan

    def _origins(self, plan: ExecutionPlan, stage: Stage, first: int) -> dict[int, int]:
        """Map events from the stage's `first`-th on to the first attempt at the same work in
        earlier rounds, both by position in the run. If an item occurs several times in a round,
        occurrences are matched in order."""
        before = sum(other.total for other in plan.stages if other.number < stage.number)
        tried, origins = self._tried.setdefault(stage.number, _Tried()), dict[int, int]()
        ends = [known.first for known in self.journal.rounds(stage.number)] + [first]
        for index, (item, _) in enumerate(stage.items.raw(tried.count), tried.count):
            if index in ends:
                tried.in_round.clear()
            tried.in_round[item] += 1
            work = item, tried.in_round[item]
            origin = tried.first.setdefault(work, before + index)
            if index >= first and origin != before + index:
                origins[before + index] = origin
        tried.count = stage.total
        return origins

    def _worked(self, since: float) -> float:
        return self.journal.driven().between(since, self.clock.time())

    def _left(self, until: Until, rounds: Sequence[Round]) -> float:
        """Return the seconds left of a drain's time."""
        return max(0.0, until.max_time - (self._worked(rounds[0].at) if rounds else 0.0))

    def _judged(
        self, operation: str, until: Until, rounds: Sequence[Round], left: float, rest: float
    ) -> Next:
        expect = until.expect
        if (expect.at_most is None or left <= expect.at_most) and (
            expect.at_least is None or left >= expect.at_least
        ):
            return Next("done", left)
        column = f"`{expect.column}` is {as_compared(left)}"
        recent = [known for known in rounds if known.at >= self.since]
        kept = [one.left for one in recent if one.left is not None]
        if _stalled(until, [*kept, float(left)]):  # as the journal keeps them
            count = until.stalled_after
            which = "its last round" if count == 1 else f"its last {count:,} rounds"
            reason = f"`{operation}` is stalled: {column}, without progress after {which}"
            return Next("stalled", left, reason, PAST)
        if recent and not recent[-1].events:
            reason = f"`{operation}` is stalled: {column}, but no item is left to send"
            return Next("stalled", left, reason, PAST)
        if rounds and (option := to_raise(until, rounds, self._worked(rounds[0].at) + rest)):
            had = (
                counted(len(rounds), "round")
                if len(rounds) >= until.max_rounds
                else format_duration(until.max_time)
            )
            return Next("limit", left, f"`{operation}` has used up its {had}, and {column}", option)
        return Next("round", left)


def with_rounds(built: ExecutionPlan, kept: ExecutionPlan, journal: JournalReads) -> ExecutionPlan:
    """Replace the events of rounds that were begun: they stay as resolved then, whatever the files
    give today, and the questions of today are about their items."""
    known = {
        stage.number: stage
        for stage in kept.stages
        if stage.deferred and journal.rounds(stage.number)
    }
    stages = tuple(
        _as_begun(stage, known[stage.number]) if stage.deferred and stage.number in known else stage
        for stage in built.stages
    )
    begun = [stage for stage in stages if stage.number in known]
    asked = {check.name: check.question for check in kept.checks}
    measured = dict(kept.coverage)

    def as_found(
        now: BoundQuestion, then: BoundQuestion | None, operation: str | None
    ) -> BoundQuestion:
        found = [stage for stage in begun if finds_out(built, stage, now, operation)]
        if found and (then is None or then.of != now.of):
            then = _of_sent(found[0], now)
        return now.about_those_of(then) if found and then else now

    checks = tuple(
        replace(check, question=as_found(check.question, asked.get(check.name), check.operation))
        for check in built.checks
    )
    coverage = tuple(
        Measure(name, as_found(question, measured.get(name), None))
        for name, question in built.coverage
    )
    return replace(built, stages=stages, checks=checks, coverage=coverage)


def _of_sent(stage: Stage, now: BoundQuestion) -> BoundQuestion | None:
    """Return a question about the items that a stage has sent; None if it is not about these, or
    if events are grouped, since a group's name has only its first item."""
    of = now.of
    if of != stage.for_each or stage.grouped:
        return None
    names = list(dict.fromkeys(item for item, _ in stage.items.raw()))
    called = next((name for name, kind in PARAMETERS.items() if kind == of), of)
    return BoundQuestion(now.query, {called: names}, of, now.key, tuple(names))


def _as_begun(stage: Stage, then: Stage) -> Stage:
    """Give a stage the events of its rounds, and its goal the items that they were for."""
    stage = replace(stage, items=then.items)
    if stage.until is None or then.until is None or not stage.goal_finds_out:
        return stage
    # Today's items may be some that it skips; those that it finds are added when it goes on.
    goal = stage.until.question.about_those_of(then.until.question)
    return replace(stage, until=replace(stage.until, question=goal))


def _goal_of(until: Until, found: Resolved, *, begun: bool) -> BoundQuestion:
    """Return the question of a stage's goal about the items of its rounds and those found now."""
    now = found.goal or until.question
    return now.with_earlier(until.question) if begun else now


def _with(plan: ExecutionPlan, stage: Stage) -> ExecutionPlan:
    """Return the plan with the stage replaced."""
    stages = tuple(stage if known.number == stage.number else known for known in plan.stages)
    return replace(plan, stages=stages)


def _stalled(until: Until, figures: Sequence[float]) -> bool:
    """Whether the best figure of the last rounds is no better than before them."""
    if len(figures) <= until.stalled_after:
        return False
    best = min if until.expect.at_most is not None else max
    before = best(figures[: -until.stalled_after])
    return best(figures) == before
