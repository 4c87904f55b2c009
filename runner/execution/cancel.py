"""End the running jobs of a cancelled run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from runner.execution.context import CANCELLED
from runner.execution.listeners import verdict
from runner.execution.poller import AT_ONCE
from runner.execution.ports import CancelApi, JobsApi, Journal, Observation
from runner.execution.recover import watched
from runner.model import ENDED, ExecutionPlan, Job, SentEvent, frozen


@frozen
class Cancelled:
    """The result: jobs that were ended, jobs that had run anyway, jobs that still run although the
    server was asked to cancel them (and its answers), and events without a job."""

    jobs: int
    had_ended: int
    going_on: int
    refusals: tuple[str, ...]
    without_job: int


@dataclass(slots=True)
class _Tally:
    cancelled: int = 0
    going_on: int = 0
    refusals: set[str] = field(default_factory=set)


async def cancel_jobs(
    plan: ExecutionPlan, journal: Journal, jobs: JobsApi, cancel: CancelApi, now: float
) -> Cancelled:
    """End the jobs one by one: the hosted service's bulk call cannot be limited to one run's jobs.

    A job that has not started within its `queue_timeout` is not waited for.
    """
    gate, tally = asyncio.Semaphore(AT_ONCE), _Tally()
    due = {stage.number: now - stage.queue_timeout for stage in plan.stages}

    async def end(event: SentEvent) -> Observation:
        async with gate:
            after = await _end_jobs(event, jobs, cancel, tally)
        if after and all(job.ended for job in after):
            outcome, message = verdict(after)
            return Observation(event, after, outcome, message)
        if not after and event.sent_at + event.later < due[event.stage]:
            return Observation(event, after, "no_job", "no job has started for it in time")
        return Observation(event, after)

    found = await asyncio.gather(*[end(event) for event in watched(plan, journal)])
    journal.record(found)
    found_jobs = sum(len(observation.jobs) for observation in found)
    return Cancelled(
        tally.cancelled,
        found_jobs - tally.cancelled - tally.going_on,
        tally.going_on,
        tuple(sorted(tally.refusals)),
        sum(not (observation.jobs or observation.outcome) for observation in found),
    )


async def _end_jobs(
    event: SentEvent, jobs: JobsApi, cancel: CancelApi, tally: _Tally
) -> tuple[Job, ...]:
    """End the event's running jobs and return its jobs as they are afterwards."""
    found = {job.id: job for job in await jobs.jobs(event.internal_id)}
    refused: dict[str, str] = {}
    for job in found.values():
        if job.ended:
            continue
        refusal = await cancel.cancel(job.id)
        if refusal is None:
            found[job.id] = _as_cancelled(job)
            tally.cancelled += 1
        else:
            refused[job.id] = refusal
    if refused:  # the job had ended meanwhile, or the server did not find a job that it listed
        found |= {job.id: job for job in await jobs.jobs(event.internal_id) if job.id in refused}
    for job_id, refusal in refused.items():
        if not _has_ended(found[job_id]):
            tally.going_on += 1
            tally.refusals.add(refusal)
    return tuple(found.values())


def _has_ended(job: Job) -> bool:
    """Whether it has ended, even if its output is not available yet."""
    return job.ended or job.status.lower() in ENDED


def _as_cancelled(job: Job) -> Job:
    return replace(job, status="Cancelled", ended=True, message=CANCELLED)
