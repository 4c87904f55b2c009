"""Looks at the jobs of many events with few requests: lists first, single events for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ulid import ULID

from runner.execution.ports import Clock, JobsApi, ListsTooLong
from runner.model import Job, SentEvent

AT_ONCE = 16  # requests under way; so few events are simply asked about one by one
_OVERLAP = 5.0  # seconds: clocks are a little apart
_PAGE = 100  # jobs that a request of a list gives
_STALE = 30.0  # seconds after which an event that no list has told of is asked about by itself
_SHARE = 200  # of so many open events one is asked about by itself in a sweep, at most


@dataclass(slots=True)
class Watched:
    """An event without an outcome; `asked` is when it was last asked about by itself."""

    event: SentEvent
    since: float
    jobs: tuple[Job, ...] = ()
    asked: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of an event, at a moment of the monotonic clock.

    `alone`: the event was asked about by itself; only that says that it has started no job.
    """

    watched: Watched
    jobs: tuple[Job, ...]
    at: float
    alone: bool


@dataclass(slots=True)
class Looker:
    """Lists are read from where the oldest open event began; where that takes more requests than
    asking about each open event by itself, or the server has no lists (they are a beta), each is.

    `still_open`: how many events are, by now. While a sweep goes on, others are sent.
    """

    api: JobsApi
    clock: Clock
    still_open: Callable[[], int]
    lists: bool = True
    _pages: int = 0  # that the lists took last

    async def look(
        self, watched: Collection[Watched], doubtful: Callable[[Watched, float], bool]
    ) -> tuple[list[Look], bool]:
        """One sweep, and whether events in doubt are left for the next one.

        `doubtful`: what to make of an event hangs on an answer about it alone.
        """
        now = self.clock.monotonic()
        many = len(watched) > max(AT_ONCE, self._pages)
        # An answer about one event of a batch may not know of the job that the batch has started.
        if self.lists and (many or any(not one.jobs and doubtful(one, now) for one in watched)):
            try:
                found = await self._listed(watched)
            except ListsTooLong:
                self._pages = len(watched)  # not tried again before there are more events than that
            else:
                if found is not None:
                    return await self._with_doubts(watched, found, doubtful)
                self.lists = False
        return await self._alone(watched), False

    async def _with_doubts(
        self,
        watched: Collection[Watched],
        found: list[Look],
        doubtful: Callable[[Watched, float], bool],
    ) -> tuple[list[Look], bool]:
        now, seen = self.clock.monotonic(), {look.watched.event.position for look in found}
        doubts = [
            one
            for one in watched
            if one.event.position not in seen
            and (doubtful(one, now) or now - max(one.since, one.asked) >= _STALE)
        ]
        doubts.sort(key=lambda one: one.asked)
        share = max(AT_ONCE, len(watched) // _SHARE)
        return found + await self._alone(doubts[:share]), len(doubts) > share

    async def _listed(self, watched: Collection[Watched]) -> list[Look] | None:
        at = self.clock.monotonic()
        oldest = min(one.event.internal_id for one in watched)
        since = ULID.from_str(oldest).timestamp - _OVERLAP
        listed = await self.api.listed(since, self.still_open)
        if listed is None:
            return None
        self._pages = len(listed) // _PAGE
        by_id = {one.event.internal_id: one for one in watched}
        news: dict[str, dict[str, Job]] = {}
        for id_, job in listed:
            if id_ in by_id:
                known = news.setdefault(id_, {job.id: job for job in by_id[id_].jobs})
                if job.id not in known or not known[job.id].ended:
                    known[job.id] = job
        return [Look(by_id[id_], tuple(jobs.values()), at, False) for id_, jobs in news.items()]

    async def _alone(self, watched: Collection[Watched]) -> list[Look]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(one: Watched) -> Look:
            async with gate:
                one.asked = self.clock.monotonic()
                jobs: Sequence[Job] = await self.api.jobs(one.event.internal_id)
                return Look(one, tuple(jobs), one.asked, True)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(one)) for one in watched]
        return [task.result() for task in tasks]
