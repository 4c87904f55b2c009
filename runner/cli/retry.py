"""`backfill retry`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from runner.adapters.inngest.target import resolve
from runner.cli.common import (
    format_option,
    open_databases,
    open_store,
    state_option,
    take_lock,
    timings_option,
)
from runner.cli.completion import complete_run
from runner.cli.plan import show
from runner.cli.sending import Sending, sending_options
from runner.cli.summary_file import summary_writer
from runner.errors import PreflightRefused
from runner.model import Outcome

if TYPE_CHECKING:
    from runner.execution.ports import Journal

_ALL: frozenset[Outcome] = frozenset({"failed", "cancelled", "timed_out", "no_job", "rejected"})


@click.command(
    "retry",
    short_help="Send what failed in a run once more.",
    epilog="\b\nExamples:\n  backfill retry latest\n  backfill retry latest --no-job"
    "\n  backfill retry 01KB3Q --item 'acme/*' --dry-run",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--failed", is_flag=True, help="Events whose jobs failed, were cancelled or hang.")
@click.option("--no-job", is_flag=True, help="Events that started no job.")
@click.option("--rejected", is_flag=True, help="Events that the server refused.")
@click.option(
    "--item", "patterns", multiple=True, metavar="PATTERN", help="Only items like `acme/*`."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be sent.")
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@sending_options
@timings_option
@format_option("text", "json")
def retry_command(
    run: str,
    state: str | None,
    patterns: tuple[str, ...],
    form: str,
    *,
    failed: bool,
    no_job: bool,
    rejected: bool,
    dry_run: bool,
    yes: bool,
    sending: Sending,
) -> int:
    """Send the events of RUN that failed once more, in a new run that is linked to it.

    They have the payloads that RUN had, and fresh ids: the server takes them as new events. Without
    a choice, everything that failed is sent; what a later retry has already done, or still has to
    do, is left out.
    """
    from ulid import ULID

    from runner.cli.approval import check_keys, confirm, refuse_another_address
    from runner.planning.subset import subset

    store = open_store(state)
    record = store.find(run)
    plan = store.plan_of(record)
    outcomes: set[Outcome] = set()
    outcomes |= {"failed", "cancelled", "timed_out"} if failed else set()
    outcomes |= {"no_job"} if no_job else set()
    outcomes |= {"rejected"} if rejected else set()
    target = resolve(record.target, os.environ)
    refuse_another_address(record, target)
    run_id = str(ULID())
    lease = take_lock(store, record.plan, record.address, run_id, sending.wait_lock)
    positions = store.failed_positions(record, outcomes or _ALL, patterns)
    if not positions:
        hint = f"`backfill resume {record.id}` sends what was not sent"
        raise PreflightRefused(f"nothing of run {record.id} is there to retry", hint=hint)
    plan = subset(plan, positions)
    if dry_run or form == "text":
        show(plan, target, form=form, events=3)
    if dry_run:
        return 0
    from runner.cli.carry_out import carry_out
    from runner.cli.wiring import Settings

    follow = check_keys(plan, target, follow=record.follow)
    confirm(plan, target, yes=yes)

    def start() -> Journal:
        return store.start(
            run_id,
            plan,
            lease,
            target=record.target,
            address=record.address,
            variables=record.variables,
            follow=follow,
            parent=record.id,
        )

    database = open_databases(record.path) if plan.checks or plan.coverage else None
    settings = Settings(
        follow,
        sending.grace,
        sending.limits,
        pause_file=sending.pause_file,
        summary=summary_writer(sending.summary_file, lambda: store, plan),
        database=database,
    )
    return carry_out(plan, target, start, settings, form=form)
