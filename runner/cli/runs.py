"""`backfill runs`."""

from __future__ import annotations

import time

import click

from runner.app.session import Session
from runner.cli.completion import complete_plan_name, complete_target
from runner.cli.options import Count, format_option, pass_session, read_duration, state_option
from runner.cli.printing import people, print_json, wants_color, width_of
from runner.model import STATES
from runner.output.run import runs_json, write_lines
from runner.output.state import write_holds


@click.command(
    "runs",
    epilog="\b\nExamples:\n  backfill runs\n  backfill runs --state-is running"
    "\n  backfill runs --plan 'refresh-*' --since 7d --format json",
)
@state_option
@click.option(
    "--plan",
    metavar="PATTERN",
    help="Only runs of plans whose name matches; `*` stands for any text.",
    shell_complete=complete_plan_name,
)
@click.option(
    "--target",
    "-t",
    metavar="TARGET",
    help="Only runs on this target.",
    shell_complete=complete_target,
)
@click.option(
    "--state-is",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="Only runs in this state; may be given more than once.",
)
@click.option(
    "--since",
    callback=read_duration,
    metavar="DURATION",
    help="Only runs that were started within this time, such as 7d.",
)
@click.option("--limit", type=Count(1), default=20, show_default=True)
@format_option("text", "json")
@pass_session
def runs_command(
    session: Session,
    plan: str | None,
    target: str | None,
    states: tuple[str, ...],
    since: float | None,
    limit: int,
    form: str,
) -> None:
    """List the runs in the state store, the latest first, and the targets that are held."""
    from runner.app.queries import runs_and_holds

    began = 0.0 if since is None else time.time() - since
    lines, more, holds = runs_and_holds(
        session, plan=plan, target=target, states=states, since=began, limit=limit
    )
    if form == "json":
        print_json(runs_json(lines, holds, more=more))
        return
    if lines:
        out = people()
        write_lines(lines, out, color=wants_color(out), width=width_of(out))
        if more:
            click.echo(f"these are the latest {len(lines):,}; --limit lists more", err=True)
    else:
        click.echo("no runs", err=True)
    write_holds(holds, people())
