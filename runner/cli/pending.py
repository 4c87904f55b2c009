"""`backfill pending`."""

from __future__ import annotations

import json
import sys

import click

from runner.app.session import Session
from runner.cli.options import (
    format_option,
    pass_session,
    plan_options,
    read_variables,
    state_option,
    target_option,
)
from runner.cli.plan_files import changed_option
from runner.cli.printing import wants_color


@click.command(
    "pending",
    epilog="\b\nExamples:\n  backfill pending plans/\n"
    "  backfill pending plans/ --target cloud --all --format json",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@plan_options
@changed_option
@target_option
@state_option
@click.option("--all", "everything", is_flag=True, help="Applied ones too.")
@format_option("text", "json")
@pass_session
def pending_command(
    session: Session,
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    form: str,
    changed_since: str | None,
    *,
    strict: bool,
    everything: bool,
) -> None:
    """List what `backfill apply PATHS` would run, in its order; and what has changed or failed."""
    from runner.cli.ledger import find_plans, standing
    from runner.output.ledger import ledger_json, ledger_text

    overrides = read_variables(variables, var_files)
    plans = find_plans(paths, overrides, changed_since, strict=strict)
    address = session.target(target).address
    entries = standing(plans, overrides, session.store, address)
    shown = [entry for entry in entries if everything or entry.standing != "applied"]
    if form == "json":
        click.echo(json.dumps(ledger_json(shown), indent=2))
    elif shown:
        click.echo(ledger_text(shown, color=wants_color(sys.stdout)))
    else:
        click.echo(f"nothing is pending: {len(entries)} plans are applied")
