"""`backfill tune`."""

from __future__ import annotations

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import Count, pass_session, read_duration, state_option
from runner.spec.units import format_duration


@click.command(
    "tune",
    epilog="\b\nExamples:\n  backfill tune latest --batch-size 20 --delay 10s"
    "\n  backfill tune latest --max-in-flight 100",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--batch-size", type=Count(1), help="Events sent before each delay.")
@click.option(
    "--delay", callback=read_duration, metavar="DURATION", help="The pause between batches."
)
@click.option(
    "--max-in-flight",
    type=Count(1),
    metavar="N",
    help="The most events that may be without an outcome.",
)
@pass_session
def tune_command(
    session: Session,
    run: str,
    batch_size: int | None,
    delay: float | None,
    max_in_flight: int | None,
) -> int:
    """Change the pace of RUN from its next batch on, in all stages. A resume keeps the change.

    A pace that the payloads pass on to the workers (as `embeddings` does) stays as planned.
    """
    from runner.app.control import tune

    record = tune(session, run, batch_size=batch_size, delay=delay, max_in_flight=max_in_flight)
    words = [f"batches of {batch_size:,}"] if batch_size else []
    words += [f"{format_duration(delay)} apart"] if delay is not None else []
    words += [f"at most {max_in_flight:,} in flight"] if max_in_flight else []
    click.echo(f"run {record.id}: {', '.join(words)} from the next batch on")
    return 0
