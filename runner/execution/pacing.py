"""Decide when the next request goes out: the pace of a stage, and the waits of a run.

A run in a process of its own sleeps. One that is driven in steps sleeps only through short waits; a
longer wait ends the step, and the next step begins when the wait is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import TYPE_CHECKING

from runner.execution.ports import Clock, Control, Journal
from runner.model import Pacing, Stage, frozen
from runner.spec.units import format_delay

if TYPE_CHECKING:
    import asyncio

LONGEST_DELAY = 60.0  # seconds; a plan's own delay may be longer
_FIRST_DELAY = 1.0


class Pace:
    """Additive increase, multiplicative decrease (TCP's rule, RFC 5681): trouble halves the batch
    and doubles the delay; every batch without trouble takes a tenth of that back."""

    def __init__(self, pacing: Pacing, kept: tuple[int, float, int, float] | None = None) -> None:
        """`kept`: the pace to continue from, see the property."""
        self._planned = self._normal = pacing
        self.size, self.delay, self.jitter = pacing.batch_size, pacing.delay, pacing.jitter
        if kept:
            self._normal = replace(pacing, batch_size=kept[0], delay=kept[1])
            self.size, self.delay = kept[2], kept[3]

    @property
    def kept(self) -> tuple[int, float, int, float]:
        """The pace without trouble, as the plan or an operator sets it, and the current one."""
        return (self._normal.batch_size, self._normal.delay, self.size, self.delay)

    @property
    def as_planned(self) -> bool:
        return (self.size, self.delay) == (self._planned.batch_size, self._planned.delay)

    @property
    def slowed(self) -> bool:
        """Whether trouble has made it slower than the plan or an operator sets it."""
        return (self.size, self.delay) != (self._normal.batch_size, self._normal.delay)

    def tune(self, control: Control) -> str | None:
        """Apply what an operator has set; return a message if it changed anything."""
        wanted = self._planned.tuned(control.batch_size, control.delay)
        self.jitter = wanted.jitter
        if (wanted.batch_size, wanted.delay) == (self._normal.batch_size, self._normal.delay):
            return None
        self._normal = wanted
        self.size, self.delay = wanted.batch_size, wanted.delay
        return f"{self}: tuned by an operator"

    def slow_down(self, reason: str) -> str:
        longest = max(LONGEST_DELAY, self._normal.delay)
        self.size = max(1, self.size // 2)
        self.delay = min(longest, max(self.delay * 2, _FIRST_DELAY))
        return f"slower now, {self}: {reason}"

    def speed_up(self) -> str | None:
        """Speed up after a batch without trouble; None if the pace is normal."""
        if not self.slowed:
            return None
        normal = self._normal
        self.size = min(normal.batch_size, self.size + max(1, normal.batch_size // 10))
        step = max(_FIRST_DELAY, (self.delay - normal.delay) / 10)
        self.delay = max(normal.delay, self.delay - step)
        return f"faster again, {self}: a batch went through without errors"

    def __str__(self) -> str:
        return f"batches of {self.size:,}, {self.pause} apart"

    @property
    def pause(self) -> str:
        """The pause between batches, for people."""
        return format_delay(round(self.delay, 1), self.jitter)


_LATE = 60.0  # seconds; less is how an engine comes
_SHORT, _MOST = 3.0, 5.0  # seconds that a step may sleep: in one wait, in all of them
PATIENCE = 60.0  # the longest interval, in seconds, between two looks at what does not change
_SHARE = 4  # ... which grows with the time waited so far: a quarter of it
_LONGEST_WAIT = 15.0  # seconds: no single sleep may outlast a lease


@frozen
class Checkpoint:
    """Where a run stands while no process drives it. Times are in seconds since 1970.

    `stage`, `pace`: the pace of the stage, see `Pace.kept`; `left`: events left of the current
    batch. `what`, `since`: what is being polled, and since when. `life`: the latest sign of life
    from the jobs. `held`: why the run is held. `paced`: until when the pace was waited for.
    `missed`: seconds in which no worker came though one was due, until `came_at`.
    """

    stage: int = 0
    left: int = 0
    pace: tuple[int, float, int, float] | None = None
    what: str = ""
    since: float = 0.0
    life: float = 0.0
    held: str = ""
    paced: float = 0.0
    missed: float = 0.0
    came_at: float = 0.0

    def after(self, missed: float, now: float) -> Checkpoint:
        """Return where a step begins that comes so many seconds late: these do not count as
        waited, since nobody has looked, or the clock was put forward."""
        found = replace(self, since=self.since + missed)
        if missed <= _LATE:
            return found
        return replace(found, life=self.life + missed).missing(missed, now)

    def missing(self, seconds: float, now: float) -> Checkpoint:
        return replace(self, missed=self.missed + seconds, came_at=now)

    def counts_from(self, at: float) -> float:
        """Return from when to count the time since something that was at `at`: some of what was
        missed may have been before that."""
        return max(at, min(at + self.missed, self.came_at))


@dataclass(slots=True)
class Waits:
    """The waits of a run in a process of its own."""

    clock: Clock
    stop: asyncio.Event
    keep_lease: Callable[[], None]
    held: str = ""  # see `Checkpoint`
    left: int = 0

    async def pace(self, seconds: float) -> None:
        """Wait for a part of the remaining delay: control requests may come meanwhile."""
        await self.clock.sleep(min(seconds, _LONGEST_WAIT), self.stop)

    @property
    def rested(self) -> bool:
        """Whether the delay was over before this process began."""
        return False

    def moved(self) -> None:
        """Note that a batch was sent: what was polled before is settled."""

    async def again(self, seconds: float, what: str, *, most: float = inf) -> None:  # noqa: ARG002
        """Wait until `what` is to be polled again, for at most `most` seconds."""
        while seconds > 0 and not self.stop.is_set():
            await self.clock.sleep(min(seconds, _LONGEST_WAIT), self.stop)
            self.keep_lease()
            seconds -= _LONGEST_WAIT

    async def look(self, seconds: float, last_sent: float) -> None:  # noqa: ARG002
        """Wait for the next look at jobs, if nothing but their end is waited for."""
        await self.clock.sleep(seconds, self.stop)

    def waited(self, what: str) -> float:  # noqa: ARG002
        """Return how many seconds `what` was polled before this process began."""
        return 0.0

    def pace_of(self, stage: Stage) -> Pace:
        return Pace(stage.pacing)

    def left_of_batch(self, stage: Stage) -> int | None:  # noqa: ARG002
        """Return how many events are left of a batch begun before this process; None if unknown."""
        return None


@dataclass(slots=True)
class Step(Waits):
    """The waits of a run that is driven in steps; `before` is where the last one ended.

    `submitted_at`: when the run was submitted, since 1970; `failed` and `ended`: counts of events
    before that, which do not count against its limits. `last_look`: the seconds allowed for a last
    look at jobs when the step is over; None: no limit.
    """

    before: Checkpoint | None = None
    submitted_at: float = 0.0
    failed: int = 0
    ended: int = 0
    last_look: float | None = None
    until: float = 0.0  # when the next step is due
    life: float = 0.0
    _slept: float = 0.0
    _moved: bool = False
    _what: str = ""
    _since: float = 0.0
    _paced: float = 0.0
    _pace: tuple[int, Pace] | None = field(default=None)
    _ahead_at_first: float = field(init=False)

    def __post_init__(self) -> None:
        self._ahead_at_first = self._ahead()

    async def pace(self, seconds: float) -> None:
        self._paced = self.clock.time() + seconds
        await self._wait(seconds)

    @property
    def rested(self) -> bool:
        return self.before is not None and 0.0 < self.before.paced <= self.clock.time()

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
        """Return where this step leaves the run."""
        (stage, pace), before = self._pace or (0, None), self.before or Checkpoint()
        found = Checkpoint(
            stage,
            self.left,
            pace.kept if pace else None,
            self._what,
            self._since,
            self.life,
            self.held,
            self._paced,
            before.missed,
            before.came_at,
        )
        now, put_forward = self.clock.time(), self._ahead() - self._ahead_at_first
        return found.missing(put_forward, now) if put_forward > _LATE else found

    def _ahead(self) -> float:
        """Return by how much the time is ahead of the monotonic clock."""
        return self.clock.time() - self.clock.monotonic()

    def _patient(self, seconds: float, since: float) -> float:
        return max(seconds, min(PATIENCE, (self.clock.time() - since) / _SHARE))

    async def _wait(self, seconds: float) -> None:
        due = self.clock.time() + seconds
        if seconds > _SHORT or self._slept + seconds > _MOST:
            self.stop.set()
        else:
            self._slept += seconds
            await self.clock.sleep(seconds, self.stop)
        if self.stop.is_set():  # also if the step is over for another reason
            self.until = max(self.until, due)


_BEHIND = 1.0  # seconds that a scheduled stage may be late before its times are moved


@dataclass(slots=True)
class Pacer:
    """Keeps the `delay` between batches of a stage, counted from the answer to the last one,
    whatever lies between: a round, a canary, a worker's step, another process. What the run waits
    for meanwhile (jobs, guards, a pause) is not added to it."""

    clock: Clock
    journal: Journal
    waits: Waits
    _paces: dict[int, Pace] = field(default_factory=dict)  # by stage
    _sent: dict[int, float] = field(default_factory=dict)  # when each stage last sent
    _jitter: dict[int, float] = field(default_factory=dict)  # the jitter of the pause after that
    _base: float = field(init=False)  # the time from which scheduled events count

    def __post_init__(self) -> None:
        latest = self.journal.latest()
        self._base = latest.base if latest else self.journal.started_at
        if latest:
            ago = self.clock.time() - latest.sent_at
            # If the clock was put back, each step would wait for the whole delay again.
            if ago >= 0 or not self.waits.rested:
                self._sent[latest.stage] = self.clock.monotonic() - max(0.0, ago)

    def of(self, stage: Stage) -> Pace:
        """Return the pace of a stage, which continues from round to round."""
        if stage.number not in self._paces:
            self._paces[stage.number] = self.waits.pace_of(stage)
        return self._paces[stage.number]

    def sent(self, stage: int) -> None:
        """Note that the server has answered a request of the stage."""
        self._sent[stage] = self.clock.monotonic()
        self._jitter.pop(stage, None)

    def owed(self, stage: Stage) -> float:
        """Return the seconds until the next batch may go out."""
        if stage.begins is not None or stage.number not in self._sent:
            return 0.0
        delay = self.of(stage).delay + self._jitter_of(stage)
        return max(0.0, self._sent[stage.number] + delay - self.clock.monotonic())

    def _jitter_of(self, stage: Stage) -> float:
        """Return the jitter of the current pause: the same wherever the run resumes."""
        if not self.of(stage).jitter:
            return 0.0
        if stage.number not in self._jitter:
            position = self.journal.next_position()
            self._jitter[stage.number] = self.chosen(self.journal.run_id, stage, position)
        return self._jitter[stage.number]

    @staticmethod
    def chosen(run_id: str, stage: Stage, position: int) -> float:
        """Choose the jitter of the pause before the event at `position`."""
        seed = f"{run_id}:{stage.number}:{position}"
        return Random(seed).uniform(0.0, stage.pacing.jitter)  # noqa: S311 - no secret

    def left_of_batch(self, stage: Stage, index: int, *, fresh: bool) -> int:
        """Return how many events are left of a batch begun earlier: these are not paced again.

        `fresh`: a round of the stage begins with the `index`-th event.
        """
        left = self.waits.left_of_batch(stage)
        if left is None:
            begun = not fresh and not stage.begins_batch(index)
            left = stage.left_of_batch(index) if begun else 0
        return min(left, stage.total - index)

    def base(self, stage: Stage, index: int) -> float:
        """Return the time from which a scheduled stage counts, from its `index`-th event on: the
        run's start, or later if it is late, so that the rest keeps its intervals."""
        at = stage.at(stage.batch_of(index))
        if at is not None and (behind := self.clock.time() - self._base - at) > _BEHIND:
            self._base += behind
        return self._base
