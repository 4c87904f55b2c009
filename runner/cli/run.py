"""`backfill run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import click
from click.core import ParameterSource
from ulid import ULID

from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import Store
from runner.cli.approval import refuse_unapproved
from runner.cli.carry_out import carry_out, sending_options
from runner.cli.common import (
    build,
    format_option,
    open_databases,
    open_store,
    past,
    plan_argument,
    plan_options,
    read_variables,
    source_of,
    state_option,
    take_lock,
    target_option,
    timings_option,
)
from runner.cli.examine import examine_plan, examine_server, refuse
from runner.cli.plan import events_option, say_estimate, show
from runner.cli.resolve import PlanResolver, remember
from runner.cli.saved import Reviewed, load_saved, reviewed
from runner.cli.summary_file import summary_writer
from runner.cli.wiring import Settings, check_keys, confirm
from runner.errors import UsageError
from runner.execution.chunks import RequestLimits
from runner.execution.means import preflight
from runner.execution.ports import Journal
from runner.model import ExecutionPlan, Json


@click.command(
    "run",
    short_help="Send a plan's events and follow their jobs.",
    epilog="\b\nExamples:\n  backfill run plan.yaml\n  backfill run plan.yaml --dry-run"
    "\n  backfill run plan.yaml --target dev"
    "\n  INNGEST_EVENT_KEY=… INNGEST_SIGNING_KEY=… backfill run plan.yaml --target cloud --yes",
)
@plan_argument
@plan_options
@target_option
@state_option
@click.option("--dry-run", is_flag=True, help="Only show the plan, as `backfill plan` does.")
@click.option(
    "--skip-preflight",
    is_flag=True,
    help="Send although something would be refused: see `backfill doctor`.",
)
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Send without following: no job is looked at, no stage waited for.",
)
@sending_options
@timings_option
@events_option
@format_option("text", "json")
def run_command(
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
    grace: float | None,
    wait_lock: float,
    pause_file: str | None,
    summary_file: str | None,
    request_events: int,
    request_bytes: int,
    events: int | None,
    form: str,
    *,
    strict: bool,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
    skip_preflight: bool,
    once_locked: Callable[[Store], None] = lambda _: None,
) -> int:
    """Send the events of PLAN, stage by stage, and follow their jobs to the end.

    PLAN is a plan file, or a plan that `backfill plan --out` has saved: that is sent exactly as it
    was reviewed, once, and refused (5) where it has expired or anything it was made of has changed.

    Every send is written to a journal first: after ^C or a crash, `backfill resume` carries on.
    """
    overrides = read_variables(variables, var_files)
    review = _reviewed(plan, overrides)
    built = review.built if review else build(plan, overrides, strict=strict)
    execution_plan = built.execution_plan
    resolved = review.target if review else resolve(target, os.environ)
    if review:
        plan, overrides, target = (
            execution_plan.path,
            dict(review.saved.variables),
            review.saved.target,
        )
    if dry_run or form == "text":
        show(execution_plan, resolved, form=form, events=events)
    if dry_run:
        return 0
    preflight(execution_plan)
    refuse_unapproved(execution_plan)
    follow = check_keys(execution_plan, resolved, follow=not no_wait)
    if not skip_preflight:
        findings = examine_server(execution_plan, resolved, lambda _: None, thorough=False)
        refuse(findings + examine_plan(plan, execution_plan, thorough=False))
    store = cache(lambda: open_store(state))  # a run that is refused leaves no state behind
    confirm(
        execution_plan,
        resolved,
        yes=yes,
        warn=lambda: _warn(store(), execution_plan, resolved),
    )
    settings = Settings(
        follow,
        grace,
        RequestLimits(request_events, request_bytes),
        pause_file=pause_file,
        summary=summary_writer(summary_file, store),
        notes=("the preflight was skipped (--skip-preflight)",) if skip_preflight else (),
        database=open_databases(plan),
        resolver=PlanResolver(built.plan, open_databases(plan)),
    )
    run_id = review.saved.run_id if review else str(ULID())
    lease = take_lock(store(), execution_plan.name, resolved.address, run_id, wait_lock)
    if review:
        review.refuse_used(store())
    once_locked(store())

    def start() -> Journal:
        record = replace(execution_plan, path=str(Path(plan).resolve()))
        journal = store().start(
            run_id,
            record,
            lease,
            target=target,
            address=resolved.address,
            variables=overrides,
            follow=follow,
            source=source_of(record),
        )
        if record.deferred:
            remember(journal, built.plan)
        return journal

    return carry_out(execution_plan, resolved, start, settings, form=form)


def _reviewed(path: str, overrides: dict[str, Json]) -> Reviewed | None:
    """What PLAN holds, where it is a saved plan that may still be run; None where it is not one."""
    saved = load_saved(path)
    if saved is None:
        return None
    if overrides and overrides != saved.variables:
        raise UsageError("--var does nothing for a saved plan", hint="it has its variables with it")
    context = click.get_current_context()
    given = context.get_parameter_source("target") is not ParameterSource.DEFAULT
    return reviewed(saved, path, context.params["target"] if given else None)


def _warn(store: Store, plan: ExecutionPlan, target: Target) -> None:
    """How long it will take; and that a new run has new event ids: what an unfinished one has sent
    would be sent once more."""
    say_estimate(plan, past(plan, store))
    before = store.unfinished(plan.name, target.address)
    if before and not store.holder_of(before.id):
        click.echo(
            f"note: run {before.id} of this plan has not come to its end: `backfill resume "
            f"{before.id}` carries it on; this is a new run, which sends everything again",
            err=True,
        )
