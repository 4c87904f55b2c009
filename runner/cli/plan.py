"""`backfill plan`: the preview. It is handed no sender and no journal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.adapters.files import refuse_inputs, write_file
from runner.app.plan_files import PlanFile, plan_files
from runner.app.session import HERE, Session
from runner.cli.main import status_of
from runner.cli.options import (
    changed_option,
    collection_option,
    events_option,
    facts_option,
    format_option,
    pass_session,
    plan_options,
    policy_option,
    read_duration,
    read_variables,
    refuse_many,
    selector_options,
    target_option,
    timings_option,
)
from runner.cli.printing import (
    chosen_format,
    print_error,
    say_estimate,
    show,
    show_github,
    wants_color,
)
from runner.errors import BackfillError, InvalidPlan, PreflightRefused, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Json, Problem, Selectors
from runner.output.documents import document

if TYPE_CHECKING:
    from runner.adapters.inngest.target import Target
    from runner.app.prepare import Built
    from runner.planning.saved import SavedPlan

MAX_SAMPLES = 200  # of a stage, on a page
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
    help="Write what the database answers to this file, for those who have none: see --facts.",
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
    help="How long the saved plan may be run.",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write the preview as a page, with the schedule.",
)
@click.option(
    "--detailed-exitcode", is_flag=True, help="Exit 0: nothing to send; 2: events to send."
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

    Nothing is sent, and nothing is reached but the database that the plan asks: `backfill run`
    sends these very events. Of a folder, every plan is shown, and the exit status is the worst
    of them.
    """
    from runner.app.policy import refuse_broken
    from runner.app.saved import refuse_selectors

    form = chosen_format(form)
    files = {"--out": out, "--html": html, "--record": record}
    if session.facts and (out or record):
        hint = "with a database that can be asked"
        raise UsageError("--facts is for previews: no --out and no --record", hint=hint)
    session.recorded = {} if record else None
    if changed_since is not None or len(plans) > 1 or Path(plans[0]).is_dir():
        if html or out or form == "jsonl":
            raise UsageError("--out, --html and --format jsonl are for one plan at a time")
        refuse_many(selectors)
        status, sends = _preview_all(
            session,
            plan_files(session, plans, changed_since),
            read_variables(variables, var_files),
            target,
            form=form,
            events=events,
            strict=strict,
        )
    elif saved := _saved(session, plans[0], files):
        refuse_selectors(selectors)
        kept = session.target(saved.target, saved.plan.path, saved.environment)
        show(saved.plan, kept, form=form, events=events)
        status, sends = 0, True
    else:
        overrides = read_variables(variables, var_files)
        refuse_inputs(files, [plans[0], *var_files])
        built = _built(
            session, plans[0], target, overrides, files, strict=strict, selectors=selectors
        )
        _preview(session, built, session.target(target, plans[0]), form, events, html)
        refuse_broken(built.execution_plan)
        if out:
            _save(session, built, target, overrides, out, expires)
        status, sends = 0, built.execution_plan.may_send
    if record and not status:
        _record(session, record)
    return _EVENTS_TO_SEND if detailed_exitcode and sends and not status else status


def _saved(session: Session, path: str, files: Mapping[str, str | None]) -> SavedPlan | None:
    """None where the file is no saved plan. What would have no effect is refused."""
    from runner.app.saved import load_saved

    refuse_inputs(files, [path])
    saved = load_saved(path)
    if saved and (session.facts or any(files.values())):
        options = ", ".join(name for name, file in files.items() if file) or "--facts"
        message = f"{options} {'does' if ',' not in options else 'do'} nothing for a saved plan"
        raise UsageError(message, hint="it is shown as it was reviewed")
    return saved


def _built(
    session: Session,
    path: str,
    target: str | None,
    overrides: dict[str, Json],
    files: Mapping[str, str | None],
    *,
    strict: bool,
    selectors: Selectors,
) -> Built:
    from runner.app.prepare import build

    def refuse_own(loaded: BackfillPlan) -> None:
        refuse_inputs(files, [read for read, _ in loaded.inputs])

    built = build(
        session,
        path,
        overrides,
        strict=strict,
        target=target,
        selectors=selectors,
        once_loaded=refuse_own,
    )
    if session.facts and not built.execution_plan.answered_at:
        session.reporter.note("--facts has no effect: the plan asks no database")
    return built


def _preview(
    session: Session, built: Built, target: Target, form: str, events: int | None, html: str | None
) -> None:
    from runner.app.prepare import local_past

    plan = built.execution_plan
    if html:
        _write_page(session, built, target, html, events)
    else:
        show(plan, target, form=form, events=events)
        if form in ("text", "github"):
            say_estimate(plan, local_past(session, plan))
    if form == "github":
        from runner.app.prepare import warned

        _show_github(warned(plan, target), target, events)


