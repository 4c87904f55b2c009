"""Ask the checks of a plan at their moments, and record the results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from runner.errors import InvalidPlan, PreflightRefused
from runner.execution.judge import (
    AFTER,
    BEFORE,
    UNSENT,
    Since,
    Verdict,
    compares,
    coverage_key,
    covered,
    judge,
)
from runner.execution.pacing import Waits
from runner.execution.ports import About, Clock, Journal, JournalReads, Patiently, Resolved
from runner.execution.progress import Tracker
from runner.model import (
    BUILT_IN,
    RUN_STARTED,
    BoundQuestion,
    Check,
    CheckResult,
    DatabaseClock,
    ExecutionPlan,
    Json,
    LiveDatabase,
    Measure,
    Moment,
    Observer,
    Problem,
    QueryRefused,
    RowSecurity,
    Stage,
    Table,
    Waiting,
)
from runner.spec.questions import OF_RUNS, names_of

_CLOCK = "clock"  # in the journal: the database's time when the run began
_T = TypeVar("_T")


@dataclass(slots=True)
class QueryRunner:
    """Asks the database in a thread, and retries while it is away."""

    database: LiveDatabase
    clock: Clock
    stop: asyncio.Event
    observer: Observer
    journal: Journal
    patiently: Patiently | None = None
    most: float | None = None  # seconds for the current question, retries included
    _began: dict[str | None, DatabaseClock] = field(default_factory=dict)

    async def begin(self, questions: Sequence[BoundQuestion], checks: Sequence[Check]) -> None:
        """Record each database's time at the start of the run.

        Rows newer than the run's start are judged by the clock that wrote them. A resumed run keeps
        its start. Raises `PreflightRefused` if a database does not tell the time.
        """
        timed = [one for one in questions if OF_RUNS[0] in names_of(one.query)]
        timed += [check.question for check in checks if check.expect.newer_than]
        for name in dict.fromkeys(one.query.database for one in timed):
            key = _clock(name)
            kept = self.journal.remembered(key)
            if kept is None:
                try:
                    kept = await self._patiently(self.database.clock, name)
                except QueryRefused as error:
                    message = f"the run's start cannot be read: {error}"
                    raise PreflightRefused(message, hint=error.hint) from None
                self.journal.remember(key, list(kept))
            self._began[name] = DatabaseClock(*kept)

    def since(self, question: BoundQuestion, first: DatabaseClock | None = None) -> Since | None:
        """Return the run's start, or that of the `first` run, which it retries."""
        clock = first or self._began.get(question.query.database)
        return clock and Since.of(clock, question.query.timezone)

    async def ask(self, question: BoundQuestion, first: DatabaseClock | None = None) -> Table:
        """Return the answer. Raises `QueryRefused` and `TargetError`; never an empty answer
        instead."""
        given = self._given(question, first)
        return await self._patiently(self.database.ask, question.query, given)

    async def row_security(
        self, question: BoundQuestion, first: DatabaseClock | None = None
    ) -> Sequence[RowSecurity] | None:
        given = self._given(question, first)
        return await self._patiently(self.database.row_security, question.query, given)

    def _given(self, question: BoundQuestion, first: DatabaseClock | None) -> dict[str, Json]:
        """Return its parameters, with the run's start."""
        clock = first or self._began.get(question.query.database)
        started: dict[str, Json] = {OF_RUNS[0]: clock.now} if clock else {}
        return {**started, **question.parameters}

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Limit the questions asked within the block to so many seconds, retries included."""
        self.most = seconds
        try:
            yield
        finally:
            self.most = None

    async def patient(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Await `attempt`; repeat it while the database is away."""
        if self.patiently is None:
            return await attempt()
        found: _T = await self.patiently("asking the database", attempt, self.most)
        return found

    async def _patiently(self, what: Callable[..., _T], *given: object) -> _T:
        return await self.patient(lambda: asyncio.to_thread(what, *given))


