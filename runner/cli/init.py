"""`backfill init`."""

from __future__ import annotations

import click

from runner.model.value import as_argument
from runner.output.text import visible


@click.command(
    "init",
    epilog="\b\nExamples:\n  backfill init plan.yaml && backfill plan plan.yaml\n"
    "  backfill init users.yaml --for users",
)
@click.argument("path", default="plan.yaml", type=click.Path())
@click.option(
    "--for",
    "items",
    metavar="NAME",
    help="Write a plan for items of your own, such as `users`, with a file of them and a catalog.",
)
def init_command(path: str, items: str | None) -> None:
    """Write a first plan to PATH, a file or a folder, ready for editors to complete and explain its
    keys.

    The schema and a small worker are written beside it, and a project file with environments if
    there is none. Existing files are not overwritten.
    """
    from runner.app.init import init

    plan, *others = (visible(str(one)) for one in init(path, items))
    click.echo(f"wrote {', '.join((plan, *others))}")
    click.echo(f"next: backfill plan {as_argument(plan)}")
