"""`backfill pending`."""

from __future__ import annotations

import json
import os
import sys

import click

from runner.adapters.inngest.target import resolve
from runner.cli.common import (
    format_option,
    open_store,
    plan_options,
    read_variables,
    state_option,
    target_option,
    wants_color,
)
from runner.cli.plan_files import changed_option


@click.command(
    "pending",
    short_help="List the plans that are still to be applied.",
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
def pending_command(
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
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
    address = resolve(target, os.environ).address
    entries = standing(plans, overrides, open_store(state), address)
    shown = [entry for entry in entries if everything or entry.standing != "applied"]
    if form == "json":
        click.echo(json.dumps(ledger_json(shown), indent=2))
    elif shown:
        click.echo(ledger_text(shown, color=wants_color(sys.stdout)))
    else:
        click.echo(f"nothing is pending: {len(entries)} plans are applied")
