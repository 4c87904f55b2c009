"""`backfill migrate`."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.plan_files import plan_files
from runner.errors import InvalidPlan, UsageError
from runner.model import Problem

_OLD = 1


@click.command(
    "migrate",
    short_help="Rewrite older plan files in the form of today.",
    epilog="\b\nExamples:\n  backfill migrate plans/\n  backfill migrate plans/ --check",
)
@click.argument("plans", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--check", is_flag=True, help="Only say which are older; exit 1 where any is.")
def migrate_command(plans: tuple[str, ...], *, check: bool) -> int:
    """Rewrite PLANS, and the plan files of folders, in place; their comments stay.

    What is of the form of today is left as it is. Nothing is written where any has problems.
    """
    from runner.spec.migrate import CURRENT, migrated

    rewritten: dict[str, str] = {}
    problems: list[Problem] = []
    for path in plan_files(plans):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        try:
            new = migrated(text, path, Path(path).stem)
        except InvalidPlan as error:
            problems += error.problems
        else:
            if new is not None:
                rewritten[path] = new
    if problems:
        raise InvalidPlan(tuple(problems))
    for path, text in rewritten.items():
        if not check:
            Path(path).write_text(text, encoding="utf-8")
        click.echo(f"{path}: {'is of an older form' if check else f'is now {CURRENT}'}")
    if not rewritten:
        click.echo(f"nothing to do: all are {CURRENT}")
    return _OLD if check and rewritten else 0
