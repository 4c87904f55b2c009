"""`backfill cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import pass_session, state_option
from runner.errors import Incomplete, PreflightRefused
from runner.output import words
from runner.spec.units import counted

if TYPE_CHECKING:
    from runner.execution.cancel import Cancelled


@click.command(
    "cancel",
    epilog="\b\nExamples:\n  backfill cancel latest\n  backfill cancel latest:refresh --jobs",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--jobs", is_flag=True, help="Also cancel the jobs that it started, one by one.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@pass_session
def cancel_command(session: Session, run: str, *, jobs: bool, yes: bool) -> int:
    """End RUN for good, from any terminal or machine. It cannot be resumed.

    Nothing is sent after the request in flight. What was sent stays sent; --jobs also cancels the
    jobs that are still running.

    At a terminal, it asks for confirmation first.
    """
    from runner.app.control import cancel

    if session.confirm and not yes:
        record = session.existing.find(run)
        also = ", and cancel its jobs" if jobs else ""
        if not session.confirm(f"End run {record.id} of {record.plan} for good{also}?"):
            raise PreflightRefused(f"not confirmed; run {record.id} is as it was")
    record, totals, unanswered, cancelled = cancel(session, run, jobs=jobs)
    came_of_it = filter(None, [words.were_sent(totals), ", ".join(words.outcomes(totals.outcomes))])
    click.echo(f"run {record.id} is {record.status}: {'; '.join(came_of_it)}")
    if unfollowed := totals.sent - sum(totals.outcomes.values()):
        click.echo(f"{unfollowed:,} without an outcome: their jobs are not followed, or no longer")
    if unanswered:
        more = counted(unanswered, "event")
        click.echo(f"note: {more} more may have been accepted: no valid answer came")
    if cancelled:
        _say(cancelled, record.id)
    return 0


def _say(done: Cancelled, run_id: str) -> None:
    """Report cancelled jobs. Raises `Incomplete` if some go on."""
    jobs = counted(done.jobs, "job")
    click.echo(f"{jobs} cancelled; {done.had_ended:,} had ended already")
    if done.without_job:
        without = counted(done.without_job, "event")
        click.echo(
            f"note: {without} without a job: to cancel jobs that start late, run "
            f"`backfill cancel {run_id} --jobs` again"
        )
    if done.going_on:
        answers = ", ".join(done.refusals)
        some = "jobs are still running: the server did not cancel them"
        one = "job is still running: the server did not cancel it"
        hint = (
            f"try again with `backfill cancel {run_id} --jobs`; or cancel them in the "
            f"server's dashboard: `backfill events {run_id} --outcome unfollowed` lists "
            "them"
        )
        message = f"{done.going_on:,} {some if done.going_on > 1 else one} ({answers})"
        raise Incomplete(message, hint=hint)
