"""`backfill pause`."""

from __future__ import annotations

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import pass_session, state_option


@click.command(
    "pause",
    epilog="\b\nExamples:\n  backfill pause latest\n  backfill resume latest    (goes on)",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@pass_session
def pause_command(session: Session, run: str) -> int:
    """Hold RUN, from whatever terminal or machine: nothing is sent after the request in flight.

    Jobs that were started go on and are followed; `backfill resume` lets the run go on.
    """
    from runner.app.control import pause

    state = pause(session, run)
    run_id, submission = state.record.id, state.submission
    when = f"is paused after the request in flight ({state.holder})"
    if submission and state.parked:
        left = f"it is left to the workers ({submission.due})"
        when = f"is paused: {left}, and they send nothing more"
    click.echo(f"run {run_id} {when}; `backfill resume {run_id}` lets it go on")
    return 0
