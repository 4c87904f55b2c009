"""`backfill resume`."""

from __future__ import annotations

import click
from click.core import ParameterSource

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.main import status_of
from runner.cli.options import (
    Count,
    format_option,
    held_target_option,
    pass_session,
    read_duration,
    refuse_detached,
    run_options,
    state_option,
    timings_option,
    yes_option,
)
from runner.cli.printing import outcome_decides, print_json
from runner.errors import UsageError
from runner.execution.context import RunOptions
from runner.output.summary import submitted_json


@click.command(
    "resume",
    epilog="\b\nExamples:\n  backfill resume latest\n  backfill resume 01KB3Q"
    "\n  backfill resume --target cloud    (after `backfill pause --target`)"
    "\n  backfill resume latest --from-journal    (whatever the plan file says by now)",
)
@click.argument("run", required=False, shell_complete=complete_run)
@state_option
@held_target_option
@yes_option
@click.option(
    "--from-journal",
    is_flag=True,
    help="Send the plan as the run started with it, even if the plan file has changed.",
)
@click.option(
    "--past-failures",
    is_flag=True,
    help="Go on even though the plan stops on failures and there were some, or a drain stalled.",
)
@click.option(
    "--unanswered",
    type=click.Choice(["send", "taken"]),
    help="What to do with requests whose answer was lost more than a day ago: send them "
    "again, or count them as sent.",
)
@click.option(
    "--max-rounds",
    type=Count(1),
    metavar="N",
    help="The most rounds of each drain, including those before.",
)
@click.option(
    "--max-time",
    callback=read_duration,
    metavar="DURATION",
    help="The longest time to spend on each drain, including the time before.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Leave the rest of the run to the workers (`backfill serve`), and exit.",
)
@run_options
@timings_option
@format_option("text", "json")
@pass_session
def resume_command(
    session: Session,
    run: str | None,
    target: str | None,
    form: str,
    *,
    from_journal: bool,
    detach: bool,
    options: RunOptions,
) -> int:
    """Continue RUN (its id, `latest`, or `latest:PLAN`) where it stopped.

    What was sent is not sent again. A request whose answer was lost is repeated with the same ids,
    so that the server takes its events once. The plan must still begin with what was sent; limits
    that the plan file has raised since are used. A paused run continues in the process that drives
    it. With --target, release the target that `backfill pause --target` holds: its runs continue.
    """
    from runner.app.control import let_go
    from runner.app.resume import resubmit, resume

    if target is not None:
        _refuse_others()
        click.echo(f"{let_go(session, target)} is no longer held: its runs go on")
        return 0
    if run is None:
        raise UsageError("name a run (its id, `latest` or `latest:PLAN`), or a --target")
    if not detach:
        summary = resume(session, run, options, from_journal=from_journal)
        return status_of(summary) if summary else 0
    refuse_detached()
    outcome_decides()
    submitted = resubmit(session, run, options, from_journal=from_journal)
    if submitted and form == "json":
        print_json(submitted_json(submitted.run_id, submitted.event_id))
    elif submitted:
        click.echo(
            f"run {submitted.run_id} is submitted: a worker goes on with it, and this command is "
            "done\n"
            f"to follow it: backfill status {submitted.run_id} --watch"
        )
    return 0


def _refuse_others() -> None:
    """Raise `UsageError` for options that have no effect beside --target."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("target", "state"):
            raise UsageError(f"--target does not go with {parameter.opts[-1]}")
