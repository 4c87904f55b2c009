"""Follow the jobs of accepted events to their end, while others are sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from runner.execution.listeners import Listeners
from runner.execution.pacing import Step, Waits
from runner.execution.poller import OpenEvent, Polled, Poller
from runner.execution.ports import Clock, JobsApi, Journal, Observation
from runner.execution.progress import Tracker
from runner.model import Job, Outcome, SentEvent
from runner.spec.units import format_duration

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_SOONEST, _PARTS = 0.03, 16
_AT_ONCE = 5_000  # observations per write: more take more memory and no less time

_AT_SAME_TIME = 2.0  # seconds in which all functions of an event start, but for their rest


class Timeouts(NamedTuple):
    start: float
    end: float


@dataclass(slots=True)
class Follower:
    """Polls the events that have no outcome yet.

    `grace`: an event without a job counts as `no_job` after so many seconds without a sign of life
    from any event. (Servers take events far faster than they start jobs, so the time runs from the
    last job that appeared, not from the send.) If the server lists its functions, the time they may
    hold an event is added, and each of them is waited for. `timeouts`: seconds by stage after which
    running jobs count as `timed_out`: from the send plus that holding time until a job has started,
    and from its start to its end.
    """

    api: JobsApi
    journal: Journal
    clock: Clock
    waits: Waits
    tracker: Tracker
    stop: asyncio.Event
    grace: float
    timeouts: Mapping[int, Timeouts]
    failures: int = 0
    ended: int = 0
    _watched: dict[int, OpenEvent] = field(default_factory=dict)
    _listeners: Listeners = field(default_factory=Listeners)
    _poller: Poller = field(init=False)
    _out: Counter[int] = field(default_factory=Counter)  # number of watched events by stage
    _known_at: float | None = None  # when the server was last asked for its functions
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _added: asyncio.Event = field(default_factory=asyncio.Event)
    _last_life: float = 0.0
    _last_sent: float = 0.0
    _awaited: int | None = None  # the stage whose end the run waits for; 0: all stages
    _room: bool = False  # ... or the end of any of its jobs
    _polled: bool = False  # since the latest event was added
    _polling: asyncio.Lock = field(default_factory=asyncio.Lock)
    _may_give_up: bool = True
    _heard: set[str] = field(default_factory=set)  # names of events that have started jobs

    def __post_init__(self) -> None:
        self._poller = Poller(self.api, self.clock, self._listeners, self._watched.__len__)

    def add(self, events: Iterable[SentEvent]) -> None:
        now = self.clock.monotonic()
        for event in events:
            self._out[event.stage] += event.position not in self._watched
            self._watched[event.position] = OpenEvent(event, now)
        self._last_life, self._last_sent, self._polled = now, self.clock.time(), False
        self._added.set()

    def restore(self, events: Iterable[SentEvent], step: Step | None) -> None:
        """Watch the open events of a resumed run.

        Timeouts start anew, except in the next step of a run: it knows the jobs of the last one.
        Nothing is given up before the first look.
        """
        self.add(events)
        if step is None or step.before is None or not self._watched:
            return
        before = step.before
        known, wall = self.journal.going_on(), self.clock.time()
        ahead = self.clock.monotonic() - wall
        self._last_sent = step.submitted_at
        for one in self._watched.values():
            sent = before.counts_from(max(one.event.sent_at, step.submitted_at))
            one.since, one.jobs = sent + ahead, known.get(one.event.position, ())
            one.began = one.since if one.jobs else None
            for job in one.jobs:
                began = one.since
                if job.since:
                    began = before.counts_from(max(job.since, step.submitted_at)) + ahead
                if job.queued:
                    one.idle_at = began
                else:
                    one.started = (one.started or {}) | {job.id: began}
            self._last_sent = max(self._last_sent, sent)
        self._last_life = max(before.life, self._last_sent) + ahead
        self._may_give_up = False

    async def settled(self, stage: int | None = None) -> None:
        """Return when every event (of the stage) has an outcome, or the run is to stop."""
        while not self.stop.is_set() and self._open(stage):
            await self.looked(stage)

    def out(self, stage: int) -> int:
        """Return how many events of the stage have no outcome."""
        return self._out[stage]

    async def looked(self, stage: int | None, *, room: bool = False) -> None:
        """Return after the next look, or when the run is to stop; for a caller that waits for
        nothing else. `room`: the end of any job lets another event be sent."""
        self._awaited, self._room = stage or 0, room
        self._changed.clear()
        await _either(self._changed, self.stop)
        self._awaited, self._room = None, False

    async def poll_once(self) -> None:
        """Poll once, unless nothing was added since the last poll."""
        async with self._polling:
            if not self._watched or self._polled:
                return
        await self._sweep()

    @property
    def last_life(self) -> float:
        """The latest sign of life, in seconds since 1970."""
        return self._last_life + self.clock.time() - self.clock.monotonic()

    async def run(self) -> None:
        """Sweep until cancelled: faster while things change, slower while they do not."""
        wait = _FIRST_WAIT
        while not self.stop.is_set():
            if not self._watched:
                self._added.clear()
                await self._added.wait()
                wait = _FIRST_WAIT
            began = self.clock.monotonic()
            moved, more = await self._sweep()
            self._changed.set()
            if self._watched and not more:
                # Poll a slow server less often.
                wait = max(wait, min(_LONGEST_WAIT, self.clock.monotonic() - began))
                await self._rest(min(wait, self._soon()))
            wait = _FIRST_WAIT if moved else min(_LONGEST_WAIT, wait * 1.5)

    def _soon(self) -> float:
        """The longest wait until the next sweep. If the run waits for room, workers are idle until
        then, so the wait is a small part of the oldest event's age."""
        if not self._room:
            return _LONGEST_WAIT
        oldest = next(iter(self._watched.values()))
        return max(_SOONEST, (self.clock.monotonic() - oldest.since) / _PARTS)

    async def _rest(self, seconds: float) -> None:
        """Wait; if the run waits for nothing else, in the way of its `waits`."""
        if self._awaited is not None and self._open(self._awaited or None):
            await self.waits.look(seconds, self._last_sent)
        else:
            await self.clock.sleep(seconds, self.stop)

    def _open(self, stage: int | None) -> bool:
        return bool(self._watched if stage is None else self._out[stage])

    async def _sweep(self) -> tuple[bool, bool]:
        """Poll once; return whether anything changed, and whether to poll again at once."""
        async with self._polling:
            self._polled, first = True, not self._may_give_up
            await self._know()
            polled, more = await self._poller.poll(list(self._watched.values()), self._in_doubt)
            news = [
                observation for observation in map(self._observe, polled) if observation is not None
            ]
            for start in range(0, len(news), _AT_ONCE):
                some = news[start : start + _AT_ONCE]
                self.journal.record(some)
                self._settle([observation for observation in some if observation.outcome])
            self._may_give_up = True
            now = self.clock.monotonic()
            self._say_longest(now)
            more |= first and any(
                self._in_doubt(one, one.jobs, now) for one in self._watched.values()
            )
            return bool(news), more

    def _say_longest(self, now: float) -> None:
        """Report the oldest event of the stage that is waited for, so that a hang has a name."""
        for one in self._watched.values():
            if one.event.stage == self._awaited:
                ago, left = self._times(one, one.jobs, now)
                queued = not one.jobs or any(job.queued for job in one.jobs)
                self.tracker.longest(self._awaited, one.event.item, ago, left, queued=queued)
                return

    def _times(self, one: OpenEvent, jobs: Sequence[Job], now: float) -> tuple[float, float]:
        """Return how long the event's jobs have run, or waited to start, and the seconds until they
        time out."""
        limits, found = self.timeouts[one.event.stage], list[tuple[float, float]]()
        idle = now - one.since - one.event.later
        for job in jobs:
            if job.ended:
                continue
            if job.queued:
                rest = self._listeners.rest(one.event.name)
                found.append((idle, limits.start + rest - idle))
            else:
                ago = now - _start(one, job, now)
                found.append((ago, limits.end - ago))
        return min(found, key=itemgetter(1), default=(idle, limits.start - idle))

    async def _know(self) -> None:
        """Read the server's functions, again before anything is given up: they may have been
        deployed meanwhile."""
        now = self.clock.monotonic()
        if self._known_at is not None and (
            now - self._known_at < self.grace
            or not any(self._in_doubt(one, one.jobs, now) for one in self._watched.values())
        ):
            return
        self._listeners.know(await self.api.functions())
        self._known_at = now

    def _in_doubt(self, one: OpenEvent, jobs: Sequence[Job], now: float) -> bool:
        """Whether the event would be given up if these were all its jobs."""
        if not jobs:
            return self._waited(one, now)
        if not all(job.ended for job in jobs):
            return self._times(one, jobs, now)[1] <= 0
        missing = self._listeners.missing(one.event.name, jobs)
        if not missing or self._listeners.routed(one.event.name, missing):
            return False
        if self._listeners.at_once(one.event.name, missing):
            return self._would_have_started(one, now)
        return self._waited(one, now)

    def _waited(self, one: OpenEvent, now: float) -> bool:
        waited = now - max(self._last_life, one.since)
        return self._may_give_up and waited >= self.grace + self._listeners.rest(one.event.name)

    def _would_have_started(self, one: OpenEvent, now: float) -> bool:
        return one.began is not None and now - one.began >= _AT_SAME_TIME

    def _observe(self, polled: Polled) -> Observation | None:
        """Return what is new about an event, or None, judged by the time it was polled.

        A job that was once seen is kept: if the server forgets it, its timeout decides.
        """
        one, jobs, event = polled.open_event, polled.jobs, polled.open_event.event
        changed = _essence(jobs) != _essence(one.jobs)
        if len(jobs) > len(one.jobs):
            self._last_life = now = self.clock.monotonic()
            one.began = now if one.began is None else one.began
            self._heard.add(event.name)
        one.jobs = jobs
        for job in jobs:
            if job.queued:
                one.idle_at = polled.at
            elif not job.ended and job.id not in (one.started or ()):
                one.started = (one.started or {}) | {job.id: _start(one, job, polled.at)}
        ended = bool(jobs) and all(job.ended for job in jobs)
        if ended:
            missing = self._listeners.missing(event.name, jobs)
            routed = self._listeners.routed(event.name, missing)
            if not missing or (routed and self._would_have_started(one, polled.at)):
                return self._end(one)
        if polled.alone and self._in_doubt(one, jobs, polled.at):
            if jobs and not ended:
                message = self._too_long(one, polled.at)
                return Observation(event, jobs, "timed_out", message)
            return self._end(one)
        return Observation(event, jobs) if changed else None

    def _too_long(self, one: OpenEvent, now: float) -> str:
        limits = self.timeouts[one.event.stage]
        late = [job for job in one.jobs if not job.ended and not job.queued]
        if late and self._times(one, late, now)[1] <= 0:
            return f"its job has not ended after {limits.end:g}s"
        return f"its job has not started after {format_duration(limits.start)}"

    def _end(self, one: OpenEvent) -> Observation:
        end = self._listeners.ending(
            one.event.name,
            one.jobs,
            self.grace + self._listeners.rest(one.event.name),
            complete=self._poller.complete,
            heard=one.event.name in self._heard,
        )
        return Observation(one.event, one.jobs, end.outcome, end.message)

    def _settle(self, ended: Sequence[Observation]) -> None:
        counts: dict[int, Counter[Outcome]] = {}
        for observation in ended:
            del self._watched[observation.event.position]
            self._out[observation.event.stage] -= 1
            if observation.outcome:
                counts.setdefault(observation.event.stage, Counter())[observation.outcome] += 1
        for stage, outcomes in counts.items():
            self.ended += outcomes.total()
            self.failures += outcomes.total() - outcomes["completed"]
            self.tracker.settled(stage, outcomes)


def _start(one: OpenEvent, job: Job, at: float) -> float:
    """Return when a job that is no longer queued started.

    The open-source server reports when a job was queued instead. So the server's time counts only
    if it is later than the last look at which the job was queued; otherwise the first look that
    shows it running counts.
    """
    known = (one.started or {}).get(job.id)
    if known is not None:
        return known
    told = at if job.ran is None else at - job.ran
    return told if told >= one.idle_at else at


async def _either(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _essence(jobs: Iterable[Job]) -> set[tuple[str, str, bool]]:
    """Reduce jobs to what matters: lists and answers about one event differ in wording."""
    return {(job.id, job.status.lower(), job.ended) for job in jobs}
