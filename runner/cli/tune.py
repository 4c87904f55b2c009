"""`backfill tune`."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.common import open_store, read_duration, state_option
from runner.cli.completion import complete_run
from runner.errors import UsageError
from runner.spec.units import format_duration


@click.command(
    "tune",
    short_help="Change the pace of a run that is under way.",
    epilog="\b\nExamples:\n  backfill tune latest --batch-size 20 --delay 10s",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--batch-size", type=click.IntRange(1), help="Events sent before each delay.")
@click.option(
    "--delay", callback=read_duration, metavar="DURATION", help="The pause between batches."
)
def tune_command(run: str, state: str | None, batch_size: int | None, delay: float | None) -> int:
    """Change the pace of RUN from its next batch on, in all stages, also across a resume.

    What the payloads say to the workers (as `embeddings` does) stays as it was planned.
    """
    orders: dict[str, Any] = {}
    if batch_size is not None:
        orders["batch_size"] = batch_size
    if delay is not None:
        orders["delay"] = delay
    if not orders:
        raise UsageError("nothing to change", hint="say --batch-size, --delay, or both")
    store = open_store(state)
    record = store.find(run)
    if record.status in ("completed", "failed", "cancelled"):
        raise UsageError(f"run {record.id} is not under way: it is {record.status}")
    store.order(record.id, **orders)
    words = [f"batches of {batch_size:,}"] if batch_size else []
    words += [f"{format_duration(orders['delay'])} apart"] if delay is not None else []
    click.echo(f"run {record.id}: {', '.join(words)} from the next batch on")
    return 0
