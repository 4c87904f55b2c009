"""`backfill apply`."""

from __future__ import annotations

import json

import click

from runner.adapters.files import refuse_inputs
from runner.app.session import Session
from runner.cli.options import (
    comment_option,
    format_option,
    pass_session,
    plan_options,
    read_variables,
    state_option,
    summary_file,
    summary_file_option,
    target_option,
)
from runner.cli.plan_files import changed_option
from runner.cli.printing import Terminal
from runner.errors import BackfillError, TargetError, UsageError
from runner.execution.options import RunOptions


@click.command(
    "apply",
    epilog="\b\nExamples:\n  backfill apply plans/\n  backfill apply plans/ --target cloud --yes"
    "\n  backfill apply plans/ --again refresh-after-schema-change",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@plan_options
@changed_option
@target_option
@state_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Run this plan although it was applied, has changed since, or has failed.",
)
@click.option(
    "--resume",
    "carry_on",
    is_flag=True,
    help="Carry on a run that has not come to its end, in place of stopping there.",
)
@summary_file_option("Add a summary of each run, and of the plans, in Markdown to this file.")
@click.option(
    "--detach",
    is_flag=True,
    help="Leave the next one to the workers, as `run --detach` does, and exit with 7 while it is "
    "not at its end; said again, the one after it follows.",
)
@comment_option
@format_option("text", "json")
@pass_session
def apply_command(
    session: Session,
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    again: tuple[str, ...],
    form: str,
    changed_since: str | None,
    *,
    strict: bool,
    yes: bool,
    carry_on: bool,
    comment: bool,
    detach: bool,
) -> int:
    """Run the plans of PATHS that are pending on the target, in order, until one fails.

    The ledger is in the state: which plan, with which files, ran where and how it ended. Applied
    ones are left alone. One that has changed since is reported (exit 5) and not run again, unless
    --again names it. Plans go by `metadata.version`, then by file name, after those of their
    `metadata.depends_on`.
    """
    from runner.cli.applying import Applying
    from runner.cli.ledger import find_plans
    from runner.output.ledger import ledger_json

    overrides = read_variables(variables, var_files)
    plans = find_plans(paths, overrides, changed_since, strict=strict)
    file = summary_file()
    read = [path for plan in plans for path, _ in plan.inputs]
    refuse_inputs({"--summary-file": file}, [*read, *var_files])
    unknown = set(again) - {plan.name for plan in plans}
    if unknown:
        raise UsageError(f"--again: there is no plan `{min(unknown)}` in {', '.join(paths)}")
    session.reporter = Terminal(session, "text", summary_file=file, results=form == "text")
    applying = Applying(
        session, plans, overrides, target, again, carry_on, RunOptions(yes=yes), strict, detach
    )
    error: BackfillError | None = None
    status = 0
    try:
        status = applying.apply()
    except BackfillError as caught:
        error = caught
    try:
        entries = applying.standing()
    except TargetError as away:
        entries, error = [], error or away
    if file or comment:
        from runner.cli.applied import tell_applied

        tell_applied(
            session,
            entries,
            applying.ran,
            error,
            target=target,
            summary_file=file,
            comment=comment,
        )
    if error:
        raise error
    if form == "json":
        click.echo(json.dumps(ledger_json(entries), indent=2))
    elif not applying.ran and not status:
        click.echo(f"nothing is pending: {len(entries)} plans are applied")
    return status