def _record(session: Session, path: str) -> None:
    from runner.app.facts import record
    from runner.output.text import visible

    answers = record(session, path)
    number = f"{answers:,} answer{'' if answers == 1 else 's'}"
    safe = visible(path)
    click.echo(f"{number} in {safe}: `--facts {safe}` plans without a database", err=True)


def _save(
    session: Session,
    built: Built,
    target: str | None,
    overrides: dict[str, Json],
    path: str,
    expires: float,
) -> None:
    from runner.app.saved import save
    from runner.output.text import visible

    plan, environment = built.plan.path, session.environment(built.plan.path)
    saved = save(
        built,
        session.target(target, plan),
        session.named_target(target, plan),
        environment.name if environment else "",
        overrides,
        path,
        expires,
    )
    until = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    safe = visible(path)
    click.echo(
        f"saved in {safe} ({Path(path).stat().st_size / 1024:,.0f} KiB), as run {saved.run_id}, "
        f"until {until}: `backfill run {safe}` sends exactly this, once",
        err=True,
    )


def _show_github(plan: ExecutionPlan, target: Target, events: int | None) -> None:
    from runner.output.preview import write_markdown

    text = io.StringIO()
    write_markdown(plan, text, target=target.name, events=events)
    show_github(plan.warnings, text.getvalue())


def _write_page(
    session: Session, built: Built, target: Target, path: str, events: int | None
) -> None:
    from runner.app.prepare import local_past, warned
    from runner.output.page import plan_page
    from runner.output.text import visible
    from runner.planning.estimate import before
    from runner.planning.timeline import simulate

    plan = warned(built.execution_plan, target)
    page = plan_page(
        plan,
        target=target.name,
        schedule=simulate(plan, [repository["repo"] for repository in built.plan.repositories]),
        estimate=before(plan, local_past(session, plan), session.clock.time()),
        events=MAX_SAMPLES if events is None else min(events, MAX_SAMPLES),
    )
    size = write_file(path, page)
    click.echo(f"wrote {visible(path)} ({size / 1024:,.0f} KiB)", err=True)


def _preview_all(
    session: Session,
    files: Sequence[PlanFile],
    overrides: dict[str, Json],
    named: str | None,
    *,
    form: str,
    events: int | None,
    strict: bool,
) -> tuple[int, bool]:
    """The exit status, and whether any of them sends something.

    Those that cannot be planned are told of on stderr, and are no part of JSON and Markdown.
    """
    from runner.app.policy import refuse_broken
    from runner.app.prepare import build, warned
    from runner.output.preview import previews_markdown
    from runner.output.text import visible

    target = _target_of(session, named, files)
    plans: list[ExecutionPlan] = []
    problems: list[Problem] = []
    broken: list[PreflightRefused] = []
    status = 0
    for file in files:
        try:
            if file.is_catalog:
                continue
            plan = build(session, file, overrides, strict=strict, target=named).execution_plan
        except InvalidPlan as error:
            problems += error.problems
            status = max(status, status_of(error))
        except BackfillError as error:
            click.echo(f"error: {visible(file.path)}: {visible(str(error))}", err=True)
            status = max(status, status_of(error))
        else:
            plans.append(plan)
            try:
                refuse_broken(plan)
            except PreflightRefused as error:
                broken.append(error)
    _print_all(plans, target, form, events)
    for refusal in broken:
        print_error(refusal)
        status = max(status, status_of(refusal))
    if form == "github":
        shown = [warned(plan, target) for plan in plans]
        warnings = [warning for plan in shown for warning in plan.warnings]
        show_github([*problems, *warnings], previews_markdown(shown, target.name, events))
    if problems:
        from runner.output.problems import format_problems

        click.echo(format_problems(problems, color=wants_color(sys.stderr)), err=True)
    return status, any(plan.may_send for plan in plans)


def _target_of(session: Session, named: str | None, files: Sequence[PlanFile]) -> Target:
    """Where the events of all of them go."""
    paths = [file.path for file in files if not file.is_catalog]
    found = {session.target(named, path) for path in paths or [HERE]}
    if len(found) > 1:
        names = ", ".join(sorted(target.name for target in found))
        hint = "show them one project at a time, or give --target"
        raise UsageError(f"these plans have several targets: {names}", hint=hint)
    return found.pop()


def _print_all(
    plans: Sequence[ExecutionPlan], target: Target, form: str, events: int | None
) -> None:
    if form == "markdown":
        from runner.app.prepare import warned
        from runner.output.preview import previews_markdown

        shown = [warned(plan, target) for plan in plans]
        click.echo(previews_markdown(shown, target.name, events), nl=False)
        return
    if form == "json":
        head = json.dumps(document("ExecutionPlanList", plans=[]))
        click.echo(head.removesuffix("]}"))
    for index, plan in enumerate(plans):
        if index:
            click.echo("," if form == "json" else "")
        show(plan, target, form=form, events=events)
    if form == "json":
        click.echo("]}")
