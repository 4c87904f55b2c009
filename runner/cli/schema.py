"""`backfill schema`."""

from __future__ import annotations

import json

import click

from runner.cli.printing import people
from runner.spec.schema import SCHEMAS, schema_text


@click.command(
    "schema",
    epilog="\b\nExamples:\n  backfill schema\n  backfill schema plan > plan.v1.schema.json"
    "\n  backfill schema status",
)
@click.argument(
    "name",
    required=False,
    metavar="[NAME]",
    type=click.Choice([name.removesuffix(".v1") for name in SCHEMAS]),
)
def schema_command(name: str | None) -> None:
    """Print the JSON Schema of plan files, catalogs, project files, or of what a command prints.

    Without NAME, list the schemas: name, `$id`, and what each describes.
    """
    if name is not None:
        click.echo(schema_text(f"{name}.v1"), nl=False)
        return
    out = people()
    for versioned in SCHEMAS:
        schema = json.loads(schema_text(versioned))
        about = str(schema["description"]).partition(". ")[0].rstrip(".")
        out.write(f"{versioned.removesuffix('.v1'):15} {schema['$id']}\n{'':15} {about}\n")
