"""What a run itself waits for: its pace, control requests, guards, checks, the end of jobs.

A run in a process of its own sleeps. One that is carried out in steps sleeps through what is
short; what is longer ends the step, and the next one begins when the wait is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from runner.execution.pace import Pace
from runner.execution.ports import Clock
from runner.model import Stage

SHORT, MOST = 3.0, 5.0  # seconds that a step sleeps by itself: in one wait, in all of them
PATIENCE = 60.0  # seconds between two looks at what does not change, at most
_SHARE = 4  # ... which grow with the time that has been waited already: a quarter of it
_LONGEST = 15.0  # seconds: no wait may outlast a lease


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands while no process carries it out. Times: seconds since 1970.

    `stage`, `pace`: how fast a stage goes, see `Pace.kept`; `left`: how many events are left of a
    batch that was begun. `what`, `since`: what is asked again and again, and since when. `life`:
    the latest sign of life from the jobs.
    """

    stage: int = 0
    left: int = 0
    pace: tuple[int, float, int, float] | None = None
    what: str = ""
    since: float = 0.0
    life: float = 0.0
    held: str = ""


@dataclass(slots=True)
class Waits:
    """The waits of a run in a process."""

    clock: Clock
    stop: asyncio.Event
    keep_lease: Callable[[], None]
    held: str = ""  # see `Checkpoint`
    left: int = 0

    async def pace(self, seconds: float) -> None:
        """What is left of the delay before the next event."""
        await self.clock.sleep(seconds, self.stop)

    def moved(self) -> None:
        """A batch was sent: what was asked about before has come to its end."""

    async def again(self, seconds: float, what: str, *, most: float = inf) -> None:  # noqa: ARG002
        """Until `what` is to be asked about again; `most`: by when it must be."""
        while seconds > 0 and not self.stop.is_set():
            await self.clock.sleep(min(seconds, _LONGEST), self.stop)
            self.keep_lease()
            seconds -= _LONGEST

    async def look(self, seconds: float, last_sent: float) -> None:  # noqa: ARG002
        """Until jobs are looked at again, where nothing but their end is waited for."""
        await self.clock.sleep(seconds, self.stop)

    def waited(self, what: str) -> float:  # noqa: ARG002
        """For how many seconds `what` was asked about before this process began."""
        return 0.0

    def pace_of(self, stage: Stage) -> Pace:
        return Pace(stage.pacing)

    def left_of_batch(self, stage: Stage) -> int | None:  # noqa: ARG002
        """How many events are left of a batch that was begun before this process; None where that
        is not known."""
        return None


@dataclass(slots=True)
class Step(Waits):
    """The waits of a run that is carried out in steps; `before` is where the last one ended.

    `asked_at`: when the run was handed over, since 1970; `failed` and `ended`: what had come of its
    events before that, which does not count against its limits.
    """

    before: Checkpoint | None = None
    asked_at: float = 0.0
    failed: int = 0
    ended: int = 0
    until: float = 0.0  # when the next step is due
    life: float = 0.0
    _slept: float = 0.0
    _moved: bool = False
    _what: str = ""
    _since: float = 0.0
    _pace: tuple[int, Pace] | None = field(default=None)

    async def pace(self, seconds: float) -> None:
        await self._wait(seconds)

    async def again(self, seconds: float, what: str, *, most: float = inf) -> None:
        if what != self._what:
            self._what, self._since = what, self.clock.time() - self.waited(what)
        await self._wait(min(most, self._patient(seconds, self._since)))
        self.keep_lease()

    async def look(self, seconds: float, last_sent: float) -> None:
        await self._wait(self._patient(seconds, last_sent))

    def moved(self) -> None:
        self._moved, self._what = True, ""

    def waited(self, what: str) -> float:
        if self.before is None or self.before.what != what or self._moved:
            return 0.0
        return max(0.0, self.clock.time() - self.before.since)

    def pace_of(self, stage: Stage) -> Pace:
        before = self.before
        kept = before.pace if before and before.stage == stage.number else None
        pace = Pace(stage.pacing, kept)
        self._pace = stage.number, pace
        return pace

    def left_of_batch(self, stage: Stage) -> int | None:
        before = self.before
        return before.left if before and before.stage == stage.number else None

    def checkpoint(self) -> Checkpoint:
        """Where the step has left the run."""
        stage, pace = self._pace or (0, None)
        return Checkpoint(
            stage,
            self.left,
            pace.kept if pace else None,
            self._what,
            self._since,
            self.life,
            self.held,
        )

    def _patient(self, seconds: float, since: float) -> float:
        return max(seconds, min(PATIENCE, (self.clock.time() - since) / _SHARE))

    async def _wait(self, seconds: float) -> None:
        due = self.clock.time() + seconds
        if seconds > SHORT or self._slept + seconds > MOST:
            self.stop.set()
        else:
            self._slept += seconds
            await self.clock.sleep(seconds, self.stop)
        if self.stop.is_set():  # also where the step is over for another reason
            self.until = max(self.until, due)
