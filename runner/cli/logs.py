"""`backfill logs`."""

from __future__ import annotations

import time

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.main import status_of
from runner.cli.options import format_option, pass_session, state_option
from runner.cli.printing import people, print_json
from runner.errors import UsageError
from runner.output import words
from runner.output.run import StoryWriter, story_json

_EVERY = 1.0  # seconds between two looks


@click.command(
    "logs",
    epilog="\b\nExamples:\n  backfill logs latest\n  backfill logs latest:refresh --follow"
    "\n  backfill logs 01M8 --format json",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
@click.option(
    "--follow", "-f", is_flag=True, help="Keep printing until the run ends; exit with its status."
)
@format_option("text", "json")
@pass_session
def logs_command(session: Session, run: str, form: str, *, follow: bool) -> int:
    """Show what happened in RUN, from its journal: its batches, its first failures, its notes and
    waits, and who started, resumed, retried, paused, tuned or cancelled it.

    Without --follow, the exit status is 0; with it, it is that of the run, or 7 if no process
    drives it any more.
    """
    store = session.reader
    record = store.find(run)
    if form == "json":
        if follow:
            raise UsageError("--follow prints text", hint="leave out --format json")
        print_json(story_json(store.story(record)))
        return 0
    writer = StoryWriter(people())
    while True:
        story = store.story(store.find(record.id))
        writer.write(story)
        view = story.view
        if not follow:
            return 0
        if view.record.status != "running" or view.holder is None:
            if view.state == "dead":
                click.echo(words.nobody(view), err=True)
            return status_of(view.record.status)
        time.sleep(_EVERY)
