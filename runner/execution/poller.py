"""Poll the jobs of many events with few requests: lists first, then single events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from ulid import ULID

from runner.execution.listeners import Listeners
from runner.execution.ports import Clock, JobsApi, ListsTooLong
from runner.model import Job, SentEvent, frozen

AT_ONCE = 16  # concurrent requests; this few events are polled one by one
_OVERLAP = 5.0  # seconds, since clocks differ a little
_PAGE = 100  # jobs in one page of a list
_STALE = 30.0  # seconds after which an event is polled by itself, whatever lists say
_SHARE = 200  # one in so many open events is polled by itself in a sweep, at most


@dataclass(slots=True)
class OpenEvent:
    """An event without an outcome. `polled_at`: when it was last polled by itself; `began`: when
    its first job was found; `idle_at`: when one of its jobs was last seen queued."""

    event: SentEvent
    since: float
    jobs: tuple[Job, ...] = ()
    polled_at: float = 0.0
    began: float | None = None
    idle_at: float = inf
    started: dict[str, float] | None = None  # when each of its jobs started, if known


@frozen
class Polled:
    """The result of polling an event at a time of the monotonic clock: all of its jobs, including
    earlier ones.

    `alone`: the event was polled by itself, and lists were read if the server has them; only then
    is it certain that it has started no job.
    """

    open_event: OpenEvent
    jobs: tuple[Job, ...]
    at: float
    alone: bool


Doubtful = Callable[[OpenEvent, Sequence[Job], float], bool]


@dataclass(slots=True)
class Poller:
    """Polls with lists or event by event.

    Lists are read from the oldest open event on. If that takes more requests than polling each open
    event, or if the server has no lists (they are a beta), events are polled one by one. Before an
    event is given up, lists are read to their end, whatever that costs, so that cost never changes
    an outcome.

    `still_open`: the current number of open events, since others are sent during a sweep.
    """

    api: JobsApi
    clock: Clock
    listeners: Listeners
    still_open: Callable[[], int]
    lists: bool = True
    complete: bool = False  # the lists were read to their end the last time
    _pages: int = 0  # pages of the lists when last read
    _read_at: float = -inf
    _took: float = 0.0  # seconds to read them

    async def poll(
        self, watched: Collection[OpenEvent], doubtful: Doubtful
    ) -> tuple[list[Polled], bool]:
        """Sweep once; return the results, and whether doubtful events are left for the next sweep.

        `doubtful`: whether an event's outcome depends on polling it alone.
        """
        sweep = _Sweep(watched, self.clock.monotonic())
        doubts = any(doubtful(one, one.jobs, sweep.at) for one in watched)
        if doubts and self.complete and sweep.at - self._read_at < self._took:
            return await self._doubts(sweep, doubtful)  # the last sweep left some
        # Polling another event of a batch does not show how the batch's job goes on.
        batched = any(job.batch and not job.ended for one in watched for job in one.jobs)
        if self.lists and (doubts or batched or len(watched) > max(AT_ONCE, self._pages)):
            try:
                self.lists = await self._read_lists(sweep, inf if doubts or batched else None)
            except ListsTooLong:
                self._pages = len(watched)  # do not try again before there are more events
            else:
                if self.lists:
                    return await self._doubts(sweep, doubtful)
        self.complete = False
        await self._ask(sweep, watched)
        if not self.lists:
            return sweep.polled(), False
        # Events that these answers make doubtful need a sweep that reads the lists too.
        now = self.clock.monotonic()
        doubts = any(doubtful(one, sweep.jobs_of(one), now) for one in watched)
        return [replace(one, alone=False) for one in sweep.polled()], doubts

    async def _doubts(self, sweep: _Sweep, doubtful: Doubtful) -> tuple[list[Polled], bool]:
        """Poll events about which nothing is certain, the least recently polled first.

        Then poll some whose jobs still run according to the lists: a list may show an ended job as
        running for ever, since servers build lists from traces, which may arrive out of order.
        """
        now = self.clock.monotonic()
        doubts, going_on = list[OpenEvent](), list[OpenEvent]()
        for one in sweep.watched:
            jobs, stale = sweep.jobs_of(one), now - max(one.since, one.polled_at) >= _STALE
            if doubtful(one, jobs, now) or (stale and not sweep.tells_of(one)):
                doubts.append(one)
            elif stale and not all(job.ended for job in jobs):
                going_on.append(one)
        share = max(AT_ONCE, len(sweep.watched) // _SHARE)
        for some in (doubts, going_on):
            some.sort(key=lambda one: one.polled_at)
        await self._ask(sweep, [*doubts, *going_on][:share])
        return sweep.polled(), len(doubts) > share

    async def _read_lists(self, sweep: _Sweep, most: float | None) -> bool:
        oldest = min(one.event.internal_id for one in sweep.watched)
        since, began = ULID.from_str(oldest).timestamp - _OVERLAP, self.clock.monotonic()
        of = self.listeners.among(one.event.name for one in sweep.watched)
        listed = await self.api.listed(since, of, self.still_open if most is None else lambda: most)
        if listed is None:
            return False
        self._pages = len(listed) // _PAGE
        for id_, job in listed:
            await self._add(sweep, id_, job)
        self.complete, self._read_at = True, self.clock.monotonic()
        self._took = self._read_at - began
        return True

    async def _ask(self, sweep: _Sweep, some: Iterable[OpenEvent]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(one: OpenEvent) -> tuple[OpenEvent, float, Sequence[Job]]:
            async with gate:
                one.polled_at = at = self.clock.monotonic()
                return one, at, await self.api.jobs(one.event.internal_id)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(one)) for one in some]
        for one, at, jobs in [task.result() for task in tasks]:
            sweep.alone[one.event.position] = at
            for job in jobs:
                await self._add(sweep, one.event.internal_id, job, alone=True)

    async def _add(self, sweep: _Sweep, id_: str, job: Job, *, alone: bool = False) -> None:
        """Add a job to the event that it names, and to all others of its batch."""
        members: Sequence[str] = (id_,)
        if job.batch:
            members = await self.api.batch(job.id)
            if not members:
                self.listeners.untold.add(job.function)
        for member in {id_, *members}:
            sweep.add(member, job, alone=alone)


@dataclass(slots=True)
class _Sweep:
    """The results of a sweep so far, by open event."""

    watched: Collection[OpenEvent]
    at: float
    alone: dict[int, float] = field(default_factory=dict)  # when they were polled, by position
    _by_id: dict[str, OpenEvent] = field(init=False)
    _jobs: dict[int, dict[str, Job]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_id = {one.event.internal_id: one for one in self.watched}

    def add(self, id_: str, job: Job, *, alone: bool) -> None:
        """Add a job; one that has ended stays ended. An answer about one event names the function
        by another id than lists and configurations do: theirs is kept."""
        one = self._by_id.get(id_)
        if one is None:
            return
        jobs = self._jobs.setdefault(one.event.position, {known.id: known for known in one.jobs})
        known = jobs.get(job.id)
        if known is None:
            jobs[job.id] = job
        elif job.ended or not known.ended:
            function = known.function if alone else job.function
            jobs[job.id] = replace(job, function=function, original=job.original or known.original)

    def tells_of(self, one: OpenEvent) -> bool:
        return one.event.position in self._jobs

    def jobs_of(self, one: OpenEvent) -> Sequence[Job]:
        found = self._jobs.get(one.event.position)
        return one.jobs if found is None else tuple(found.values())

    def polled(self) -> list[Polled]:
        found = []
        for one in self.watched:
            alone = self.alone.get(one.event.position)
            if alone is not None or self.tells_of(one):
                jobs, at = tuple(self.jobs_of(one)), self.at if alone is None else alone
                found.append(Polled(one, jobs, at, alone is not None))
        return found
