"""`backfill cancel`."""

from __future__ import annotations

import os
import time
from random import SystemRandom
from typing import TYPE_CHECKING

import click

from runner.adapters.inngest.target import Target, resolve
from runner.cli.approval import refuse_another_address
from runner.cli.common import open_store, state_option, take_lock
from runner.cli.completion import complete_run
from runner.errors import Incomplete, PreflightRefused, UsageError
from runner.model import ExecutionPlan, RunRecord

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.adapters.journal.store import Store
    from runner.execution.cancel import Cancelled
    from runner.execution.ports import Journal

_PATIENCE = 60.0  # seconds for the request in flight to end
_OPEN = ("running", "incomplete")


@click.command(
    "cancel",
    short_help="End a run for good.",
    epilog="\b\nExamples:\n  backfill cancel latest\n  backfill cancel latest --jobs",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--jobs", is_flag=True, help="Cancel the jobs it has started too, one by one.")
def cancel_command(run: str, state: str | None, *, jobs: bool) -> int:
    """End RUN for good, from whatever terminal or machine: nothing is sent after the request in
    flight. What was sent stays sent; with --jobs what it started is cancelled, where it goes on.
    """
    store = open_store(state)
    record = store.find(run)
    if record.status not in _OPEN and not jobs:
        raise UsageError(f"run {record.id} has ended: it is {record.status}")
    lease = _end(store, record) if record.status in _OPEN else None
    journal = store.reading(record)
    totals = journal.totals()
    click.echo(
        f"run {record.id} is cancelled: {totals.accepted:,} of {totals.planned:,} events were "
        f"sent, {totals.completed:,} of their jobs had completed, {totals.failed:,} had failed"
    )
    if lost := journal.unanswered():
        count = sum(len(chunk.positions) for chunk in lost)
        click.echo(f"note: {count:,} events more may have been taken: their answer was lost")
    if jobs:
        _say(_cancel_jobs(store, record, lease), record.id)
    return 0


def _end(store: Store, record: RunRecord) -> Lease | None:
    """The process that carries the run out ends it; where there is none, this one does, and has
    the run's lock from then on.
    """
    store.order(record.id, wanted="cancel")
    state = store.run_state(record.id)
    if state.holder and not state.parked:
        click.echo(f"waiting for the request in flight ({state.holder})", err=True)
        until = time.monotonic() + _PATIENCE
        while store.run_state(record.id).holder:
            if time.monotonic() > until:
                message = f"run {record.id} is ordered to end, and its process has not done so yet"
                raise Incomplete(message, hint=f"look at it: {state.holder}")
            time.sleep(0.2)
    if store.find(record.id).status not in _OPEN:
        return None
    lease = take_lock(store, record.plan, record.address, record.id, 0)
    store.journal(record, lease).end("cancelled")
    return lease


def _cancel_jobs(store: Store, record: RunRecord, lease: Lease | None) -> Cancelled:
    import asyncio

    plan, target = store.plan_of(record), resolve(record.target, os.environ)
    refuse_another_address(record, target)
    if target.kind == "embedded":
        raise PreflightRefused("the jobs of the embedded target have ended with its process")
    lease = lease or take_lock(store, record.plan, record.address, record.id, 0)
    return asyncio.run(_ask(plan, store.journal(record, lease), target))


async def _ask(plan: ExecutionPlan, journal: Journal, target: Target) -> Cancelled:
    import asyncio

    from runner.adapters.http import open_client
    from runner.adapters.inngest.cancel_api import HttpCancelApi
    from runner.adapters.inngest.http import Retry
    from runner.adapters.inngest.jobs_api import HttpJobsApi
    from runner.execution.cancel import cancel_jobs

    retry = Retry(asyncio.sleep, SystemRandom(), lambda note: click.echo(note, err=True))
    async with open_client(None) as client:
        jobs = HttpJobsApi(client, target, retry)
        return await cancel_jobs(plan, journal, jobs, HttpCancelApi(client, target, retry))


def _say(done: Cancelled, run_id: str) -> None:
    """Raises `Incomplete` where jobs go on."""
    click.echo(f"{done.jobs:,} jobs cancelled; {done.had_ended:,} had run to their end anyway")
    if done.without_job:
        click.echo(
            f"note: {done.without_job:,} events have started no job yet; if one starts late, "
            "`backfill cancel --jobs` finds it"
        )
    if done.going_on:
        answers = ", ".join(done.refusals)
        some = "jobs go on: the server did not cancel them"
        one = "job goes on: the server did not cancel it"
        hint = (
            f"ask once more with `backfill cancel {run_id} --jobs`; `backfill events {run_id} "
            "--outcome running` lists them, to be cancelled where the server shows them"
        )
        message = f"{done.going_on:,} {some if done.going_on > 1 else one} ({answers})"
        raise Incomplete(message, hint=hint)
