"""`backfill apply`."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from runner.app.session import HERE, Session
from runner.app.variables import read_variables
from runner.cli.main import status_of
from runner.cli.options import (
    OF_A_DRIVE,
    changed_option,
    comment_option,
    format_option,
    given,
    pass_session,
    plan_options,
    policy_option,
    refuse_beside,
    state_option,
    summary_file,
    summary_file_option,
    target_option,
    yes_option,
)
from runner.cli.printing import (
    Terminal,
    append_summary,
    people,
    print_json,
    wants_color,
    width_of,
)
from runner.errors import UsageError
from runner.execution.context import RunOptions

if TYPE_CHECKING:
    from runner.app.apply import Applied


@click.command(
    "apply",
    epilog="\b\nExamples:\n  backfill apply plans/\n  backfill apply plans/ --target cloud --yes"
    "\n  backfill apply plans/ --dry-run"
    "\n  backfill apply plans/ --again refresh-after-schema-change",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@plan_options
@policy_option
@changed_option
@target_option
@state_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list the plans that are pending, in order, and those that have changed or failed.",
)
@click.option("--all", "everything", is_flag=True, help="With --dry-run: list applied plans too.")
@yes_option
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Run this plan even if it was applied, has changed since, or has failed.",
)
@click.option(
    "--resume",
    "go_on",
    is_flag=True,
    help="Resume a run that has not ended, instead of stopping at it.",
)
@click.option(
    "--baseline",
    multiple=True,
    metavar="NAME",
    help="Record this plan in the ledger as applied without running it: its work is done already.",
)
@click.option(
    "--reason", metavar="TEXT", default="", help="With --baseline: why the plan counts as applied."
)
@summary_file_option("Append a Markdown summary of each run, and of all plans, to this file.")
@click.option(
    "--detach",
    is_flag=True,
    help="Leave the next plan to the workers, as `run --detach` does, and exit with 7 until "
    "it has ended; then call again for the plan after it.",
)
@comment_option
@format_option("text", "json")
@pass_session
def apply_command(
    session: Session,
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str | None,
    again: tuple[str, ...],
    baseline: tuple[str, ...],
    reason: str,
    form: str,
    changed_since: str | None,
    *,
    strict: bool,
    dry_run: bool,
    everything: bool,
    yes: bool,
    go_on: bool,
    comment: bool,
    detach: bool,
) -> int:
    """Run the plans of PATHS that are pending on the target, in order, until one fails.

    The ledger, in the state, records which plan ran where, with which files, and how it ended.
    Applied plans are not run again. One that has changed since is reported (exit 5) and only run
    again if --again names it. Plans run in the order of `metadata.version`, then of their file
    names, and always after those of their `metadata.depends_on`.
    """
    from runner.app.apply import ApplyOptions, adopt, apply, missing, pending, to_apply
    from runner.app.notify import commenting_on_refusal
    from runner.output.ledger import ledger_json, ledger_markdown, ledger_text, nothing_pending

    overrides = read_variables(variables, var_files)
    _refuse_without_effect()
    file = summary_file()
    why = partial(ledger_markdown, (), target, link=_job(session))
    with commenting_on_refusal(session, "apply", why, comment=comment):
        plans = to_apply(
            session,
            paths,
            overrides,
            changed_since,
            strict=strict,
            named={"--again": again, "--baseline": baseline},
            writes={"--summary-file": file},
        )
    place = plans[0].path if plans else HERE
    named = session.named_target(target, place)
    options = ApplyOptions(target, overrides, again, go_on, detach, RunOptions(yes=yes), strict)
    if baseline or dry_run:
        if baseline:
            adopted = [plan for plan in plans if plan.name in baseline]
            shown = entries = adopt(session, adopted, options, reason.strip())
        else:
            entries = pending(session, plans, options)
            shown = [entry for entry in entries if everything or entry.state != "applied"]
            for refused in missing(session, plans, entries, target):
                session.reporter.note(str(refused))
        if form == "json":
            print_json(ledger_json(shown, named))
        else:
            color, width = wants_color(sys.stdout), width_of(sys.stdout)
            text = ledger_text(shown, color=color, width=width)
            people().write(f"{text if shown else nothing_pending(len(entries))}\n")
        return 0
    session.reporter = Terminal(session, "text", summary_file=file, results=form == "text")
    applied = apply(session, plans, options)
    if file or comment:
        _tell(session, applied, session.where(target, place), file, comment=comment)
    if applied.error:
        raise applied.error
    if form == "json":
        print_json(ledger_json(applied.entries, named))
    elif not applied.ran and not applied.open:
        click.echo(nothing_pending(len(applied.entries)))
    return status_of(applied.open) if applied.open else 0


def _refuse_without_effect() -> None:
    """Raise `UsageError` for options that have no effect together."""
    if given("dry_run"):
        refuse_beside("--dry-run", {"again", "go_on", "detach", "comment", *OF_A_DRIVE})
    elif given("everything"):
        raise UsageError("--all does nothing without --dry-run")
    if given("baseline"):
        names = {"dry_run", "again", "go_on", "detach", "comment", *OF_A_DRIVE}
        refuse_beside("--baseline", names)
        if not click.get_current_context().params["reason"].strip():
            raise UsageError(
                "--baseline needs --reason TEXT", hint="say why the plan counts as applied"
            )
    elif given("reason"):
        raise UsageError("--reason does nothing without --baseline")


def _tell(
    session: Session, applied: Applied, target: str, file: str | None, *, comment: bool
) -> None:
    """Report in the summary file and the pull request."""
    from runner.app.apply import views_of
    from runner.app.notify import post_comment
    from runner.output.ledger import ledger_markdown, with_runs

    table = ledger_markdown(applied.entries, target, applied.error, link=_job(session))
    if file:
        append_summary(file, table, "the summary is in the log")
    if comment:
        changed = any(entry.state == "changed" for entry in applied.entries)
        text = with_runs(table, views_of(session, applied))
        anew = bool(applied.ran or applied.error or changed)
        post_comment(session, "apply", text, anew=anew)


def _job(session: Session) -> str | None:
    """Return the address of this job of GitHub Actions."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, job = map(session.environ.get, names)
    return f"{server}/{repository}/actions/runs/{job}" if server and repository and job else None
