"""`backfill retry`."""

from __future__ import annotations

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.main import status_of
from runner.cli.options import (
    OF_A_DRIVE,
    format_option,
    pass_session,
    refuse_beside,
    run_options,
    state_option,
    timings_option,
    yes_option,
)
from runner.execution.context import RunOptions
from runner.model import RETRIED, Outcome


@click.command(
    "retry",
    epilog="\b\nExamples:\n  backfill retry latest\n  backfill retry latest --no-job"
    "\n  backfill retry 01KB3Q --item 'acme/*' --dry-run",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option(
    "--failed", is_flag=True, help="Events whose jobs failed, were cancelled or timed out."
)
@click.option("--no-job", is_flag=True, help="Events that started no job.")
@click.option("--rejected", is_flag=True, help="Events that the server refused.")
@click.option(
    "--dropped",
    is_flag=True,
    help="Events that a function dropped, by its rate limit, singleton, filter or debounce.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Events whose outcome the server cannot tell: the jobs of some may have run.",
)
@click.option(
    "--item",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Only items that match, such as `acme/*`; !GLOB excludes them.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be sent.")
@yes_option
@run_options
@timings_option
@format_option("text", "json")
@pass_session
def retry_command(
    session: Session,
    run: str,
    patterns: tuple[str, ...],
    form: str,
    *,
    failed: bool,
    no_job: bool,
    rejected: bool,
    dropped: bool,
    unknown: bool,
    dry_run: bool,
    options: RunOptions,
) -> int:
    """Send what failed in RUN again, as a new run that is linked to it.

    The events keep the payloads of RUN and get new ids, so that the server takes them as new
    events. By default, everything that failed is sent, except what a function dropped on purpose
    and what may have run. What a later attempt has completed, or still has to do, is skipped.
    """
    from runner.app.retry import FailedEvents, plan_retry, retry

    outcomes: set[Outcome] = set()
    outcomes |= {"failed", "cancelled", "timed_out"} if failed else set()
    outcomes |= {"no_job"} if no_job else set()
    outcomes |= {"rejected"} if rejected else set()
    outcomes |= {"dropped"} if dropped else set()
    outcomes |= {"unknown"} if unknown else set()
    events = FailedEvents(run, outcomes or RETRIED, patterns)
    if not dry_run:
        return status_of(retry(session, events, options))
    from runner.cli.printing import DEFAULT_EVENTS, show

    refuse_beside("--dry-run", OF_A_DRIVE)  # --wait-lock does count
    prepared = plan_retry(session, events, options)
    show(prepared.shown, prepared.target.name, form=form, events=DEFAULT_EVENTS)
    return 0
