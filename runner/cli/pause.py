"""`backfill pause`."""

from __future__ import annotations

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import held_target_option, pass_session, read_duration, state_option
from runner.errors import UsageError
from runner.output.text import visible


@click.command(
    "pause",
    epilog="\b\nExamples:\n  backfill pause latest\n  backfill resume latest    (goes on)"
    '\n  backfill pause --target cloud --reason "incident 42" --for 4h',
)
@click.argument("run", required=False, shell_complete=complete_run)
@state_option
@held_target_option
@click.option("--reason", metavar="TEXT", help="With --target: why it is held.")
@click.option(
    "--for",
    "seconds",
    callback=read_duration,
    metavar="DURATION",
    help="With --target: how long to hold it.  [default: until `backfill resume --target`]",
)
@pass_session
def pause_command(
    session: Session, run: str | None, target: str | None, reason: str | None, seconds: float | None
) -> int:
    """Hold RUN, from any terminal or machine: nothing is sent after the request in flight.

    With --target, every run of this state to that target is held, also those that begin meanwhile.
    Jobs that were started go on and are followed. `backfill resume` continues the run, or releases
    the target.
    """
    from runner.app.control import hold, pause

    if target is not None:
        if run is not None or reason is None:
            raise UsageError("--target needs --reason, and no RUN")
        name = hold(session, target, reason, seconds)
        said = visible(f"{name} is held: {reason}; `backfill resume --target {target}` releases it")
        click.echo(said)
        return 0
    if reason is not None or seconds is not None:
        raise UsageError("--reason and --for need --target")
    if run is None:
        raise UsageError("name a run (its id, `latest` or `latest:PLAN`), or a --target")
    state = pause(session, run)
    run_id, submission = state.record.id, state.submission
    when = f"is paused after the request in flight ({state.holder})"
    if submission and state.parked:
        left = f"it is left to the workers ({submission.due})"
        when = f"is paused: {left}, which send nothing more"
    click.echo(f"run {run_id} {when}; `backfill resume {run_id}` continues it")
    return 0
