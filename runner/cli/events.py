"""`backfill events`."""

from __future__ import annotations

import sys
from itertools import chain

import click

from runner.app.session import Session
from runner.cli.completion import complete_operation, complete_run
from runner.cli.options import format_option, pass_session, state_option
from runner.cli.printing import people, wants_color, width_of
from runner.model import FAILURES, OPEN_OUTCOMES
from runner.output.run import write_event_list, write_events

_OUTCOMES = (*OPEN_OUTCOMES, "completed", *sorted(FAILURES))


@click.command(
    "events",
    epilog="\b\nExamples:\n  backfill events latest --failed"
    "\n  backfill events 01M8 --operation embeddings --format csv > events.csv"
    "\n  backfill events latest:onboard --item 'vercel/*' --format jsonl | jq .jobs",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
@click.option(
    "--operation",
    "operations",
    multiple=True,
    metavar="NAME",
    help="Only events of this operation.",
    shell_complete=complete_operation,
)
@click.option(
    "--item",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Only items that match; !GLOB excludes them.",
)
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(_OUTCOMES),
    help="Only events with this outcome.",
)
@click.option("--failed", is_flag=True, help="Only events that did not take effect.")
@format_option("text", "json", "jsonl", "csv")
@pass_session
def events_command(
    session: Session,
    run: str,
    operations: tuple[str, ...],
    patterns: tuple[str, ...],
    outcomes: tuple[str, ...],
    form: str,
    *,
    failed: bool,
) -> None:
    """List the events of RUN in sending order: item, ids, jobs, outcome and message.

    An event without an outcome is `unsent`, `sending` (its answer has not arrived), `running`, or
    `unfollowed` (its jobs are not followed, or no longer).
    """
    from runner.app.queries import events_of

    record, chosen = events_of(session, run, operations, patterns, outcomes, failed=failed)
    first = next(chosen, None)
    if first is None:
        click.echo("no events", err=True)
    found = chain([first] if first else [], chosen)
    if form != "text":
        write_events(record.id, found, sys.stdout, form)
        return
    out = people()
    write_event_list(found, out, color=wants_color(out), width=width_of(out))
