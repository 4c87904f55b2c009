"""End the running jobs of a cancelled run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from runner.execution.context import CANCELLED
from runner.execution.listeners import verdict
from runner.execution.poller import AT_ONCE
from runner.execution.ports import CancelApi, JobsApi, Journal, Observation
from runner.execution.recover import watched
from runner.model import ENDED, ExecutionPlan, Job, SentEvent, frozen

_T = TypeVar("_T")
_R = TypeVar("_R")


@frozen
class Cancelled:
    """The result: jobs that were ended, jobs that had run anyway, jobs that still run although the
    server was asked to cancel them (and its answers), and events without a job."""

    jobs: int
    had_ended: int
    going_on: int
    refusals: tuple[str, ...]
    without_job: int


async def cancel_jobs(
    plan: ExecutionPlan, journal: Journal, jobs: JobsApi, cancel: CancelApi, now: float
) -> Cancelled:
    """End the jobs one by one: the hosted service's bulk call cannot be limited to one run's jobs.

    A job that has not started within its `queue_timeout` is not waited for.
    """
    due = {stage.number: now - stage.queue_timeout for stage in plan.stages}
    found = _Jobs(list(watched(plan, journal)), jobs)
    for position, known in journal.going_on().items():
        found.add(position, known)
    await found.look(found.events)
    running = [job for job in found.by_id.values() if not job.ended]
    refusals = await found.each(running, lambda job: cancel.cancel(job.id))
    refused: dict[str, str] = {}
    for job, refusal in zip(running, refusals, strict=True):
        if refusal is None:
            found.by_id[job.id] = _as_cancelled(job)
        else:
            refused[job.id] = refusal
    # They had ended meanwhile, or the server did not find a job that it listed.
    await found.look([one for one in found.events if not refused.keys().isdisjoint(found.ids(one))])
    going_on = [job_id for job_id in refused if not _has_ended(found.by_id[job_id])]

    def observe(event: SentEvent) -> Observation:
        after = tuple(found.by_id[job_id] for job_id in found.ids(event))
        if after and all(job.ended for job in after):
            outcome, message = verdict(after)
            return Observation(event, after, outcome, message)
        if not after and event.sent_at + event.later < due[event.stage]:
            return Observation(event, after, "no_job", "no job has started for it in time")
        return Observation(event, after)

    observed = [observe(event) for event in found.events]
    journal.record(observed)
    cancelled = len(running) - len(refused)
    return Cancelled(
        cancelled,
        len(found.by_id) - cancelled - len(going_on),
        len(going_on),
        tuple(sorted({refused[job_id] for job_id in going_on})),
        sum(not (observation.jobs or observation.outcome) for observation in observed),
    )


@dataclass(slots=True)
class _Jobs:
    """The jobs of the events, each once: the job of a batch has several of them, and an answer
    about an event names it for one."""

    events: Sequence[SentEvent]
    api: JobsApi
    by_id: dict[str, Job] = field(default_factory=dict)
    _of: dict[int, dict[str, None]] = field(default_factory=dict)  # ids by position
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def ids(self, event: SentEvent) -> Collection[str]:
        return self._of.get(event.position, {})

    def add(self, position: int, jobs: Iterable[Job]) -> None:
        for job in jobs:
            known = self.by_id.get(job.id)
            if known is None or job.ended or not known.ended:
                self.by_id[job.id] = job
            self._of.setdefault(position, {})[job.id] = None

    async def each(self, some: Iterable[_T], ask: Callable[[_T], Awaitable[_R]]) -> list[_R]:
        """Ask about each, a few at a time."""

        async def one(of: _T) -> _R:
            async with self._gate:
                return await ask(of)

        return await asyncio.gather(*map(one, some))

    async def look(self, some: Sequence[SentEvent]) -> None:
        """Ask for the jobs of these events; the job of a batch is added to all of its events."""
        positions = {event.internal_id: event.position for event in self.events}
        answers = await self.each(some, lambda event: self.api.jobs(event.internal_id))
        for event, jobs in zip(some, answers, strict=True):
            self.add(event.position, jobs)
        batched = [job for jobs in answers for job in jobs if job.batch]
        members = await self.each(batched, lambda job: self.api.batch(job.id))
        for job, ids in zip(batched, members, strict=True):
            for id_ in positions.keys() & ids:
                self.add(positions[id_], [job])


def _has_ended(job: Job) -> bool:
    """Whether it has ended, even if its output is not available yet."""
    return job.ended or job.status.lower() in ENDED


def _as_cancelled(job: Job) -> Job:
    return replace(job, status="Cancelled", ended=True, message=CANCELLED)
