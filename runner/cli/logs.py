"""`backfill logs`."""

from __future__ import annotations

import sys

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import format_option, pass_session, state_option
from runner.cli.printing import print_json
from runner.output.run import story_json, write_story


@click.command(
    "logs",
    epilog="\b\nExamples:\n  backfill logs latest\n  backfill logs 01M8 --format json",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
@format_option("text", "json")
@pass_session
def logs_command(session: Session, run: str, form: str) -> None:
    """Tell the story of RUN from its journal: what it did, what it noted, what it waited for."""
    store = session.reader
    record = store.find(run)
    notes, waits = store.story(record)
    if form == "json":
        print_json(story_json(store.glance(record), notes, waits))
    else:
        write_story(store.glance(record), notes, waits, sys.stdout)
