"""`backfill plan`: the preview. It gets no sender and no journal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.app.variables import read_variables, record_facts
from runner.cli.main import status_of
from runner.cli.options import (
    changed_option,
    collection_option,
    events_option,
    facts_option,
    format_option,
    given,
    pass_session,
    plan_options,
    policy_option,
    read_duration,
    refuse_many,
    selector_options,
    target_option,
    timings_option,
)
from runner.cli.printing import (
    chosen_format,
    print_error,
    print_warnings,
    show,
    show_github,
    write_page,
)
from runner.errors import InvalidPlan, UsageError
from runner.model import Selectors

if TYPE_CHECKING:
    from runner.app.preview import Preview, Previews
    from runner.model import ExecutionPlan, Problem

MAX_SAMPLES = 200  # events per stage on a page
_EVENTS_TO_SEND = 2


@click.command(
    "plan",
    epilog="\b\nExamples:\n  backfill plan plan.yaml\n  backfill plan plan.yaml --events all"
    "\n  backfill plan plan.yaml --format jsonl | jq -r .item"
    "\n  backfill plan plan.yaml --var window_days=30 --format markdown"
    "\n  backfill plan plans/ --changed-since origin/main",
)
@click.argument("plans", nargs=-1, required=True, type=click.Path())
@plan_options
@selector_options
@collection_option
@policy_option
@changed_option
@target_option
@timings_option
@facts_option
@click.option(
    "--record",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write the database's answers to this file; --facts then plans from it without a "
    "database.",
)
@events_option
@format_option("text", "json", "jsonl", "markdown", "github")
@click.option(
    "--out",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Save the plan: `backfill run FILE` sends exactly this, once.",
)
@click.option(
    "--expires",
    callback=read_duration,
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long the saved plan stays valid.",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write the preview to this file as an HTML page, with the schedule.",
)
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit with 0 if there is nothing to send, with 2 if there are events to send.",
)
@pass_session
def plan_command(
    session: Session,
    plans: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    changed_since: str | None,
    target: str | None,
    events: int | None,
    form: str,
    html: str | None,
    out: str | None,
    record: str | None,
    expires: float,
    *,
    strict: bool,
    detailed_exitcode: bool,
    selectors: Selectors,
) -> int:
    """Show exactly what a run of a plan would send, in which order and at which pace.

    Nothing is sent, and only the plan's database is asked: `backfill run` sends these very events.
    For a folder, every plan is shown, and the exit status is the worst of them.
    """
    from runner.app.preview import keep, preview, previews
    from runner.app.saved import refuse_expired

    form = _chosen(form, html)
    writes = {"--out": out, "--html": html, "--record": record}
    if session.facts and (out or record):
        hint = "plan with a database, without --facts"
        raise UsageError("--facts is only for previews: it excludes --out and --record", hint=hint)
    if out:
        refuse_expired(expires)
    elif given("expires"):
        hint = "name a file to save the plan in with --out, or leave --expires out"
        raise UsageError("--expires does nothing without --out", hint=hint)
    session.recorded = {} if record else None
    if changed_since is not None or len(plans) > 1 or Path(plans[0]).is_dir():
        if html or out or form == "jsonl":
            raise UsageError("--out, --html and --format jsonl work for one plan at a time")
        refuse_many(selectors)
        overrides = read_variables(variables, var_files)
        several = previews(
            session,
            plans,
            changed_since,
            overrides,
            target=target,
            strict=strict,
            writes=writes,
        )
        status = _show_all(several, form, events)
        if not (several.plans or several.errors) and form != "json":
            click.echo(f"no plan has changed since {changed_since}")
        sends = any(one.plan.may_send for one in several.plans)
    else:
        overrides = read_variables(variables, var_files)
        found = preview(
            session,
            plans[0],
            overrides,
            target=target,
            strict=strict,
            selectors=selectors,
            writes=writes,
        )
        if html:
            _write_page(session, found, html, events)
        else:
            _show(session, found, form, events)
        if found.built and form == "github":
            _tell_github(found, events)
        keep(session, found, target, overrides, out, expires)
        status, sends = 0, found.plan.may_send
    if record and not status:
        record_facts(session, record)
    return _EVENTS_TO_SEND if detailed_exitcode and sends and not status else status


def _chosen(form: str, html: str | None) -> str:
    if html and given("form") and form != "github":  # which also writes the step's summary
        raise UsageError("--format does nothing with --html, which writes an HTML page")
    return chosen_format(form)


def _show(session: Session, found: Preview, form: str, events: int | None) -> None:
    from runner.app.estimates import expected_of_preview, tell

    show(found.plan, found.target.name, form=form, events=events)
    if found.built and form in ("text", "github"):
        tell(session, expected_of_preview(session, found.plan))


def _tell_github(found: Preview, events: int | None) -> None:
    from runner.output.preview import plan_markdown

    text = plan_markdown(found.plan, target=found.target.name, events=events)
    show_github(_notable([found.plan]), text)


def _notable(plans: Sequence[ExecutionPlan]) -> list[Problem]:
    """Return what to annotate: the warnings, and the rules that do not hold."""
    broken = [verdict.problem for plan in plans for verdict in plan.broken]
    return [*(warning for plan in plans for warning in plan.warnings), *broken]


def _write_page(session: Session, found: Preview, path: str, events: int | None) -> None:
    from runner.app.estimates import expected_of_preview
    from runner.output.page import plan_page

    page = plan_page(
        found.plan,
        target=found.target.name,
        schedule=found.timeline,
        estimate=expected_of_preview(session, found.plan),
        events=MAX_SAMPLES if events is None else min(events, MAX_SAMPLES),
    )
    write_page(path, page)


def _show_all(found: Previews, form: str, events: int | None) -> int:
    """Print all previews, and errors on stderr; return the exit status."""
    from runner.output.preview import previews_markdown, write_all_json

    plans = [one.plan for one in found.plans]
    target = found.target.name
    warnings = [warning for plan in plans for warning in plan.warnings]
    if form == "json":
        write_all_json(plans, sys.stdout, target=target)
        print_warnings(warnings)
    elif form == "markdown":
        click.echo(previews_markdown(plans, target, events), nl=False)
    else:
        for index, plan in enumerate(plans):
            if index:
                click.echo()
            show(plan, target, form=form, events=events)
    problems = [p for _, e in found.errors if isinstance(e, InvalidPlan) for p in e.problems]
    if form == "github":
        show_github([*problems, *_notable(plans)], previews_markdown(plans, target, events))
    for path, error in found.errors:
        if not isinstance(error, InvalidPlan):
            print_error(error, path)
    if problems:
        print_warnings(problems)
    return max((status_of(error) for _, error in found.errors), default=0)
