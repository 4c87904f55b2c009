"""`backfill resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli.common import format_option, state_option, timings_option
from runner.cli.completion import complete_run
from runner.cli.sending import Sending, refuse_detached, sending_options

if TYPE_CHECKING:
    from runner.execution.recover import Decision


@click.command(
    "resume",
    short_help="Carry on a run that was stopped or paused.",
    epilog="\b\nExamples:\n  backfill resume latest\n  backfill resume 01KB3Q"
    "\n  backfill resume latest --from-journal    (whatever the plan file says by now)",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--from-journal",
    is_flag=True,
    help="Send what the run was started with, whatever its plan file says by now.",
)
@click.option(
    "--past-failures",
    is_flag=True,
    help="Go on although the plan stops on a failure and there were some.",
)
@click.option(
    "--unanswered",
    type=click.Choice(["send", "taken"]),
    help="What to do with requests whose answer was lost more than a day ago.",
)
@click.option(
    "--detach", is_flag=True, help="Hand it over to the workers, as `backfill submit` does."
)
@sending_options
@timings_option
@format_option("text", "json")
def resume_command(
    run: str,
    state: str | None,
    unanswered: Decision,
    form: str,
    *,
    yes: bool,
    from_journal: bool,
    past_failures: bool,
    detach: bool,
    sending: Sending,
) -> int:
    """Carry on RUN (its id, the beginning of it, or `latest`) where it ended.

    What was sent is not sent again; a request whose answer was lost is made again with the same
    ids, which the server takes once. What was sent must still be what the plan begins with. A run
    that is paused, in whatever terminal, goes on there.
    """
    from runner.cli.resuming import Resume, resubmit, resume

    asked = Resume(
        run,
        state,
        sending,
        form=form,
        yes=yes,
        from_journal=from_journal,
        past_failures=past_failures,
        unanswered=unanswered,
    )
    if not detach:
        return resume(asked)
    refuse_detached()
    if run_id := resubmit(asked):
        click.echo(
            f"run {run_id} is handed over: a worker carries it on, and this command is done\n"
            f"to follow it: backfill status {run_id} --watch"
        )
    return 0
