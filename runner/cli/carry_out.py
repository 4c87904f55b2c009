"""What `run` and `resume` share: execute with a display, print the summary, pick the status."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import time
from collections.abc import Callable

import click

from runner.adapters.inngest.target import Target
from runner.cli.common import wants_color
from runner.cli.display import display
from runner.cli.streams import outcome_decides
from runner.cli.wiring import Settings, open_means, stop_on_signals
from runner.errors import (
    BackfillError,
    Incomplete,
    Interrupted,
    LeaseLost,
    RunFailed,
    TargetDown,
    TargetError,
)
from runner.execution.means import Ending
from runner.execution.ports import Journal
from runner.execution.run import execute
from runner.execution.summary import summarise
from runner.execution.watch import beside, watch
from runner.model import ExecutionPlan, Observer, Summary
from runner.spec.secrets import redact

_STATUSES = {
    "completed": 0,
    "failed": RunFailed.exit_status,
    "incomplete": Incomplete.exit_status,
    "cancelled": Incomplete.exit_status,
}


def carry_out(
    plan: ExecutionPlan,
    target: Target,
    open_journal: Callable[[], Journal],
    settings: Settings,
    *,
    form: str,
) -> int:
    """Execute the plan and print its summary; the exit status.

    Raises what ended the run early, after the summary has said how far it came.
    """
    outcome_decides()
    started = time.monotonic()
    journal: Journal | None = None
    error: BackfillError | None = None
    interrupted, ending = False, Ending("stopped")

    def opened() -> Journal:
        nonlocal journal
        journal = open_journal()
        return journal

    with display(form) as observer:
        try:
            ending, interrupted = asyncio.run(_execute(plan, target, opened, observer, settings))
        except BackfillError as caught:
            error = caught
        except KeyboardInterrupt:
            interrupted = True
    status = Interrupted.exit_status
    try:
        if journal is not None:
            summary = summarise(
                journal,
                plan=plan.name,
                target=target.name,
                followed=settings.follow,
                ending=ending,
                duration=time.monotonic() - started,
            )
            if not isinstance(error, LeaseLost):
                why = redact(str(error)) if error else ending.reason
                journal.end(summary.status, why)
            _print(summary, form)
            if settings.summary:
                settings.summary(journal.run_id)
            status = status if interrupted else _STATUSES[summary.status]
    except TargetError as unreachable:
        error = error or unreachable  # a journal that has failed cannot say how far the run came
    if error:
        raise error
    return status


async def _execute(
    plan: ExecutionPlan,
    target: Target,
    open_journal: Callable[[], Journal],
    observer: Observer,
    settings: Settings,
) -> tuple[Ending, bool]:
    """How the run ended, and whether that was ^C."""
    gc.freeze()  # the plan stays as it is: looking through it again and again finds nothing
    with stop_on_signals(observer) as stop:
        async with open_means(plan, target, open_journal, observer, stop, settings) as means:
            try:
                async with beside(watch(means.journal, stop.event)):
                    ending = await execute(plan, means)
            except (TargetDown, Incomplete):
                if not stop.event.is_set():
                    raise
                ending = Ending("stopped")  # the request in flight stays without an answer
    return ending, signal.SIGINT in stop.signals


def _print(summary: Summary, form: str) -> None:
    from runner.output.summary import summary_json, write_summary_text

    if form == "json":
        click.echo(json.dumps(summary_json(summary), indent=2))
    else:
        write_summary_text(summary, sys.stdout, color=wants_color(sys.stdout))
