"""One run of one execution plan: send, pace, follow, stage by stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

from runner.errors import PreflightRefused
from runner.execution.chunks import Encoded, RequestLimits, Wire
from runner.execution.follow import Follower
from runner.execution.gate import Gate
from runner.execution.pace import Pace
from runner.execution.ports import Clock, EventApi, Guard, JobsApi, Journal
from runner.execution.progress import Tracker
from runner.execution.recover import Decision, recover, watched
from runner.execution.send import Sender, Sent, take
from runner.execution.watch import beside
from runner.model import ExecutionPlan, FailureLimit, Observer, Stage
from runner.spec.units import format_duration

_FEWEST = 20  # events that must have ended before a ratio of them says anything


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
    guards: Sequence[Guard] = ()
    past_failures: bool = False  # go on although the plan stops on a failure and there were some
    decision: Decision = None  # about requests whose fate cannot be found out any more


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run came to its end; `reason` says why it did not go further, where the plan did."""

    how: Literal["complete", "stopped", "cancelled", "limit"]
    reason: str | None = None


async def execute(plan: ExecutionPlan, means: Means) -> Ending:
    """Send what the journal says is still unsent and follow all that is open.

    What came of it is in the journal. Raises `TargetError`, `KeyRefused`, `Incomplete` and
    `LeaseLost`; whatever happens, the journal can be resumed from.
    """
    run = _Run(plan, means)
    means.observer.started(means.journal.run_id, plan)
    async with run.following():
        await run.send_unanswered()
        await run.stages()
        await run.finish()
    return run.ending()


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
        self.gate = Gate(
            means.journal, means.clock, means.observer, self.tracker, means.stop, means.guards
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
        past = means.past_failures or plan.on_failure == "continue"
        self.failed_before = 0 if past else len(self.journal.failures())
        self.rejected = 0
        self.reason: str | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """The follower sweeps in the background; if it fails, the run fails with its error."""
        if self.follower is None:
            yield
            return
        self.follower.add(watched(self.plan, self.journal))
        async with beside(self.follower.run()):
            yield

    async def send_unanswered(self) -> None:
        async for sent in recover(self.plan, self.sender, self.means.jobs, self.means.decision):
            self._take(sent.chunk.stage, sent)

    async def stages(self) -> None:
        first = 0
        for stage in self.plan.stages:
            if not await self._stage(stage, first):
                return
            first += stage.total

    async def finish(self) -> None:
        """What was sent is followed to its end, also where a failure has stopped the sending."""
        if self.follower and not self.gate.cancelled:
            await self.follower.settled()

    def ending(self) -> Ending:
        if self.journal.orders().wanted == "cancel":
            return Ending("cancelled", "cancelled by an operator")
        if self.means.stop.is_set():
            return Ending("stopped")
        limited = self.plan.max_failures is not None and self.reason is not None
        return Ending("limit" if limited else "complete", self.reason)

    async def _stage(self, stage: Stage, first: int) -> bool:
        """Send the stage and wait for it as it asks; False where the run must end here."""
        start = min(max(0, self.journal.next_position() - first), stage.total)
        failed = self.journal.failed_in(stage.number)
        settled = start - self.follower.open_in(stage.number) if self.follower else failed
        self.tracker.begin(stage.number, start, settled, failed)
        if start < stage.total and not await self._send(stage, first, start):
            return False
        if self.follower and stage.wait == "completed":
            self.tracker.waiting(stage.number, "for its jobs to end")
            await self.follower.settled(stage.number)
        if self.means.stop.is_set():
            return False
        self.tracker.ended(stage.number)
        return not self._must_stop()

    async def _send(self, stage: Stage, first: int, index: int) -> bool:
        wire = Wire(self.journal.run_id, self.journal.started_at, stage, first)
        pace, events = Pace(stage.pacing), wire.events(index)
        paced = index > 0  # a run that is carried on keeps the pace that was reviewed
        while index < stage.total:
            if index and index == stage.canary and not await self._canary(stage):
                return False
            if paced and stage.begins is None:
                await self._pause(stage, pace)
            if self._must_stop() or not await self.gate.opened(stage.number, pace, batch=True):
                return False
            sent = await self._batch(stage, index, take(events, stage, index, pace), pace)
            if not sent:
                return False
            index, paced = index + sent, True
        return not self.means.stop.is_set()

    async def _batch(self, stage: Stage, index: int, batch: Sequence[Encoded], pace: Pace) -> int:
        """How many events of the batch are decided; 0 where the run must end within it."""
        number, decided, size = stage.batch_of(index), 0, pace.size
        sending = self.sender.send_batch(stage, batch, number, pace, self.means.stop)
        async for sent in sending:
            self._take(stage.number, sent)
            decided += sent.accepted + sent.rejected
            if decided == len(batch):
                break
            if self._over_limit() or not await self.gate.opened(stage.number, pace, batch=False):
                return 0
        if pace.size >= size and (faster := pace.speed_up()):
            self.means.observer.note(faster)
        return decided if decided == len(batch) else 0

    async def _pause(self, stage: Stage, pace: Pace) -> None:
        if pace.delay:
            why = "between batches" if pace.as_planned else "between batches (slowed down)"
            self.tracker.waiting(stage.number, f"{format_duration(round(pace.delay, 1))} {why}")
            await self.means.clock.sleep(pace.delay, self.means.stop)

    async def _canary(self, stage: Stage) -> bool:
        """The first events alone, to their end: the others follow only where they succeeded."""
        if self.follower is None or self.means.past_failures:
            return True
        self.tracker.waiting(stage.number, "for its canary to end")
        await self.follower.settled(stage.number)
        if self.means.stop.is_set():
            return False
        failed = self.journal.failed_in(stage.number)
        if failed:
            self.reason = f"the canary of `{stage.operation}` failed"
            self.means.observer.note(f"{self.reason}: nothing more is sent")
        return not failed

    def _take(self, stage: int, sent: Sent) -> None:
        self.rejected += sent.rejected
        self.tracker.sent(stage, sent.accepted, sent.rejected)
        if self.follower:
            self.follower.add(sent.events())

    def _must_stop(self) -> bool:
        failed = self.failed_before + self.rejected
        failed += self.follower.failures if self.follower else 0
        return self._over_limit() or (bool(failed) and self.plan.on_failure == "stop")

    def _over_limit(self) -> bool:
        failed = ended = self.rejected
        if self.follower:
            failed += self.follower.failures
            ended += self.follower.ended
        limit = self.plan.max_failures
        if limit and self.reason is None and _exceeds(limit, failed, ended):
            self.reason = f"{failed:,} of {ended:,} events have failed: `max_failures` is reached"
            self.means.observer.note(f"{self.reason}; nothing more is sent")
        return self.reason is not None


def _exceeds(limit: FailureLimit, failed: int, ended: int) -> bool:
    if limit.count is not None:
        return failed >= limit.count
    return ended >= _FEWEST and failed > (limit.ratio or 0.0) * ended
