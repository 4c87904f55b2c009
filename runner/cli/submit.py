"""`backfill submit`."""

from __future__ import annotations

import json

import click

from runner.cli.common import (
    format_option,
    given,
    plan_argument,
    plan_options,
    read_variables,
    state_option,
    target_option,
    timings_option,
)
from runner.cli.plan import events_option
from runner.cli.sending import Sending, detached_options, no_wait_option


@click.command(
    "submit",
    short_help="Hand a plan over to the workers.",
    epilog="\b\nExamples:\n  backfill submit plan.yaml --target cloud --yes"
    "\n  backfill submit plan.json        (a plan that `plan --out` has saved)",
)
@plan_argument
@plan_options
@target_option
@state_option
@click.option(
    "--skip-preflight",
    is_flag=True,
    help="Submit although something would be refused: see `backfill doctor`.",
)
@click.option("--yes", is_flag=True, help="Do not ask before submitting.")
@no_wait_option
@detached_options
@timings_option
@events_option
@format_option("text", "json")
def submit_command(
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
    events: int | None,
    form: str,
    *,
    strict: bool,
    yes: bool,
    no_wait: bool,
    skip_preflight: bool,
    sending: Sending,
) -> int:
    """Hand PLAN over to the workers: processes of `backfill serve`, with the same state.

    It is checked, previewed and refused as by `backfill run`; then it is a run, which goes on when
    this command has ended, on whatever machine. `status`, `pause`, `tune`, `cancel` and the others
    work on it as on any run.
    """
    from runner.cli.starting import Start, submit

    asked = Start(
        plan,
        read_variables(variables, var_files),
        target if given("target") else None,
        state,
        sending,
        form=form,
        events=events,
        strict=strict,
        yes=yes,
        follow=not no_wait,
        skip_preflight=skip_preflight,
    )
    run_id, event = submit(asked)
    if form == "json":
        click.echo(json.dumps({"run_id": run_id, "status": "running", "event_id": event}, indent=2))
    else:
        click.echo(
            f"run {run_id} is submitted: a worker carries it out, and this command is done\n"
            f"it is in {asked.store.where}: workers must have the same state\n"
            f"to follow it: backfill status {run_id} --watch"
        )
    return 0