@dataclass(slots=True)
class Checker:
    plan: ExecutionPlan
    journal: Journal
    queries: QueryRunner
    tracker: Tracker
    waits: Waits

    async def before(self) -> bool:
        """Run the checks before anything is sent, and record the figures that later ones compare
        with.

        A resumed run keeps the figures it began with. Raises `PreflightRefused` for a check that
        cannot be asked.
        """
        untils = [stage.until.question for stage in self.plan.stages if stage.until]
        questions = [*(check.question for check in self.plan.checks), *untils]
        await self.queries.begin(questions, self.plan.checks)
        for check in self.plan.checks:
            if compares(check) and self.journal.remembered(_before(check)) is None:
                try:
                    table = await self.queries.ask(check.question)
                except QueryRefused as error:
                    message = f"the check `{check.name}` cannot be asked: {error}"
                    raise PreflightRefused(message, hint=error.hint or "fix its query") from None
                self.journal.remember(_before(check), list(table))
        await self.measure(BEFORE)
        return await self._all("before", [])

    async def measure(self, when: str) -> None:
        """Record the coverage; the one before the run is recorded only once."""
        for measure in self.plan.coverage:
            name, question = measure
            key = coverage_key(name, when)
            if when == BEFORE and self.journal.remembered(key) is not None:
                continue
            try:
                table = await self.queries.ask(question)
            except QueryRefused as error:
                message = f"the coverage `{name}` cannot be asked: {error}"
                if when == BEFORE:
                    raise PreflightRefused(message, hint=error.hint or "fix its query") from None
                self.queries.observer.note(message)
                continue
            self.journal.remember(key, list(table))
            try:
                covered(measure, table)
            except ValueError as error:  # reports then have no figures
                self.queries.observer.note(f"{error} ({when} the run)")

    async def after(self, stage: Stage) -> bool:
        return await self._all("after", [stage])

    async def end(self, stages: Sequence[Stage]) -> bool:
        await self.measure(AFTER)
        return await self._all("end", stages)

    async def _all(self, moment: Moment, stages: Sequence[Stage]) -> bool:
        """Whether all checks of this moment hold; a check that held before a resume is not asked
        again.

        `stages`: those whose work they prove.
        """
        held = {result.name for result in self.journal.checks() if result.ok}
        holds = True
        for check in self.plan.checks:
            mine = moment != "after" or check.operation in stages[0].operations
            if check.moment != moment or not mine or check.name in held:
                continue
            verdict = (
                UNSENT if self._is_idle(check, stages) else await self._until_held(check, stages)
            )
            if self.queries.stop.is_set() and not verdict.holds:
                return False  # the check did not get its full time: a resume asks again
            self.journal.keep_check(result_of(check, verdict))
            if not verdict.holds:
                self.queries.observer.note(f"the check `{check.name}`: {verdict.message}")
                holds = False
        return holds

    def _is_idle(self, check: Check, stages: Sequence[Stage]) -> bool:
        """Whether it is about what a run changes, and its operation had nothing to send: a drain
        whose goal was reached already. A retry proves what its first run has sent."""
        own = [stage for stage in stages if check.operation in stage.operations]
        retried = self.journal.remembered(_first(check)) is not None
        return bool(own) and not any(one.total for one in own) and needs_run(check) and not retried

    async def _until_held(self, check: Check, stages: Sequence[Stage]) -> Verdict:
        """Repeat the check until it holds or its time is up."""
        clock, stop, what = self.queries.clock, self.queries.stop, f"check {check.name}"
        until = clock.monotonic() + check.timeout - self.waits.waited(what)
        waiting = False
        while True:
            verdict = await self._once(check, until, sent=any(stage.total for stage in stages))
            left = until - clock.monotonic()
            if verdict.holds or left <= 0 or stop.is_set():
                if waiting and not stop.is_set():
                    self._tell(stages, None)
                return verdict
            waiting = True
            self._tell(stages, Waiting(f"for the check `{check.name}`: {verdict.seen}"))
            await self.waits.again(min(check.every, left), what, most=left)

    def _tell(self, stages: Sequence[Stage], wait: Waiting | None) -> None:
        """Report a wait on the last stage that the check proves; before any sending, on the
        first."""
        for stage in stages[-1:] or self.plan.stages[:1]:
            self.tracker.waiting(stage.number, wait)

    async def _once(self, check: Check, until: float, *, sent: bool) -> Verdict:
        """Ask once; a check's time limit also limits its question."""
        left = max(0.0, until - self.queries.clock.monotonic()) if check.timeout else None
        with self.queries.within(left):
            return await self._verdict(check, sent=sent)

    async def _verdict(self, check: Check, *, sent: bool) -> Verdict:
        before = self.journal.remembered(_before(check)) if compares(check) else None
        began = self.journal.remembered(_first(check))
        first = DatabaseClock(*began) if began else None
        try:
            now = await self.queries.ask(check.question, first)
            earlier = before and Table(tuple(before[0]), tuple(map(tuple, before[1])))
            since = self.queries.since(check.question, first)
            verdict = judge(check, now, earlier, since, sent=sent)
            if not (verdict.holds and verdict.blank):
                return verdict
            return verdict.under(await self.queries.row_security(check.question, first))
        except QueryRefused as error:
            return Verdict("no answer", f"it cannot be asked: {error}")


def needs_run(check: Check) -> bool:
    """Whether it is about what a run has changed, or about when it started."""
    expect = check.expect
    started = expect.newer_than == RUN_STARTED or OF_RUNS[0] in names_of(check.question.query)
    return started or expect.change is not None


def ask_now(check: Check, database: LiveDatabase) -> Verdict:
    """Ask a check outside a run. Raises `QueryRefused` and `TargetError`."""
    query, given = check.question.query, check.question.parameters
    clock = database.clock(query.database) if check.expect.newer_than else None
    since = clock and Since.of(clock, query.timezone)
    verdict = judge(check, database.ask(query, given), None, since)
    if not (verdict.holds and verdict.blank):
        return verdict
    return verdict.under(database.row_security(query, given))


