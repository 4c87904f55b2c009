"""Asks the checks of a plan at their moments, and writes down what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from runner.errors import PreflightRefused, TargetDown
from runner.execution.judge import Verdict, compares, judge
from runner.execution.ports import Clock, Journal
from runner.execution.progress import Tracker
from runner.execution.waits import Waits
from runner.model import (
    Check,
    CheckResult,
    Database,
    ExecutionPlan,
    Json,
    Moment,
    Observer,
    Query,
    QueryRefused,
    Table,
)

BEFORE, AFTER = "before", "after"
_TRIES = 4  # at a database that is away


@dataclass(slots=True)
class Questioner:
    """The database, asked beside the event loop, and again where it is away for a moment."""

    database: Database
    clock: Clock
    stop: asyncio.Event
    random: Random
    observer: Observer
    started_at: float

    async def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        """Raises `QueryRefused` and `TargetError`: an error is never an empty answer."""
        since = datetime.fromtimestamp(self.started_at, UTC).isoformat()
        tries = AsyncRetrying(
            sleep=lambda seconds: self.clock.sleep(seconds, self.stop),
            stop=stop_after_attempt(_TRIES),
            wait=lambda state: 2**state.attempt_number * self.random.uniform(0.5, 1.0),
            retry=retry_if_exception_type(TargetDown),
            before_sleep=lambda state: self.observer.note(
                f"{state.outcome.exception() if state.outcome else ''}; asking again"
            ),
            reraise=True,
        )
        table: Table = await tries(
            asyncio.to_thread, self.database.ask, query, {"run_started_at": since, **parameters}
        )
        return table


@dataclass(slots=True)
class Checker:
    plan: ExecutionPlan
    journal: Journal
    questioner: Questioner
    tracker: Tracker
    waits: Waits
    failed: bool = False

    async def before(self) -> bool:
        """The checks before anything is sent, and the figures that later ones compare with.

        A resumed run keeps the figures that it began with. Raises `PreflightRefused` for a check
        that cannot be asked.
        """
        for check in self.plan.checks:
            if compares(check) and self.journal.remembered(_before(check)) is None:
                try:
                    table = await self.questioner.ask(check.query, check.parameters)
                except QueryRefused as error:
                    message = f"the check `{check.name}` cannot be asked: {error}"
                    raise PreflightRefused(message, hint=error.hint or "mend its query") from None
                self.journal.remember(_before(check), list(table))
        await self.measure(BEFORE)
        return await self._all("before", None, None)

    async def measure(self, when: str) -> None:
        """Keep the coverage of now; that of before stays what it was when the run began."""
        for name, query, parameters in self.plan.coverage:
            key = coverage_key(name, when)
            if when == BEFORE and self.journal.remembered(key) is not None:
                continue
            try:
                table = await self.questioner.ask(query, parameters)
            except QueryRefused as error:
                message = f"the coverage `{name}` cannot be asked: {error}"
                if when == BEFORE:
                    raise PreflightRefused(message, hint=error.hint or "mend its query") from None
                self.questioner.observer.note(message)
            else:
                self.journal.remember(key, list(table))

    async def after(self, operation: str, stage: int) -> bool:
        return await self._all("after", operation, stage)

    async def end(self) -> bool:
        await self.measure(AFTER)
        return await self._all("end", None, None)

    async def _all(self, moment: Moment, operation: str | None, stage: int | None) -> bool:
        """Whether all of them hold; a check that held before a resume is not asked again."""
        held = {result.name for result in self.journal.checks() if result.ok}
        holds = True
        for check in self.plan.checks:
            mine = moment != "after" or check.operation == operation
            if check.moment != moment or not mine or check.name in held:
                continue
            verdict = await self._asked(check, stage)
            if self.questioner.stop.is_set() and not verdict.holds:
                return False  # it was not given its time: a resume asks again
            self.journal.keep_check(result_of(check, verdict))
            if not verdict.holds:
                self.questioner.observer.note(f"the check `{check.name}`: {verdict.message}")
                holds = False
        self.failed |= not holds
        return holds

    async def _asked(self, check: Check, stage: int | None) -> Verdict:
        """Asked until it holds or its time is up."""
        clock, stop, what = self.questioner.clock, self.questioner.stop, f"check {check.name}"
        until = clock.monotonic() + check.timeout - self.waits.waited(what)
        while True:
            verdict = await self._once(check)
            left = until - clock.monotonic()
            if verdict.holds or left <= 0 or stop.is_set():
                return verdict
            if stage is not None:
                self.tracker.waiting(stage, f"for the check `{check.name}`: {verdict.seen}")
            await self.waits.again(min(check.every, left), what, most=left)

    async def _once(self, check: Check) -> Verdict:
        before = self.journal.remembered(_before(check)) if compares(check) else None
        try:
            now = await self.questioner.ask(check.query, check.parameters)
        except QueryRefused as error:
            return Verdict("no answer", f"it cannot be asked: {error}")
        earlier = before and Table(tuple(before[0]), tuple(map(tuple, before[1])))
        return judge(check, now, earlier, self.journal.started_at)


def coverage_key(name: str, when: str) -> str:
    """Under which name the journal has the coverage, BEFORE or AFTER a run."""
    return f"coverage {name} {when}"


def _before(check: Check) -> str:
    return f"before {check.name}"


def result_of(check: Check, verdict: Verdict) -> CheckResult:
    return CheckResult(
        check.name,
        check.moment,
        check.operation,
        verdict.holds,
        check.expect.words,
        verdict.seen,
        verdict.message,
    )
