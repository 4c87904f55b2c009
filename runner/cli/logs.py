"""`backfill logs`."""

from __future__ import annotations

import sys

import click

from runner.cli.common import open_to_read, state_option
from runner.cli.completion import complete_run
from runner.output.run_text import write_story


@click.command(
    "logs",
    short_help="Tell what a run did, and why it waited.",
    epilog="\b\nExamples:\n  backfill logs latest\n  backfill logs 01M8",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
def logs_command(run: str, state: str | None) -> None:
    """Tell the story of RUN from its journal: what it did, what it noted, what it waited for."""
    store = open_to_read(state)
    record = store.find(run)
    notes, waits = store.story(record)
    write_story(store.glance(record), notes, waits, sys.stdout)
