"""Apply control requests and guards: before each request, and while a run waits or works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from runner.execution.pacing import Pace, Waits
from runner.execution.ports import Control, Guard, GuardUnanswered, Hold, Journal
from runner.execution.progress import Tracker
from runner.model import Observer, Waiting

_ASK_AGAIN = 1.0  # seconds between two looks at requests, or at a guard that cannot be asked
_LONGEST = 15.0  # ... and at a guard that names a time: requests may come meanwhile


@dataclass(slots=True)
class Gate:
    journal: Journal
    waits: Waits
    observer: Observer
    tracker: Tracker
    stop: asyncio.Event
    guards: Sequence[Guard]
    cancelled: bool = False
    read: bool = False
    control: Control = field(default_factory=Control)

    async def opened(
        self, stage: int, pace: Pace, *, batch: bool, over: Callable[[], bool] = lambda: False
    ) -> bool:
        """Return True once the next request may go out, False if the run is to end; it is `over` if
        jobs have failed, also meanwhile.

        Guards are asked before each batch (`batch`); one that cannot be asked counts as a hold.
        Control requests apply before each request: the journal refuses to begin one if they differ
        from `control`, so they are read again after such a refusal, and at first.
        """
        held = self.waits.held
        if batch and self.read and not (self.control.wanted or held or self.guards):
            self._tune(pace)  # the pace may be that of another stage
            return not (self.stop.is_set() or over())
        if held:  # in the previous step
            self.tracker.waiting(stage, Waiting(held))
        while not (self.stop.is_set() or over()):
            self.look(pace)
            if self.control.wanted == "cancel":
                self.cancelled = True
                return False
            hold = Hold(self.control.hold or "paused by an operator", _ASK_AGAIN)
            if self.control.wanted != "pause" and not self.control.hold:
                found = await self._held(stage) if batch or held else None
                if found is None and (self.stop.is_set() or over()):
                    break
                if found is None:
                    if held:
                        self.observer.note("going on")
                        self.tracker.waiting(stage, None)
                        self.waits.held = ""
                    return True
                hold = found
            if hold.reason != held:
                held = self.waits.held = hold.reason
                self.observer.note(f"waiting: {hold.reason}")
                self.tracker.waiting(stage, Waiting(hold.reason))
            await self.waits.again(min(hold.seconds, _LONGEST), "gate")
        return False

    def look(self, pace: Pace) -> None:
        """Read the control requests, and apply their pace."""
        self.read, self.control = True, self.journal.control()
        self._tune(pace)

    def _tune(self, pace: Pace) -> None:
        self.tracker.tuned(self.control)
        if tuned := pace.tune(self.control):
            self.observer.note(tuned)

    async def _held(self, stage: int) -> Hold | None:
        """Return what holds the run; None also if it is to stop while a guard is asked."""
        for guard in self.guards:
            try:
                hold = await self._ask(stage, guard)
            except GuardUnanswered as error:
                return Hold(f"the guard `{guard.name}` cannot be asked: {error}", _ASK_AGAIN)
            if hold or self.stop.is_set():
                return hold
        return None

    async def _ask(self, stage: int, guard: Guard) -> Hold | None:
        named = False

        def name() -> None:
            nonlocal named
            named = not self.waits.held  # else what held the run is still the reason
            if named:
                self.tracker.waiting(stage, Waiting(f"for the guard `{guard.name}` to answer"))

        hold = await ask(guard, self.stop, name)
        if named and not hold:
            self.tracker.waiting(stage, None)
        return hold


async def ask(guard: Guard, stop: asyncio.Event, late: Callable[[], None]) -> Hold | None:
    """Ask a guard, and call `late` once that takes long. None also if `stop` is set meanwhile.

    Raises `GuardUnanswered`."""
    asking, stopping = asyncio.create_task(guard.ask()), asyncio.create_task(stop.wait())
    try:
        for timeout in (_ASK_AGAIN, None):
            done, _ = await asyncio.wait(
                (asking, stopping), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
            late()
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.wait((asking, stopping))  # also for a program that is ended


_LEASE_EVERY = 15  # looks at the control requests


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` until the block ends; if it fails, the block fails with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def watch(journal: Journal, stop: asyncio.Event) -> None:
    """Set `stop` once the run is to be cancelled. Raises `LeaseLost` and `TargetError`."""
    while not stop.is_set():
        for _ in range(_LEASE_EVERY):
            if journal.control().wanted == "cancel":
                stop.set()
                break
            await asyncio.sleep(_ASK_AGAIN)
        journal.keep_lease()
    while True:  # keep the lease while the remaining work ends
        await asyncio.sleep(_LEASE_EVERY * _ASK_AGAIN)
        journal.keep_lease()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
