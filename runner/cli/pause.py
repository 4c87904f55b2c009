"""`backfill pause`."""

from __future__ import annotations

import click

from runner.cli.common import open_store, state_option
from runner.cli.completion import complete_run
from runner.errors import UsageError


@click.command(
    "pause",
    short_help="Hold a run that is under way.",
    epilog="\b\nExamples:\n  backfill pause latest\n  backfill resume latest    (goes on)",
)
@click.argument("run", shell_complete=complete_run)
@state_option
def pause_command(run: str, state: str | None) -> int:
    """Hold RUN, from whatever terminal or machine: nothing is sent after the request in flight.

    Jobs that were started go on and are followed; `backfill resume` lets the run go on.
    """
    store = open_store(state)
    state_of_run = store.run_state(run)
    record, holder = state_of_run.record, state_of_run.holder
    if record.status != "running":
        raise UsageError(f"run {record.id} is not under way: it is {record.status}")
    if holder is None:
        hint = f"`backfill resume {record.id}` carries it on"
        raise UsageError(f"run {record.id} is not under way: no process holds it", hint=hint)
    store.order(record.id, wanted="pause")
    when = f"is paused after the request in flight ({holder})"
    if state_of_run.parked and (left := state_of_run.submission):
        when = f"is paused: it is left to the workers ({left.due}), and they send nothing more"
    click.echo(f"run {record.id} {when}; `backfill resume {record.id}` lets it go on")
    return 0
