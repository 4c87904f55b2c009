"""`backfill apply`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from runner.adapters.files import refuse_inputs
from runner.app.session import HERE, Session
from runner.cli.main import status_of
from runner.cli.options import (
    changed_option,
    comment_option,
    format_option,
    given,
    pass_session,
    plan_options,
    policy_option,
    read_variables,
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
    say_in_comment,
    wants_color,
    width_of,
)
from runner.errors import BackfillError, UsageError
from runner.execution.context import RunOptions
from runner.spec.document import did_you_mean
from runner.spec.units import counted

if TYPE_CHECKING:
    from runner.app.apply import Applied
    from runner.model import BackfillPlan
    from runner.planning.ledger import LedgerEntry


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
    help="Only list what is pending, in its order, and what has changed or failed.",
)
@click.option("--all", "everything", is_flag=True, help="With --dry-run: applied ones too.")
@yes_option
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Run this plan although it was applied, has changed since, or has failed.",
)
@click.option(
    "--resume",
    "go_on",
    is_flag=True,
    help="Resume a run that has not come to its end, in place of stopping there.",
)
@click.option(
    "--baseline",
    multiple=True,
    metavar="NAME",
    help="Put this plan into the ledger as applied, and send nothing: its work was done before.",
)
@click.option(
    "--reason", metavar="TEXT", default="", help="With --baseline: why, for whoever asks later."
)
@summary_file_option("Add a summary of each run, and of the plans, in Markdown to this file.")
@click.option(
    "--detach",
    is_flag=True,
    help="Leave the next one to the workers, as `run --detach` does, and exit with 7 while it is "
    "not at its end; called again, the one after it follows.",
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

    The ledger is in the state: which plan, with which files, ran where and how it ended. Applied
    ones are left alone. One that has changed since is reported (exit 5) and not run again, unless
    --again names it. Plans go by `metadata.version`, then by file name, after those of their
    `metadata.depends_on`.
    """
    from runner.app.apply import ApplyOptions, adopt, apply, pending
    from runner.app.plan_files import plans_to_apply
    from runner.output.ledger import ledger_json

    overrides = read_variables(variables, var_files)
    _refuse_without_effect()
    plans = plans_to_apply(session, paths, overrides, changed_since, strict=strict)
    file = summary_file()
    read = [path for plan in plans for path, _ in plan.inputs]
    refuse_inputs({"--summary-file": file}, [*read, *var_files])
    _refuse_unknown({"--again": again, "--baseline": baseline}, plans, paths)
    named = session.named_target(target, plans[0].path if plans else HERE)
    options = ApplyOptions(target, overrides, again, go_on, detach, RunOptions(yes=yes))
    if baseline:
        adopted = [plan for plan in plans if plan.name in baseline]
        entries = adopt(session, adopted, options, reason.strip())
        _print(entries, entries, named, form)
        return 0
    if dry_run:
        entries = pending(session, plans, options)
        shown = [entry for entry in entries if everything or entry.state != "applied"]
        _print(shown, entries, named, form)
        return 0
    session.reporter = Terminal(session, "text", summary_file=file, results=form == "text")
    applied = apply(session, plans, options)
    if file or comment:
        _tell(session, applied, named, file, comment=comment)
    if applied.error:
        raise applied.error
    if form == "json":
        print_json(ledger_json(applied.entries, named))
    elif not applied.ran and not applied.open:
        click.echo(_nothing(len(applied.entries)))
    return status_of(applied.open) if applied.open else 0


def _refuse_without_effect() -> None:
    """Raises `UsageError`."""
    if given("dry_run"):
        _refuse("--dry-run", ("yes", "again", "go_on", "detach", "comment"))
    elif given("everything"):
        raise UsageError("--all does nothing without --dry-run")
    if given("baseline"):
        _refuse("--baseline", ("dry_run", "yes", "again", "go_on", "detach", "comment"))
        if not click.get_current_context().params["reason"].strip():
            raise UsageError("--baseline wants --reason TEXT", hint="why it counts as applied")
    elif given("reason"):
        raise UsageError("--reason does nothing without --baseline")


def _refuse(option: str, others: Sequence[str]) -> None:
    names = {"go_on": "resume", "dry_run": "dry-run"}
    for name in others:
        if given(name):
            raise UsageError(f"--{names.get(name, name)} does nothing with {option}")


def _refuse_unknown(
    options: Mapping[str, Sequence[str]], plans: Sequence[BackfillPlan], paths: Sequence[str]
) -> None:
    known = [plan.name for plan in plans]
    for option, names in options.items():
        for name in names:
            if name not in known:
                message = f"{option}: there is no plan `{name}` in {', '.join(paths)}"
                raise UsageError(message, hint=did_you_mean(name, known))


def _print(
    shown: Sequence[LedgerEntry], entries: Sequence[LedgerEntry], target: str, form: str
) -> None:
    from runner.output.ledger import ledger_json, ledger_text

    if form == "json":
        print_json(ledger_json(shown, target))
    else:
        color, width = wants_color(sys.stdout), width_of(sys.stdout)
        text = ledger_text(shown, color=color, width=width)
        people().write(f"{text if shown else _nothing(len(entries))}\n")


def _nothing(count: int) -> str:
    return f"nothing is pending: {counted(count, 'plan', 'are')} applied"


def _tell(
    session: Session, applied: Applied, target: str, file: str | None, *, comment: bool
) -> None:
    """Where those who reviewed the plans look. That it cannot be told ends nothing."""
    from runner.output.ledger import ledger_markdown
    from runner.output.markdown import MAX_COMMENT

    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, job = map(session.environ.get, names)
    link = f"{server}/{repository}/actions/runs/{job}" if server and repository and job else None
    table = ledger_markdown(applied.entries, target, applied.error, link=link)
    if file:
        append_summary(file, table, "the log has it")
    if not comment:
        return
    changed = any(entry.state == "changed" for entry in applied.entries)
    parts = [table, *_runs(session, applied, MAX_COMMENT - len(table))]
    try:
        say_in_comment(
            "apply", "\n".join(parts), anew=bool(applied.ran or applied.error or changed)
        )
    except BackfillError as refused:
        click.echo(f"note: no comment: {refused}", err=True)


def _runs(session: Session, applied: Applied, room: int) -> list[str]:
    from runner.app.queries import view_of
    from runner.output.run import run_markdown

    runs = [
        entry.run.run_id for entry in applied.entries if entry.run and entry.name in applied.ran
    ]
    if not runs:
        return []
    views = [view_of(session.reader, session.reader.find(run)) for run in runs]
    share = room // len(views) - 1
    return [text for view in views if len(text := run_markdown(view, share)) <= share]
