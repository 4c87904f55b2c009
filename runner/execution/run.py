"""One run of one execution plan: send, pace, follow, stage by stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from runner.errors import PreflightRefused
from runner.execution.chunks import RequestLimits
from runner.execution.follow import Follower
from runner.execution.ports import Clock, EventApi, JobsApi, Journal
from runner.execution.progress import Tracker
from runner.execution.send import Sender, Sent, batches
from runner.model import ExecutionPlan, Observer, Stage
from runner.spec.units import format_duration


@dataclass(frozen=True, slots=True)
class Means:
    """What a run is handed; without `jobs` it sends and does not follow."""

    events: EventApi
    jobs: JobsApi | None
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    stop: asyncio.Event
    grace: float
    limits: RequestLimits
    past_failures: bool = False  # go on although the plan stops on a failure and there were some


async def execute(plan: ExecutionPlan, means: Means) -> bool:
    """Send what the journal says is still unsent and follow all that is open.

    Returns False where `stop` ended it early. What came of it is in the journal. Raises
    `TargetError` and `KeyRefused`; whatever happens, the journal can be resumed from.
    """
    run = _Run(plan, means)
    means.observer.started(means.journal.run_id, plan)
    async with run.following():
        await run.send_uncertain()
        await run.stages()
        await run.finish()
    return not means.stop.is_set()


def preflight(plan: ExecutionPlan) -> None:
    """Refuse what cannot be what anybody wanted, before anything is sent."""
    if not plan.events:
        hint = "`backfill plan` shows what is skipped and why"
        raise PreflightRefused("there is nothing to send: the plan has no events", hint=hint)


class _Run:
    def __init__(self, plan: ExecutionPlan, means: Means) -> None:
        self.plan, self.means, self.journal = plan, means, means.journal
        self.tracker = Tracker(plan.stages, means.observer, means.clock)
        self.sender = Sender(
            means.events,
            means.journal,
            means.clock,
            means.observer,
            means.random,
            means.limits,
        )
        self.follower = (
            None
            if means.jobs is None
            else Follower(
                means.jobs,
                means.journal,
                means.clock,
                self.tracker,
                means.stop,
                means.grace,
                {stage.number: stage.timeout for stage in plan.stages},
            )
        )
        failed_before = 0 if means.past_failures else len(self.journal.failures())
        self.failed = failed_before  # and what is rejected from here on
        self.first_positions = _first_positions(plan)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """The follower sweeps in the background; if it fails, the run fails with its error."""
        if self.follower is None:
            yield
            return
        self.follower.add(self.journal.unsettled())
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.follower.run())
                yield
                task.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def send_uncertain(self) -> None:
        for chunk in self.journal.uncertain():
            message = f"batch {chunk.batch} of {chunk.operation}: its answer was lost; sent again"
            self.means.observer.note(message)
            self._take(chunk.stage, await self.sender.send_again(chunk))

    async def stages(self) -> None:
        for stage in self.plan.stages:
            if not await self.stage(stage):
                return

    async def stage(self, stage: Stage) -> bool:
        """Send the stage and wait for it as it asks; False where the run must end here."""
        first = self.first_positions[stage.number]
        start = min(max(0, self.journal.next_position() - first), stage.total)
        self.tracker.begin(stage.number, start, *self.journal.settled_in(stage.number))
        if start < stage.total and not await self._send(stage, first, start):
            return False
        if self.follower and stage.wait == "completed":
            self.tracker.waiting(stage.number, "for its jobs to end")
            await self.follower.settled(stage.number)
        if self.means.stop.is_set():
            return False
        self.tracker.ended(stage.number)
        return not self._must_stop()

    async def finish(self) -> None:
        """What was sent is followed to its end, also where a failure has stopped the sending."""
        if self.follower:
            await self.follower.settled()

    async def _send(self, stage: Stage, first: int, start: int) -> bool:
        delay = stage.pacing.delay
        paced = start > 0  # a run that is carried on keeps the pace that was reviewed
        for batch in batches(self.journal.run_id, stage, first, start):
            if paced and delay:
                self.tracker.waiting(stage.number, f"{format_duration(delay)} between batches")
                await self.means.clock.sleep(delay, self.means.stop)
            if self.means.stop.is_set() or self._must_stop():
                return False
            async for sent in self.sender.send_batch(batch, self.means.stop):
                self._take(stage.number, sent)
            paced = True
        return not self.means.stop.is_set()

    def _take(self, stage: int, sent: Sent) -> None:
        self.failed += sent.rejected
        self.tracker.sent(stage, sent.accepted, sent.rejected)
        if self.follower:
            self.follower.add(sent.events())

    def _must_stop(self) -> bool:
        failures = self.failed + (self.follower.failures if self.follower else 0)
        return bool(failures) and self.plan.on_failure == "stop"


def _first_positions(plan: ExecutionPlan) -> Mapping[int, int]:
    positions, position = {}, 0
    for stage in plan.stages:
        positions[stage.number] = position
        position += stage.total
    return positions


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
