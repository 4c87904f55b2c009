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
    help="Send what the run was started with, whatever its plan file says by now.",
)
@click.option(
    "--past-failures",
    is_flag=True,
    help="Go on although the plan stops on a failure and there were some, or a drain was stalled.",
)
@click.option(
    "--unanswered",
    type=click.Choice(["send", "taken"]),
    help="What to do with requests whose answer was lost more than a day ago.",
)
@click.option(
    "--max-rounds",
    type=Count(1),
    metavar="N",
    help="How many rounds its drains may have from now on, those before included.",
)
@click.option(
    "--max-time",
    callback=read_duration,
    metavar="DURATION",
    help="... and how long they may be driven.",
)
@click.option("--detach", is_flag=True, help="Leave the rest of it to the workers.")
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
    """Go on with RUN (its id, `latest`, or `latest:PLAN`) where it ended.

    What was sent is not sent again; a request whose answer was lost is made again with the same
    ids, which the server takes once. What was sent must still be what the plan begins with; limits
    that the plan file has raised since are taken over. A run that is paused, in whatever terminal,
    goes on there. With --target, the runs to a target that was held with `backfill pause --target`.
    """
    from runner.app.control import let_go
    from runner.app.resume import resubmit, resume

    if target is not None:
        _refuse_others()
        click.echo(f"{let_go(session, target)} is held no longer: its runs go on")
        return 0
    if run is None:
        raise UsageError("which run? its id, `latest` or `latest:PLAN`; or --target")
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
            raise UsageError(f"--target stands alone, without {parameter.opts[-1]}")
