"""Whether the next request may go out: what operators have requested, and what guards say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.execution.pace import Pace
from runner.execution.ports import Control, Guard, GuardUnanswered, Hold, Journal
from runner.execution.progress import Tracker
from runner.execution.waits import Waits
from runner.model import Observer, Waiting

_ASK_AGAIN = 1.0  # seconds between two looks at a request, or at a guard that cannot be asked
_LONGEST = 15.0  # ... and at one that says when: requests may come meanwhile


@dataclass(slots=True)
class Gate:
    journal: Journal
    waits: Waits
    observer: Observer
    tracker: Tracker
    stop: asyncio.Event
    guards: Sequence[Guard]
    cancelled: bool = False
    asked: bool = False
    seen: Control = field(default_factory=Control)

    async def opened(self, stage: int, pace: Pace, *, batch: bool) -> bool:
        """Return True once the next request may go out, False where the run is to end.

        Guards count before each batch (`batch`); one that cannot be asked holds, like one that says
        so. What operators request counts before each request, which is not written down past other
        requests of theirs than `seen`: they are read where that was refused, and at first.
        """
        said = self.waits.held
        if batch and self.asked and not (self.seen.wanted or said or self.guards):
            self._tune(pace)  # of another stage, it may be
            return not self.stop.is_set()
        if said:  # in the step before
            self.tracker.waiting(stage, Waiting(said))
        while not self.stop.is_set():
            self.look(pace)
            if self.seen.wanted == "cancel":
                self.cancelled = True
                return False
            hold = Hold("paused by an operator", _ASK_AGAIN)
            if self.seen.wanted != "pause":
                found = await self._held() if batch or said else None
                if found is None:
                    if said:
                        self.observer.note("going on")
                        self.tracker.waiting(stage, None)
                        self.waits.held = ""
                    return True
                hold = found
            if hold.reason != said:
                said = self.waits.held = hold.reason
                self.observer.note(f"waiting: {hold.reason}")
                self.tracker.waiting(stage, Waiting(hold.reason))
            await self.waits.again(min(hold.seconds, _LONGEST), "gate")
        return False

    def look(self, pace: Pace) -> None:
        """Read what was requested, and take over its pace."""
        self.asked, self.seen = True, self.journal.control()
        self._tune(pace)

    def _tune(self, pace: Pace) -> None:
        if tuned := pace.tune(self.seen):
            self.observer.note(tuned)

    async def _held(self) -> Hold | None:
        for guard in self.guards:
            try:
                hold = await guard.ask()
            except GuardUnanswered as error:
                return Hold(f"the guard `{guard.name}` cannot be asked: {error}", _ASK_AGAIN)
            if hold:
                return hold
        return None
