"""`backfill schedules`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from runner.cli.common import format_option


@click.command(
    "schedules",
    short_help="List the plans that have a schedule.",
    epilog="\b\nExamples:\n  backfill schedules plans/\n  backfill schedules plans/ --format json",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@format_option("text", "json")
def schedules_command(paths: tuple[str, ...], form: str) -> None:
    """List the plans of PATHS that have a `schedule`, the next one first, and when each is due.

    `backfill serve PATHS` starts them; nothing else does.
    """
    from runner.cli.ledger import scheduled_plans
    from runner.output.escape import visible
    from runner.spec.recurring import due_after

    now = datetime.now(UTC)
    lines = sorted(
        (due_after(schedule, now), plan.name, plan.path, schedule)
        for plan, schedule in scheduled_plans(paths)
    )
    if form == "json":
        found = [
            {
                "name": name,
                "path": path,
                "cron": schedule.cron,
                "timezone": schedule.timezone,
                "next": due.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            }
            for due, name, path, schedule in lines
        ]
        click.echo(json.dumps(found, indent=2))
    elif not lines:
        click.echo("no plan here has a schedule")
    for due, name, path, schedule in lines if form == "text" else ():
        when = f"{due:%Y-%m-%d %H:%M} {schedule.timezone}"
        click.echo(f"{when}  {schedule.cron:15}  {visible(name)}  {visible(path)}")
