"""``--summary-file``: what a run came to, where CI looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from runner.adapters.files import CannotWrite, append_file, refuse_inputs
from runner.model import ExecutionPlan
from runner.output.escape import visible

if TYPE_CHECKING:
    from runner.adapters.journal.store import Store

# GitHub drops a step's summary that is larger, and with it all that other steps have written.
_MAX_BYTES = 1024 * 1024


def summary_writer(
    path: str | None, store: Callable[[], Store], plan: ExecutionPlan
) -> Callable[[str], None] | None:
    """What adds the summary of a run to the file; a file that cannot be written ends no run.

    Raises `UsageError` where the plan is made of that file.
    """
    if path is None:
        return None
    refuse_inputs({"--summary-file": path}, [plan.path, *(read for read, _ in plan.inputs)])

    def write(run_id: str) -> None:
        from runner.cli.view import view_of
        from runner.output.run_markdown import run_markdown

        text = run_markdown(view_of(store(), store().find(run_id)))
        append_summary(path, text, f"`backfill report {run_id}` has it")

    return write


def append_summary(path: str, text: str, elsewhere: str) -> None:
    """Add the Markdown to the file, whole or not at all; `elsewhere` has it in any case."""
    try:
        if not append_file(path, text, limit=_MAX_BYTES):
            message = f"{path} is full: GitHub takes no summary larger than 1 MiB"
            click.echo(f"note: {visible(message)}; {elsewhere}", err=True)
    except CannotWrite as error:
        click.echo(f"note: {visible(str(error))} ({error.hint}); {elsewhere}", err=True)