def finds_out(
    plan: ExecutionPlan, stage: Stage, asked: BoundQuestion, operation: str | None
) -> bool:
    """Whether a deferred stage resolves the items of a question when it starts. `operation`: the
    one that the question belongs to, None for the whole plan.

    These are what its own operation's questions are about; the stage's own items, if the query goes
    by them and does not belong to another stage that runs for such items; and the parts of a
    product, unless a stage runs for the parts themselves.
    """
    if asked.of is None or operation in stage.operations:
        return asked.of is not None
    own = stage.for_each
    if own in BUILT_IN:
        return False
    if own in (asked.of, *asked.parameters):
        others = (one for one in plan.stages if one.for_each == own and one.number != stage.number)
        return not any(operation in one.operations for one in others)
    for_them = any(one.for_each == asked.of for one in plan.stages)
    return asked.of not in BUILT_IN and operation is None and not for_them


def about_items_of(plan: ExecutionPlan, stage: Stage) -> About:
    """Return the checks and coverage whose items the stage resolves."""
    checks, coverage = plan.checks, plan.coverage
    return About(
        [one.name for one in checks if finds_out(plan, stage, one.question, one.operation)],
        [name for name, question in coverage if finds_out(plan, stage, question, None)],
    )


def proving(plan: ExecutionPlan, found: Resolved, *, begun: bool) -> ExecutionPlan:
    """Limit checks to the items that a stage has resolved, and extend coverage to them; see
    `about_items_of`.

    The items of a check from before are kept if rounds were `begun`, or if another stage may send
    them.
    """

    def proved(check: Check) -> Check:
        then, now = check.question, found.checks.get(check.name)
        if now is None:
            return check
        others = (one for one in plan.stages if one.number != found.stage.number)
        shared = check.operation not in found.stage.operations and any(
            finds_out(plan, one, then, check.operation) for one in others
        )
        return replace(check, question=now.with_earlier(then) if begun or shared else now)

    def measured(name: str, asked: BoundQuestion) -> Measure:
        now = found.coverage.get(name)
        return Measure(name, now.with_earlier(asked) if now else asked)

    coverage = (measured(*measure) for measure in plan.coverage)
    return replace(plan, checks=tuple(map(proved, plan.checks)), coverage=tuple(coverage))


async def compare_alike(queries: QueryRunner, then: ExecutionPlan, now: ExecutionPlan) -> None:
    """Ask again for the figures that checks compare with, if the checks are about other items `now`
    than `then`: a figure of the whole proves nothing about other items, and the figure of an item
    that has just been found is not known yet.

    Raises `InvalidPlan` for a question that the database refuses.
    """
    earlier = {check.name: check.question for check in then.checks}
    for check in now.checks:
        question, asked = check.question, earlier[check.name]
        new = frozenset(question.items).difference(asked.items)
        if not compares(check) or not (new if question.key else _other(asked, question)):
            continue
        try:
            table = await queries.ask(question)
        except QueryRefused as error:
            message = f"the check `{check.name}` cannot be asked: {error}"
            raise InvalidPlan((Problem(message, now.path, hint=error.hint),)) from None
        if question.key:
            table = _with_more(queries.journal, check, table, new)
        queries.journal.remember(_before(check), list(table))


def _other(then: BoundQuestion, now: BoundQuestion) -> bool:
    """Whether a question goes by other items now, in whatever order."""

    def about(one: BoundQuestion) -> list[set[str]]:
        return [set(map(str, of)) for of in one.parameters.values() if isinstance(of, list)]

    return {*then.items} != {*now.items} or about(then) != about(now)


def _with_more(journal: JournalReads, check: Check, now: Table, found: Collection[str]) -> Table:
    """Return the figures from before the work, and those of `now` for the items just `found`."""
    columns, rows = journal.remembered(_before(check))
    key, names = check.question.key, check.question.by_key()
    if key not in now.columns or list(now.columns) != list(columns):
        return Table(tuple(columns), tuple(map(tuple, rows)))  # its judge says what is wrong
    place = now.columns.index(key)

    def of_found(row: Sequence[Json]) -> bool:
        return names.get(str(row[place])) in found

    kept = (tuple(row) for row in rows if not of_found(row))
    return Table(now.columns, (*kept, *filter(of_found, now.rows)))


def begun_with(checks: Sequence[Check], journal: JournalReads) -> dict[str, Json]:
    """Return what a retry needs from its first run to prove what is still unproved: the figures
    before that run, and its start. What that run changed does not change again."""
    known = {
        _before(check): journal.remembered(_before(check)) for check in checks if compares(check)
    }
    for check in checks:
        known[_first(check)] = journal.remembered(_clock(check.question.query.database))
    return {name: value for name, value in known.items() if value is not None}


def _before(check: Check) -> str:
    return f"before {check.name}"


def _first(check: Check) -> str:
    return f"first {check.name}"


def _clock(database: str | None) -> str:
    return f"{_CLOCK} {database or ''}".strip()


def result_of(check: Check, verdict: Verdict) -> CheckResult:
    return CheckResult(
        check.name,
        check.moment,
        check.operation,
        verdict.holds,
        check.expect.words,
        verdict.seen,
        verdict.message,
        verdict.note,
    )
