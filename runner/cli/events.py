"""`backfill events`."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from itertools import chain

import click

from runner.app.session import Session
from runner.cli.completion import complete_operation, complete_run
from runner.cli.options import format_option, pass_session, state_option
from runner.errors import UsageError
from runner.model import FAILURES
from runner.output.run import write_events
from runner.output.text import clipped, visible
from runner.spec.secrets import redact

_OUTCOMES = ("unsent", "sending", "running", "completed", *sorted(FAILURES))
_MESSAGE = 200


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
    help="Only its events.",
    shell_complete=complete_operation,
)
@click.option("--item", "patterns", multiple=True, metavar="PATTERN", help="Only these items.")
@click.option(
    "--outcome", "outcomes", multiple=True, type=click.Choice(_OUTCOMES), help="Only such events."
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

    An event without an outcome is `unsent`, `sending` (its answer has not arrived) or `running`.
    """
    store = session.reader
    record = store.find(run)
    view = store.glance(record)
    known = {stage.operation for stage in view.stages}
    for name in operations:
        if name not in known:
            hint = f"it has {', '.join(sorted(known))}"
            raise UsageError(f"run {record.id} has no operation `{name}`", hint=hint)
    stages = {stage.number for stage in view.stages if stage.operation in operations}
    wanted = {*outcomes, *(FAILURES if failed else ())}
    chosen = (
        event
        for event in store.events(record, stages, wanted)
        if not patterns or any(fnmatchcase(event.item, pattern) for pattern in patterns)
    )
    first = next(chosen, None)
    if first is None:
        click.echo("no events", err=True)
    found = chain([first] if first else [], chosen)
    if form != "text":
        write_events(record.id, found, sys.stdout, form)
        return
    for event in found:
        message = clipped(redact(event.message or ""), _MESSAGE)
        job = event.jobs[-1].url or event.jobs[-1].id if event.jobs else ""
        parts = (f"{event.outcome:9}", event.operation, event.item, job, message)
        sys.stdout.write("  ".join(visible(part) for part in parts if part) + "\n")
