"""One run of one execution plan: send, pace and follow, stage by stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from runner.errors import InvalidPlan, LockHeld, PreflightRefused
from runner.execution.check import Checker, QueryRunner
from runner.execution.context import CANCELLED, Ending, How, RunContext
from runner.execution.follow import Follower, Timeouts
from runner.execution.gate import Gate, beside
from runner.execution.pacing import Pace, Pacer, Step, Waits
from runner.execution.progress import Tracker
from runner.execution.recover import (
    figures_so_far,
    passed_over,
    passed_rounds,
    recover,
    settle_sent,
    tally,
    watched,
)
from runner.execution.rounds import Next, Rounds
from runner.execution.send import Ahead, Sender, Sent, Wire, batch_size
from runner.model import ExecutionPlan, FailureLimit, Stage, Waiting
from runner.spec.units import counted

_FEWEST = 20  # events that must have ended before their ratio counts


async def execute(plan: ExecutionPlan, context: RunContext) -> Ending:
    """Send what is unsent according to the journal, and follow all that is open.

    The results are in the journal. Raises `TargetError`, `KeyRefused`, `Incomplete` and
    `LeaseLost`; whatever happens, the run can be resumed from the journal.
    """
    journal = context.journal
    journal.drive()
    try:
        return await _driven(plan, context)
    finally:
        with suppress(LockHeld):  # another process has taken over the run
            journal.rest()


async def _driven(plan: ExecutionPlan, context: RunContext) -> Ending:
    run = _Run(plan, context)
    context.observer.started(context.journal.run_id, plan)
    async with run.following():
        await run.send_unanswered()
        all_sent = await run.may_begin() and await run.stages()
        await run.finish()
        if all_sent:
            await run.prove()
        if context.step:
            await run.leave(context.step)
    return run.ending()


class _Run:
    def __init__(self, plan: ExecutionPlan, context: RunContext) -> None:
        self.plan, self.context, self.journal = plan, context, context.journal
        self.tracker = Tracker(
            plan.stages,
            figures_so_far(plan, self.journal),
            context.observer,
            context.clock,
            followed=context.jobs is not None,
            driven=self.journal.driven(),
            windows=plan.windows,
        )
        self.sender = Sender(
            context.events,
            context.journal,
            context.clock,
            context.observer,
            context.random,
            context.options.limits,
        )
        self.waits = context.step or Waits(context.clock, context.stop, context.journal.keep_lease)
        self.pacer = Pacer(context.clock, context.journal, self.waits)
        self.gate = Gate(
            context.journal,
            self.waits,
            context.observer,
            self.tracker,
            context.stop,
            context.guards,
        )
        self.follower = (
            None
            if context.jobs is None
            else Follower(
                context.jobs,
                context.journal,
                context.clock,
                self.waits,
                self.tracker,
                context.stop,
                context.grace,
                {
                    stage.number: Timeouts(stage.queue_timeout, stage.timeout)
                    for stage in plan.stages
                },
            )
        )
        self.checker: Checker | None = None
        self.rounds: Rounds | None = None
        if context.database:
            queries = QueryRunner(
                context.database,
                context.clock,
                context.stop,
                context.observer,
                self.journal,
                context.patiently,
            )
            self.checker = Checker(plan, self.journal, queries, self.tracker, self.waits)
            if context.resolver:
                self.rounds = Rounds(
                    self.journal,
                    context.resolver,
                    queries,
                    context.clock,
                    passed_rounds(context.clock, context.step, past=context.options.past_failures),
                )
        self.ended_as: How = "complete"
        self.before = tally(plan, context.journal, context.step)
        self.reached = set(self.journal.reached())
        self.through = set[int]()  # stages that were gone through
        self.passed_over = passed_over(
            context.journal, context.step, past=context.options.past_failures
        )
        self.rejected = 0
        self.reason: str | None = None
        self.option: str | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow jobs in the background; if that fails, the run fails with its error."""
        if self.follower is None:
            yield
            return
        self.follower.restore(watched(self.plan, self.journal), self.context.step)
        async with beside(self.follower.run()):
            yield

    async def send_unanswered(self) -> None:
        """Resend requests that were under way when the run was left, once nothing holds the run."""
        if self.plan.stages and self.journal.unanswered():
            first = self.plan.stages[0]
            if not await self.gate.opened(first.number, self.pacer.of(first), batch=True):
                return
        async for sent in recover(
            self.plan, self.sender, self.context.jobs, self.context.options.unanswered
        ):
            self._take(sent.chunk.stage, sent)

    async def may_begin(self) -> bool:
        """Run the checks before anything is sent, and record figures for later ones."""
        if self.checker is None or await self.checker.before():
            return True
        self._end("failed", "a check before the run does not hold")
        return False

    async def stages(self) -> bool:
        """Whether all stages were gone through."""
        first = 0
        for number in range(1, len(self.plan.stages) + 1):
            stage = self.plan.stages[number - 1]
            ended = await (
                self._rounds(stage, first) if stage.deferred else self._stage(stage, first)
            )
            proved = ended and await self._proved(self.plan.stages[number - 1])
            if number in self.through:
                self.tracker.ended(number)
            if not proved:
                return False
            first += self.plan.stages[number - 1].total
        return True

    async def prove(self) -> None:
        """Run the checks at the end, once all jobs have ended."""
        stop = self.context.stop
        if self.checker is None or stop.is_set() or await self.checker.end(self.plan.stages):
            return
        if not stop.is_set():  # else it did not get its full time
            self.context.observer.note("a check at the end does not hold")

    async def finish(self) -> None:
        """Follow what was sent to its end, even if a failure has stopped the sending."""
        if self.follower is None:
            self._settle_sent()
        elif not self.gate.cancelled:
            for stage in self.plan.stages:
                await self._followed(self.follower, stage.number)

    async def _followed(self, follower: Follower, stage: int) -> None:
        """Wait for jobs that still run in a stage that was done when sent, and report the wait."""
        if self.context.stop.is_set() or not follower.out(stage):
            return
        then = " before it stops" if self._must_stop() else ""
        self.tracker.waiting(stage, Waiting(f"for its jobs to end{then}", "jobs"))
        await follower.settled(stage)
        self.tracker.waiting(stage, None)

    def _settle_sent(self) -> None:
        """Without following, complete the events that are done when sent; nothing is known of
        others."""
        for stage, number in settle_sent(self.plan, self.journal).items():
            self.tracker.settled(stage, {"completed": number})

    async def leave(self, step: Step) -> None:
        """Look at jobs once more: nobody does until the next step, which sees what this look
        misses."""
        if self.follower:
            with suppress(TimeoutError):
                async with asyncio.timeout(step.last_look):
                    await self.follower.poll_once()
            step.life = self.follower.last_life

    def ending(self) -> Ending:
        if self.journal.control().wanted == "cancel":
            return Ending("cancelled", CANCELLED)
        if self.context.stop.is_set():
            return Ending("stopped")
        how = "complete" if self.reason is None else self.ended_as
        return Ending(how, self.reason, self.option)

    def _end(self, how: How, reason: str, option: str | None = None) -> None:
        self.ended_as, self.reason, self.option = how, reason, option
        self.context.observer.note(f"{reason}; nothing more is sent")

    async def _proved(self, stage: Stage) -> bool:
        """Run the checks after the stage; if one fails, the plan decides whether to continue."""
        if self.checker is None or await self.checker.after(stage):
            return True
        if self.context.stop.is_set():
            return False
        if self.plan.on_failure == "stop" and not self.context.options.past_failures:
            self._end("failed", f"a check after `{stage.operation}` does not hold")
            return False
        return True

    async def _rounds(self, stage: Stage, first: int) -> bool:
        """Run the rounds of a deferred stage: the current one, and more until its goal is met."""
        if self.rounds is None:
            message = f"`{stage.operation}` is resolved when it starts, and nothing resolves it"
            raise PreflightRefused(message)
        number, goes_on = stage.number, True
        begun = bool(self.journal.rounds(number))
        while number not in self.reached:
            if begun:
                goes_on = await self._round(number, first)
                if not goes_on and not self._is_through(number, first):
                    return False
            stage = self.plan.stages[number - 1]
            following = await self.rounds.next(stage, self.pacer.owed(stage))
            if self.context.stop.is_set():
                return False
            if following.what == "done":
                self.plan = self.rounds.close(self.plan, stage, following)
                self._resolved(number)
                break
            if not goes_on:
                self._abandon(self.rounds.abandon(stage, following))
                return False
            if not await self._begin_round(self.rounds, stage, following, begun):
                return False
            begun = True
        if stage.until:
            self.reached.add(number)
        self.through.add(number)
        return not self._must_stop()

    async def _round(self, number: int, first: int) -> bool:
        """Send the round. That of a drain is followed to its end: its backlog means nothing before
        that."""
        stage = self.plan.stages[number - 1]
        if stage.until:
            self.tracker.in_round(self.journal.rounds(number)[-1])
        return await self._stage(stage, first)

    def _is_through(self, number: int, first: int) -> bool:
        """Whether a round has ended, so that its goal may be reached despite failures."""
        if self.context.stop.is_set() or self.gate.cancelled or self.reason:
            return False
        stage = self.plan.stages[number - 1]
        return stage.until is not None and self.journal.next_position() - first >= stage.total

    def _abandon(self, short: Next) -> None:
        """Report a drain that ends short of its goal; that it failed is told by its failures."""
        self.option = short.option
        self.context.observer.note(f"{short.reason}; nothing more is sent")

    async def _begin_round(self, rounds: Rounds, stage: Stage, due: Next, begun: bool) -> bool:
        if due.what != "round":
            how: How = "failed" if due.what == "stalled" else "limit"
            self._end(how, due.reason or "", due.option)
            return False
        if begun and not await self._rest(stage, "between rounds"):
            return False
        try:
            self.plan = await rounds.begin(self.plan, stage, due.left)
            if self.checker:
                self.checker.plan = self.plan
        except InvalidPlan as error:  # the plan was valid: the data it queries has changed since
            why = error.problems[0].message
            self._end("limit", f"`{stage.operation}` cannot be resolved: {why}")
            return False
        self._resolved(stage.number)
        return True

    def _resolved(self, number: int) -> None:
        self.tracker.resolved(self.plan.stages[number - 1], self.journal.rounds(number)[-1])

    async def _stage(self, stage: Stage, first: int) -> bool:
        """Send the stage, and wait for its jobs if it says so; False if the run must end here."""
        start = min(max(0, self.journal.next_position() - first), stage.total)
        self.tracker.begin(stage.number)
        if start < stage.total and not await self._send(stage, first, start):
            return False
        if self.follower and stage.wait == "completed":
            self.tracker.waiting(stage.number, Waiting("for its jobs to end", "jobs"))
            await self.follower.settled(stage.number)
        if self.context.stop.is_set():
            return False
        self.tracker.waiting(stage.number, None)
        if not stage.deferred:  # else another round may follow
            self.through.add(stage.number)
        return not self._must_stop()

    async def _send(self, stage: Stage, first: int, index: int) -> bool:
        pace, events = self.pacer.of(stage), self._ahead(stage, first, index)
        fresh = stage.deferred and index == self.journal.rounds(stage.number)[-1].first
        self.waits.left = self.pacer.left_of_batch(stage, index, fresh=fresh)
        while index < stage.total:
            if index and index == stage.canary and not await self._canary(stage):
                return False
            begins = not self.waits.left
            if begins and (
                self._had_its_time(stage, self.pacer.owed(stage))
                or not await self._rest(stage, "between batches")
            ):
                return False
            if not await self._may_send(stage.number, pace, batch=True):
                return False
            if begins and self._had_its_time(stage):
                return False
            if events.base != self.pacer.base(stage, index):  # the stage is late
                events = self._ahead(stage, first, index)
            sent = await self._batch(stage, index, events, pace)
            if not sent:
                return False
            self.waits.moved()
            index += sent
        return not self.context.stop.is_set()

    def _had_its_time(self, stage: Stage, rest: float = 0.0) -> bool:
        """End the run if the drain's time is up, including the rest before the next batch."""
        over = self.rounds and self.rounds.over(stage, rest)
        if over:
            self._end("limit", over.reason or "", over.option)
        return over is not None

    def _ahead(self, stage: Stage, first: int, index: int) -> Ahead:
        base = self.pacer.base(stage, index)
        return Ahead(Wire(self.journal.run_id, base, stage), index, first)

    async def _batch(self, stage: Stage, index: int, events: Ahead, pace: Pace) -> int:
        """Send a batch; return how many events are decided, 0 if the run must end within it."""
        number, decided, size = stage.batch_of(index), 0, pace.size
        count = self.waits.left or batch_size(stage, index, pace)
        while decided < count:
            room = await self._room(stage, pace, count - decided)
            if not room:
                return 0
            before, control, stop = decided, self.gate.control, self.context.stop
            async for sent in self.sender.send_batch(
                stage, events, room, number, pace, control, stop
            ):
                self._take(stage.number, sent)
                decided += sent.decided
                self.waits.left = count - decided
                del sent  # see `Ahead.drop`
                if decided < count and self._over_limit():
                    return 0
            ended_early = decided < before + room
            if ended_early and not await self._may_send(stage.number, pace, batch=False):
                return 0
            if not decided:  # control requests came before the batch
                size, count = pace.size, batch_size(stage, index, pace)
        if pace.delay:
            self.journal.settle()  # write now, since nothing else will during the delay
        if pace.size >= size and (faster := pace.speed_up()):
            self.context.observer.note(faster)
        return count

    async def _room(self, stage: Stage, pace: Pace, most: int) -> int:
        """Wait for room; return how many of the next `most` events may go out, 0 if the run must
        end."""
        follower = self.follower
        if follower is None or not stage.waits:
            return most
        while (cap := self._cap(stage)) is not None and follower.out(stage.number) >= cap:
            if not await self._has_room(follower, stage, pace):
                return 0
            # Hours may have passed, so guards apply again, as before a batch.
            if not await self._may_send(stage.number, pace, batch=True):
                return 0
        return most if cap is None else min(most, cap - follower.out(stage.number))

    async def _has_room(self, follower: Follower, stage: Stage, pace: Pace) -> bool:
        """Wait until the events in flight are below the cap; False if the run must end."""
        number, said = stage.number, ""
        while (cap := self._cap(stage)) is not None and (out := follower.out(number)) >= cap:
            jobs = f"{counted(out, 'job', 'are')} in flight"
            if jobs != said:
                said = jobs
                self.tracker.waiting(number, Waiting(jobs, "room"))
            await follower.looked(number, room=True)
            if self.context.stop.is_set() or self._must_stop():
                return False
            asked = self.journal.control() != self.gate.control
            if asked and not await self._may_send(number, pace, batch=False):
                return False
            said = "" if asked else said  # the gate may have reported other waits
        self.tracker.waiting(number, None)
        return True

    def _cap(self, stage: Stage) -> int | None:
        """The most events of the stage without an outcome, as an operator or the plan sets it."""
        return self.gate.control.max_in_flight or (stage.cap.events if stage.cap else None)

    async def _rest(self, stage: Stage, between: str) -> bool:
        """Wait for the rest of the delay; False if the run is to end.

        Control requests, made before or meanwhile, apply at once: a pause, a shorter delay.
        """
        number, pace, said, asked = stage.number, self.pacer.of(stage), "", True
        while self.pacer.owed(stage) and not self._must_stop():
            # A step that is over reads no requests, but must say when the next one is due.
            if asked and not self.context.stop.is_set():
                said = ""  # the gate may report other waits
                if not await self._may_send(number, pace, batch=False):
                    return False
            why = f"{between} (slowed down)" if pace.slowed else between
            reason = f"{pace.pause} {why}"
            if reason != said:
                said = reason
                self.tracker.waiting(number, Waiting(reason, "pace"))
            await self.waits.pace(self.pacer.owed(stage))
            if self.context.stop.is_set():
                return False
            asked = self.journal.control() != self.gate.control
        if said:
            self.tracker.waiting(number, None)
        return not (self.context.stop.is_set() or self._must_stop())

    async def _canary(self, stage: Stage) -> bool:
        """Wait for the first events; the others follow only if these succeeded."""
        assert self.follower  # noqa: S101 - preflight refuses a canary that is not followed
        self.tracker.waiting(stage.number, Waiting("for its canary to end", "jobs"))
        await self.follower.settled(stage.number)
        if self.context.stop.is_set():
            return False
        self.tracker.waiting(stage.number, None)
        failed = stage.number in self._failed()
        if failed:
            self.reason = f"the canary of `{stage.operation}` failed"
            self.option = "--past-failures"
            self.context.observer.note(f"{self.reason}: nothing more is sent")
        return not failed

    def _take(self, stage: int, sent: Sent) -> None:
        self.rejected += sent.rejected
        self.pacer.sent(stage)
        self.tracker.sent(stage, sent.accepted, sent.rejected, sent.chunk.sent_at)
        if self.follower:
            self.follower.add(sent.events())

    async def _may_send(self, stage: int, pace: Pace, *, batch: bool) -> bool:
        """See `Gate.opened`: what holds the run back may last for hours, in which jobs fail."""
        opened = await self.gate.opened(stage, pace, batch=batch, over=self._must_stop)
        if not (opened or self.context.stop.is_set()):
            self.tracker.waiting(stage, None)
        return opened

    def _must_stop(self) -> bool:
        return self._over_limit() or (self.plan.on_failure == "stop" and self._has_failed())

    def _has_failed(self) -> bool:
        """Whether a stage without a reached goal has a failure that was not passed over."""
        return bool(self._failed() - self.reached)

    def _failed(self) -> set[int]:
        """Return the stages with failures that were not passed over."""
        lost = self.tracker.lost().items()
        return {stage for stage, number in lost if number > self.passed_over.get(stage, 0)}

    def _over_limit(self) -> bool:
        failed, ended = self.rejected, self.before.ended + self.rejected
        if self.context.step:
            failed += self.before.failed
        if self.follower:
            failed += self.follower.failures
            ended += self.follower.ended
        limit = self.plan.max_failures
        reached = limit and self.reason is None and _exceeds(limit, failed, ended)
        if reached and self._has_more():
            many = counted(ended, "event", "have")
            self._end("limit", f"{failed:,} of {many} failed: `max_failures` is reached")
        return self.reason is not None

    def _has_more(self) -> bool:
        """Whether more may be sent, so that it matters whether the run ends here."""
        stages = self.plan.stages
        if self.journal.next_position() < sum(stage.total for stage in stages):
            return True
        return any(
            stage.number not in self.through
            and stage.deferred
            and (stage.until is not None or not self.journal.rounds(stage.number))
            for stage in stages
        )


def _exceeds(limit: FailureLimit, failed: int, ended: int) -> bool:
    if limit.count is not None:
        return failed >= limit.count
    return ended >= _FEWEST and failed > (limit.ratio or 0.0) * ended
