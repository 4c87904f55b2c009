"""``--summary-file``: what a run came to, where CI looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runner.adapters.journal.store import Store

# GitHub drops a step's summary that is larger, and with it all that other steps have written.
_MAX_BYTES = 1024 * 1024


def summary_writer(path: str | None, store: Callable[[], Store]) -> Callable[[str], None] | None:
    """What adds the summary of a run to the file; a file that cannot be written ends no run."""
    if path is None:
        return None

    def write(run_id: str) -> None:
        from runner.cli.view import view_of
        from runner.output.run_markdown import run_markdown

        text = run_markdown(view_of(store(), store().find(run_id)))
        append_summary(path, text, f"`backfill report {run_id}` has it")

    return write


def append_summary(path: str, text: str, elsewhere: str) -> None:
    """Add the Markdown to the file, whole or not at all; `elsewhere` has it in any case."""
    file = Path(path)
    try:
        there = file.stat().st_size if file.exists() else 0
        if there + len(text.encode()) + 1 > _MAX_BYTES:
            message = f"{path} is full: GitHub takes no summary larger than 1 MiB"
            click.echo(f"note: {message}; {elsewhere}", err=True)
            return
        with file.open("a", encoding="utf-8") as out:
            out.write(("\n" if there else "") + text)
    except OSError as error:
        click.echo(f"note: {path} cannot be written: {error.strerror}", err=True)
