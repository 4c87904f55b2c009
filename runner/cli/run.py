"""`backfill run`."""

from __future__ import annotations

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
from runner.cli.sending import Sending, no_wait_option, sending_options


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
@no_wait_option
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
    events: int | None,
    form: str,
    *,
    strict: bool,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
    skip_preflight: bool,
    sending: Sending,
) -> int:
    """Send the events of PLAN, stage by stage, and follow their jobs to the end.

    PLAN is a plan file, or a plan that `backfill plan --out` has saved: that is sent exactly as it
    was reviewed, once, and refused (5) where it has expired or anything it was made of has changed.

    Every send is written to a journal first: after ^C or a crash, `backfill resume` carries on.
    """
    from runner.cli.starting import Start, start

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
    return start(asked, dry_run=dry_run)
