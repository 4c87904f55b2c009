"""`backfill run`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import DEFAULT_STATE, Store
from runner.cli.common import (
    build,
    format_option,
    plan_argument,
    plan_options,
    read_variables,
    state_option,
    target_option,
    wants_color,
)
from runner.cli.plan import events_option, show
from runner.cli.wiring import check_keys, confirm, open_means, stop_on_signals
from runner.errors import (
    BackfillError,
    Incomplete,
    Interrupted,
    RunFailed,
    UsageError,
)
from runner.execution.ports import Journal
from runner.execution.run import execute, preflight
from runner.execution.summary import summarise
from runner.model import ExecutionPlan, Observer, Summary
from runner.spec.units import parse_duration

_STATUSES = {
    "completed": 0,
    "failed": RunFailed.exit_status,
    "incomplete": Incomplete.exit_status,
}


def read_grace(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise UsageError(f"--grace: {error}") from None


grace_option = click.option(
    "--grace",
    callback=read_grace,
    metavar="DURATION",
    help="How long to wait for an event's job to appear before it counts as one that no "
    "function listens to.  [default: 20s]",
)


@click.command(
    "run",
    short_help="Send a plan's events and follow their jobs.",
    epilog="\b\nExamples:\n  backfill run plan.yaml\n  backfill run plan.yaml --dry-run"
    "\n  backfill run plan.yaml --target dev"
    "\n  INNGEST_EVENT_KEY=… INNGEST_SIGNING_KEY=… backfill run plan.yaml --target cloud --yes",
)
@plan_argument
@plan_options
@target_option
@state_option
@click.option("--dry-run", is_flag=True, help="Only show the plan, as `backfill plan` does.")
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Send without following: no job is looked at, no stage waited for.",
)
@grace_option
@events_option
@format_option("text", "json")
def run_command(
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
    grace: float | None,
    events: int | None,
    form: str,
    *,
    strict: bool,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
) -> int:
    """Send the events of PLAN, stage by stage, and follow their jobs to the end.

    Every send is written to a journal first: after ^C or a crash, `backfill resume` carries on.
    """
    overrides = read_variables(variables, var_files)
    execution_plan = build(plan, overrides, strict=strict)
    resolved = resolve(target, os.environ)
    if dry_run:
        show(execution_plan, resolved, form=form, events=events)
        return 0
    if form == "text":
        show(execution_plan, resolved, form=form, events=events)
    preflight(execution_plan)
    follow = check_keys(execution_plan, resolved, follow=not no_wait)
    confirm(execution_plan, resolved, yes=yes)
    store = Store(state or DEFAULT_STATE)

    def start() -> Journal:
        record = replace(execution_plan, path=str(Path(plan).resolve()))
        return store.start(_new_run_id(), record, target=target, variables=overrides, follow=follow)

    return carry_out(execution_plan, resolved, start, follow=follow, grace=grace, form=form)


def carry_out(
    plan: ExecutionPlan,
    target: Target,
    open_journal: Callable[[], Journal],
    *,
    follow: bool,
    grace: float | None,
    form: str,
) -> int:
    """Execute with a display, print the summary, and give the exit status."""
    started = time.monotonic()
    journal: Journal | None = None
    error: BackfillError | None = None
    interrupted = complete = False

    def opened() -> Journal:
        nonlocal journal
        journal = open_journal()
        return journal

    with _display(form) as observer:
        try:
            complete, interrupted = asyncio.run(
                _execute(plan, target, opened, observer, follow=follow, grace=grace)
            )
        except BackfillError as caught:
            error = caught
        except KeyboardInterrupt:
            interrupted = True
    if journal is not None:
        summary = summarise(
            journal,
            plan=plan.name,
            target=target.name,
            followed=follow,
            complete=complete,
            duration=time.monotonic() - started,
        )
        journal.end(summary.status)
        _print(summary, form)
        status = _STATUSES[summary.status]
    if error:
        raise error
    return Interrupted.exit_status if interrupted or journal is None else status


async def _execute(
    plan: ExecutionPlan,
    target: Target,
    open_journal: Callable[[], Journal],
    observer: Observer,
    *,
    follow: bool,
    grace: float | None,
) -> tuple[bool, bool]:
    """Whether the run came to its end, and whether ^C is why it did not."""
    with stop_on_signals(observer) as stop:
        async with open_means(
            plan, target, open_journal, observer, stop, follow=follow, grace=grace
        ) as means:
            complete = await execute(plan, means)
    return complete, signal.SIGINT in stop.signals


@contextmanager
def _display(form: str) -> Iterator[Observer]:
    """A live display where there is a terminal, plain lines where there is none."""
    from runner.output.progress import LiveDisplay, PlainLines

    if sys.stderr.isatty() and form == "text" and os.environ.get("TERM") != "dumb":
        with LiveDisplay(sys.stderr) as display:
            yield display
    else:
        yield PlainLines(sys.stderr)


def _print(summary: Summary, form: str) -> None:
    from runner.output.summary import summary_json, write_summary_text

    if form == "json":
        click.echo(json.dumps(summary_json(summary), indent=2))
    else:
        write_summary_text(summary, sys.stdout, color=wants_color(sys.stdout))


def _new_run_id() -> str:
    from ulid import ULID

    return str(ULID())
