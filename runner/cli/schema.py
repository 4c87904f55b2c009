"""`backfill schema`."""

from __future__ import annotations

import click

from runner.spec.schema import SCHEMAS, schema_text


@click.command(
    "schema",
    short_help="Print a JSON Schema.",
    epilog="\b\nExamples:\n  backfill schema plan > plan.v1.schema.json",
)
@click.argument("name", type=click.Choice([name.removesuffix(".v1") for name in SCHEMAS]))
def schema_command(name: str) -> None:
    """Print the JSON Schema of plan files, catalogs, project files, and what is made of plans."""
    click.echo(schema_text(f"{name}.v1"), nl=False)
