"""`backfill init`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from runner.adapters.files import ExistsAlready, make_folder, write_file
from runner.output.text import visible

_PLAN = """\
# yaml-language-server: $schema={schema}
apiVersion: backfill/v1
kind: BackfillPlan
metadata:
  name: {name}
  owner: your-team
  reason: why this backfill runs

workspace: your-workspace-id      # of the repositories below that name none
repos:
  - continuedev/continue
  - {{repo: vercel/ai, priority: high}}

operations:                       # `backfill operations` lists them all
  - repository-sync
  - {{use: embeddings, batch_size: 50, delay: 5s}}
  - workspace-aggregation

batch_size: 25                    # events sent before each delay
delay: 5s                         # between batches
order_by: [priority]
on_failure: stop                  # or continue
"""
_SCHEMA = "plan.v1.schema.json"


@click.command(
    "init",
    epilog="\b\nExamples:\n  backfill init plan.yaml && backfill plan plan.yaml",
)
@click.argument("path", default="plan.yaml", type=click.Path(dir_okay=False))
def init_command(path: str) -> None:
    """Write a first plan to PATH, with the line that makes editors complete and explain its keys.

    The schema is written beside it. Nothing that exists is overwritten.
    """
    from runner.spec.schema import schema_text

    plan = Path(path)
    schema = plan.with_name(_SCHEMA)
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in plan.stem).strip("-_") or "plan"
    make_folder(plan.parent)
    write_file(plan, _PLAN.format(schema=_SCHEMA, name=name), anew=True)
    with suppress(ExistsAlready):
        write_file(schema, schema_text("plan.v1"), anew=True)
    shown = visible(str(plan))
    click.echo(f"wrote {shown} and {visible(str(schema))}; next: backfill plan {shown}")
