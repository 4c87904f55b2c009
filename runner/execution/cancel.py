"""Ends the jobs that a cancelled run has started and that go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from runner.execution.follow import verdict
from runner.execution.look import AT_ONCE
from runner.execution.ports import CancelApi, JobsApi, Journal, Sighting
from runner.execution.recover import watched
from runner.model import ExecutionPlan, Job, SentEvent


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What came of it: jobs that were ended, jobs that had run anyway, events without a job."""

    jobs: int
    had_ended: int
    without_job: int


async def cancel_jobs(
    plan: ExecutionPlan, journal: Journal, jobs: JobsApi, cancel: CancelApi
) -> Cancelled:
    """One by one: the bulk call of the hosted service cannot be kept to the jobs of one run."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def end(event: SentEvent) -> tuple[Sighting, int]:
        async with gate:
            after, ended = [], 0
            for job in await jobs.jobs(event.internal_id):
                if not job.ended and await cancel.cancel(job.id):
                    ended += 1
                    after.append(_as_cancelled(job))
                else:
                    after.append(job)
        if after and all(job.ended for job in after):
            outcome, message = verdict(after)
            return Sighting(event, tuple(after), outcome, message), ended
        return Sighting(event, tuple(after)), ended

    found = await asyncio.gather(*[end(event) for event in watched(plan, journal)])
    journal.record([sighting for sighting, _ in found])
    ended = sum(count for _, count in found)
    seen = sum(len(sighting.jobs) for sighting, _ in found)
    return Cancelled(ended, seen - ended, sum(not sighting.jobs for sighting, _ in found))


def _as_cancelled(job: Job) -> Job:
    return replace(job, status="Cancelled", ended=True, message="cancelled by an operator")
