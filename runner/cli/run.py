"""`backfill run`."""

from __future__ import annotations

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.main import status_of
from runner.cli.options import (
    OF_A_DRIVE,
    collection_option,
    events_option,
    format_option,
    no_wait_option,
    pass_session,
    plan_argument,
    plan_options,
    policy_option,
    refuse_beside,
    refuse_detached,
    run_options,
    selector_options,
    skip_preflight_option,
    state_option,
    target_option,
    timings_option,
    yes_option,
)
from runner.cli.printing import print_json, show
from runner.execution.context import RunOptions
from runner.model import Selectors


@click.command(
    "run",
    epilog="\b\nExamples:\n  backfill run plan.yaml\n  backfill run plan.yaml --dry-run"
    "\n  backfill run plan.yaml --target dev"
    "\n  INNGEST_EVENT_KEY=… INNGEST_SIGNING_KEY=… backfill run plan.yaml --target cloud --yes"
    "\n  backfill run plan.yaml --target cloud --yes --detach",
)
@plan_argument
@plan_options
@selector_options
@collection_option
@policy_option
@target_option
@state_option
@click.option("--dry-run", is_flag=True, help="Only show the plan, as `backfill plan` does.")
@click.option(
    "--detach", is_flag=True, help="Leave the run to the workers (`backfill serve`), and exit."
)
@skip_preflight_option
@yes_option
@no_wait_option
@run_options
@timings_option
@events_option
@format_option("text", "json")
@pass_session
def run_command(
    session: Session,
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str | None,
    events: int | None,
    form: str,
    *,
    strict: bool,
    dry_run: bool,
    detach: bool,
    options: RunOptions,
    selectors: Selectors,
) -> int:
    """Send the events of PLAN, stage by stage, and follow their jobs to the end.

    PLAN is a plan file, or a plan that `backfill plan --out` saved. A saved plan is sent once,
    exactly as it was reviewed; it is refused (5) if it has expired or if anything it was made from
    has changed.

    Every send is written to a journal first: after ^C or a crash, `backfill resume` continues the
    run.

    With --detach, the plan is checked, previewed and refused in the same way. Then workers drive
    the run: processes of `backfill serve` with the same state. It continues after this command has
    ended. `status`, `pause`, `tune`, `cancel` and the others work on it as on any run.
    """
    from runner.app.policy import refuse_broken
    from runner.app.prepare import prepare
    from runner.app.run import run, submit

    if dry_run:
        refuse_beside("--dry-run", {"detach", "wait_lock", *OF_A_DRIVE})
    if detach:
        refuse_detached()
    prepared = prepare(
        session,
        plan,
        target=target,
        variables=read_variables(variables, var_files),
        strict=strict,
        selectors=selectors,
    )
    if dry_run:
        show(prepared.shown, prepared.target.name, form=form, events=events)
        refuse_broken(prepared.plan)
        return 0
    if not detach:
        return status_of(run(session, prepared, options))
    submitted = submit(session, prepared, options)
    if form == "json":
        from runner.output.summary import submitted_json

        print_json(submitted_json(submitted.run_id, submitted.event_id))
    else:
        click.echo(
            f"run {submitted.run_id} is submitted: a worker drives it, this command is done\n"
            f"it is in {session.store.where}: workers must have the same state\n"
            f"to follow it: backfill status {submitted.run_id} --watch"
        )
    return 0
