"""Follows the jobs of accepted events to their end, beside the sending."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runner.execution.ports import Clock, JobsApi, Journal, Sighting
from runner.execution.progress import Tracker
from runner.model import Job, Outcome, SentEvent

AT_ONCE = 16  # requests under way; each event is asked about by itself
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0

_ENDINGS: Mapping[str, Outcome] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class _Watched:
    event: SentEvent
    since: float
    jobs: tuple[Job, ...] = ()


@dataclass(slots=True)
class Follower:
    """Sweeps over the events that have no outcome yet.

    `grace`: seconds without a sign of life from any event, after which an event that has started
    no job counts as `no_job`. (Servers take events in far faster than they start jobs, so the
    time runs from the last job that appeared, not from the send.) `timeouts`: seconds by stage,
    from the send, after which jobs that go on count as `timed_out`.
    """

    api: JobsApi
    journal: Journal
    clock: Clock
    tracker: Tracker
    stop: asyncio.Event
    grace: float
    timeouts: Mapping[int, float]
    failures: int = 0
    ended: int = 0
    _watched: dict[int, _Watched] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _added: asyncio.Event = field(default_factory=asyncio.Event)
    _last_life: float = 0.0

    def add(self, events: Iterable[SentEvent]) -> None:
        now = self.clock.monotonic()
        for event in events:
            self._watched[event.position] = _Watched(event, now)
        self._last_life = now
        self._added.set()

    async def settled(self, stage: int | None = None) -> None:
        """Return when every event (of the stage) has an outcome, or the run is to stop."""
        while not self.stop.is_set() and self._open(stage):
            self._changed.clear()
            await _either(self._changed, self.stop)

    async def run(self) -> None:
        """Sweep until cancelled; faster while things change, slower while they do not."""
        wait = _FIRST_WAIT
        while not self.stop.is_set():
            if not self._watched:
                self._added.clear()
                await self._added.wait()
                wait = _FIRST_WAIT
            moved = await self._sweep()
            self._changed.set()
            if self._watched:
                await self.clock.sleep(wait, self.stop)
            wait = _FIRST_WAIT if moved else min(_LONGEST_WAIT, wait * 1.5)
        self._changed.set()

    def open_in(self, stage: int) -> int:
        """How many events of the stage are being watched."""
        return sum(watched.event.stage == stage for watched in self._watched.values())

    def _open(self, stage: int | None) -> bool:
        if stage is None:
            return bool(self._watched)
        return any(watched.event.stage == stage for watched in self._watched.values())

    async def _sweep(self) -> bool:
        gate = asyncio.Semaphore(AT_ONCE)
        watched = list(self._watched.values())

        async def ask(one: _Watched) -> tuple[_Watched, Sequence[Job], float]:
            async with gate:
                asked = self.clock.monotonic()
                return one, await self.api.jobs(one.event.internal_id), asked

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(one)) for one in watched]
        sightings = [self._sight(*task.result()) for task in tasks]
        news = [sighting for sighting in sightings if sighting is not None]
        self.journal.record(news)
        for sighting in news:
            self._settle(sighting)
        return bool(news)

    def _sight(self, one: _Watched, jobs: Sequence[Job], asked: float) -> Sighting | None:
        """What is new about an event, or None; judged by when it was asked, not by when the sweep
        was over. A job that was seen stays seen: a server that forgot it leaves it to its timeout.
        """
        event = one.event
        changed = bool(jobs) and tuple(jobs) != one.jobs
        if changed:
            if len(jobs) > len(one.jobs):
                self._last_life = self.clock.monotonic()
            one.jobs = tuple(jobs)
        if one.jobs and all(job.ended for job in one.jobs):
            outcome, message = verdict(one.jobs)
            return Sighting(event, one.jobs, outcome, message)
        timeout = self.timeouts[event.stage]
        if one.jobs and asked - one.since >= timeout:
            message = f"its job has not ended after {timeout:g}s"
            return Sighting(event, one.jobs, "timed_out", message)
        if not one.jobs and asked - max(self._last_life, one.since) >= self.grace:
            message = f"no function listens to `{event.name}`: no job started"
            return Sighting(event, (), "no_job", message)
        return Sighting(event, one.jobs) if changed else None

    def _settle(self, sighting: Sighting) -> None:
        if sighting.outcome is None:
            return
        stage = sighting.event.stage
        del self._watched[sighting.event.position]
        self.ended += 1
        failed = sighting.outcome != "completed"
        self.failures += failed
        self.tracker.settled(stage, failed=failed)


async def _either(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def verdict(jobs: Sequence[Job]) -> tuple[Outcome, str | None]:
    """The outcome of an event whose jobs have all ended: the worst of them."""
    for job in jobs:
        outcome = _ENDINGS.get(job.status.lower(), "failed")
        if outcome != "completed":
            message = job.message or f"the job ended as {job.status}"
            return outcome, message
    return "completed", None
