"""`backfill plan`: the preview. It is handed no sender and no journal."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.adapters.files import refuse_inputs, write_file
from runner.adapters.inngest.target import Target, resolve
from runner.cli.common import (
    Built,
    build,
    format_option,
    local_past,
    plan_options,
    read_duration,
    read_variables,
    target_option,
    timings_option,
    wants_color,
)
from runner.cli.github import chosen_format, tell_github
from runner.cli.plan_files import changed_option, plan_files
from runner.errors import UsageError
from runner.model import BackfillPlan, ExecutionPlan, Problem

if TYPE_CHECKING:
    from runner.planning.estimate import Past

DEFAULT_EVENTS = 3
MAX_SAMPLES = 200  # of a stage, on a page
_EVENTS_TO_SEND = 2


def read_events(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    """A count, or None for `all`."""
    if value == "all":
        return None
    if not value.isdecimal():
        raise UsageError("--events wants a number, or all")
    return int(value)


events_option = click.option(
    "--events",
    default=str(DEFAULT_EVENTS),
    show_default=True,
    callback=read_events,
    metavar="N|all",
    help="How many events of each stage to show.",
)


@click.command(
    "plan",
    short_help="Show what a run would send.",
    epilog="\b\nExamples:\n  backfill plan plan.yaml\n  backfill plan plan.yaml --events all"
    "\n  backfill plan plan.yaml --format jsonl | jq -r .item"
    "\n  backfill plan plan.yaml --var window_days=30 --format markdown"
    "\n  backfill plan plans/ --changed-since origin/main",
)
@click.argument("plans", nargs=-1, required=True, type=click.Path())
@plan_options
@changed_option
@target_option
@timings_option
@events_option
@format_option("text", "json", "jsonl", "markdown", "github")
@click.option(
    "--out",
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
def plan_command(
    plans: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    changed_since: str | None,
    target: str,
    events: int | None,
    form: str,
    html: str | None,
    out: str | None,
    expires: float,
    *,
    strict: bool,
    detailed_exitcode: bool,
) -> int:
    """Show exactly what a run of a plan would send, in which order and at which pace.

    Nothing is sent, and nothing is reached but the database that the plan asks: `backfill run`
    sends these very events. Of a folder, every plan is shown, and the exit status is the worst
    of them.
    """
    from runner.cli.saved import load_saved, save

    form = chosen_format(form)
    if changed_since is not None or len(plans) > 1 or Path(plans[0]).is_dir():
        if html or out or form == "jsonl":
            raise UsageError("--out, --html and --format jsonl are for one plan at a time")
        from runner.cli.previews import preview_all

        status, sends = preview_all(
            plan_files(plans, changed_since),
            read_variables(variables, var_files),
            resolve(target, os.environ),
            form=form,
            events=events,
            strict=strict,
        )
        return _EVENTS_TO_SEND if detailed_exitcode and sends and not status else status
    (plan,) = plans
    written = {"--out": out, "--html": html}
    refuse_inputs(written, [plan, *var_files])
    if saved := load_saved(plan):
        show(saved.plan, resolve(saved.target, os.environ), form=form, events=events)
        return _EVENTS_TO_SEND if detailed_exitcode else 0
    overrides = read_variables(variables, var_files)

    def refuse_own(loaded: BackfillPlan) -> None:
        refuse_inputs(written, [path for path, _ in loaded.inputs])

    built = build(plan, overrides, strict=strict, once_loaded=refuse_own)
    execution_plan = built.execution_plan
    resolved = resolve(target, os.environ)
    if html:
        _write_page(built, resolved, html, events)
    else:
        show(execution_plan, resolved, form=form, events=events)
        if form in ("text", "github"):
            say_estimate(execution_plan, local_past(execution_plan))
    if out:
        save(built, resolved, target, overrides, out, expires)
    if form == "github":
        _tell_github(warned(execution_plan, resolved), resolved, events)
    return _EVENTS_TO_SEND if detailed_exitcode and execution_plan.may_send else 0


def _tell_github(plan: ExecutionPlan, target: Target, events: int | None) -> None:
    from runner.output.preview_markdown import write_markdown

    text = io.StringIO()
    write_markdown(plan, text, target=target.name, events=events)
    tell_github(plan.warnings, text.getvalue())


def _write_page(built: Built, target: Target, path: str, events: int | None) -> None:
    from runner.output.escape import visible
    from runner.output.page import plan_page
    from runner.planning.estimate import before
    from runner.planning.schedule import simulate

    plan = warned(built.execution_plan, target)
    page = plan_page(
        plan,
        target=target.name,
        schedule=simulate(plan, [repository["repo"] for repository in built.plan.repositories]),
        estimate=before(plan, local_past(plan)),
        events=MAX_SAMPLES if events is None else min(events, MAX_SAMPLES),
    )
    size = write_file(path, page)
    click.echo(f"wrote {visible(path)} ({size / 1024:,.0f} KiB)", err=True)


def say_estimate(plan: ExecutionPlan, past: Mapping[str, Past]) -> None:
    """On stderr, where earlier runs tell more than the pacing: the same plan prints the same."""
    from runner.planning.estimate import before

    if past:
        click.echo(f"time: {before(plan, past).words}", err=True)


def show(plan: ExecutionPlan, target: Target, *, form: str, events: int | None) -> None:
    """Print the preview on stdout, and its warnings on stderr where it does not hold them."""
    plan = warned(plan, target)
    out: Any = sys.stdout
    if form == "json":
        from runner.output.preview_json import write_json

        write_json(plan, out, target=target.name)
    elif form == "jsonl":
        from runner.output.preview_json import write_jsonl

        write_jsonl(plan, out)
    elif form == "markdown":
        from runner.output.preview_markdown import write_markdown

        write_markdown(plan, out, target=target.name, events=events)
        return
    else:
        from runner.output.preview_text import write_text

        width = shutil.get_terminal_size((80, 24)).columns if out.isatty() else 80
        color = wants_color(out)
        write_text(plan, out, target=target.name, events=events, color=color, width=width)
    if plan.warnings:
        from runner.output.problems import format_problems

        click.echo(format_problems(plan.warnings, color=wants_color(sys.stderr)), err=True)


def warned(plan: ExecutionPlan, target: Target) -> ExecutionPlan:
    """With what is unwise about the plan on this target."""
    return replace(plan, warnings=(*plan.warnings, *handler_warnings(plan, target)))


def handler_warnings(plan: ExecutionPlan, target: Target) -> list[Problem]:
    """On the embedded target an event without a handler starts no job, as on a real server."""
    silent = {stage.event for stage in plan.stages} - set(plan.handlers)
    if target.kind != "embedded" or not silent:
        return []
    names = ", ".join(f"`{event}`" for event in sorted(silent))
    return [
        Problem(
            f"the embedded target has no handler for {names}: no job will start",
            plan.path,
            hint="name one in the plan's `handlers`, or choose a server with --target",
            severity="warning",
            rule="no-handler",
        )
    ]
