"""`backfill resume`."""

from __future__ import annotations

import os
import time
from random import SystemRandom

import click

from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import RunRecord
from runner.cli.carry_out import carry_out, sending_options
from runner.cli.common import build, format_option, open_store, state_option
from runner.cli.wiring import Settings, check_keys, confirm
from runner.errors import StalePlan
from runner.execution.chunks import RequestLimits
from runner.execution.ports import Journal
from runner.execution.seeds import make_seed
from runner.model import ExecutionPlan


@click.command(
    "resume",
    short_help="Carry on a run that was stopped.",
    epilog="\b\nExamples:\n  backfill resume latest\n  backfill resume 01KB3Q",
)
@click.argument("run")
@state_option
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--past-failures",
    is_flag=True,
    help="Go on although the plan stops on a failure and there were some.",
)
@sending_options
@format_option("text", "json")
def resume_command(
    run: str,
    state: str | None,
    grace: float | None,
    request_events: int,
    request_bytes: int,
    form: str,
    *,
    yes: bool,
    past_failures: bool,
) -> int:
    """Carry on RUN (its id, the beginning of it, or `latest`) where it ended.

    What was sent is not sent again; a request whose answer was lost is made again with the same
    ids, which the server takes once. The plan must still be the one that the run started with.
    """
    store = open_store(state)
    record = store.find(run)
    if record.status == "completed":
        click.echo(f"run {record.id} has completed: there is nothing to resume", err=True)
        return 0
    plan = build(record.path, dict(record.variables))
    _refuse_another_plan(record, plan)
    target = resolve(record.target, os.environ)
    _refuse_another_address(record, target)
    follow = check_keys(plan, target, follow=record.follow)
    confirm(plan, target, yes=yes)

    def reopen() -> Journal:
        journal = store.reopen(record.id)
        if target.kind == "embedded":
            random = SystemRandom()
            journal.requeue(lambda: make_seed(time.time(), random))
        return journal

    limits = RequestLimits(request_events, request_bytes)
    settings = Settings(follow, grace, limits, past_failures=past_failures)
    return carry_out(plan, target, reopen, settings, form=form)


def _refuse_another_plan(record: RunRecord, plan: ExecutionPlan) -> None:
    if plan.digest != record.digest:
        raise StalePlan(
            f"{record.path} no longer gives the plan that run {record.id} started with",
            hint="restore the plan, its catalog and its data files, or start a new run",
        )


def _refuse_another_address(record: RunRecord, target: Target) -> None:
    """`dev` and `cloud` mean what the environment says: the rest must not go elsewhere."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {record.address}, and `{record.target}` is now "
            f"{target.address}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )
