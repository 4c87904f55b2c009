"""`backfill format`."""

from __future__ import annotations

import click

from runner.adapters.files import write_file
from runner.app.plan_files import paths_of
from runner.errors import InvalidPlan, UsageError
from runner.model import Problem
from runner.output.text import visible
from runner.spec.files import FileRefused, read_plan
from runner.spec.units import counted

_OTHERWISE = 1


@click.command(
    "format",
    epilog="\b\nExamples:\n  backfill format plans/\n  backfill format plans/ --check",
)
@click.argument("plans", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--check",
    is_flag=True,
    help="Only list the files that would change; exit with 1 if there are any.",
)
def format_command(plans: tuple[str, ...], *, check: bool) -> int:
    """Format PLANS in place: plan files and catalogs, and those in folders.

    Keys are put into the order of `backfill schema`, durations into their shortest form. Comments,
    quotes and blank lines stay. Other YAML files are ignored. If any file has problems, nothing is
    written.
    """
    from runner.spec.layout import formatted

    files: dict[str, tuple[bytes, bytes]] = {}
    problems: list[Problem] = []
    for path in paths_of(plans):
        old = _read(path)
        try:
            new = formatted(old, path)
        except InvalidPlan as error:
            problems += error.problems
        else:
            if new is not None:
                files[path] = old, new
    if problems:
        raise InvalidPlan(tuple(problems))
    changed = {path: new for path, (old, new) in files.items() if new != old}
    for path, new in changed.items():
        if not check:
            write_file(path, new)
        click.echo(f"{visible(path)}: {'would be formatted' if check else 'formatted'}")
    if not changed:
        count = len(files)
        click.echo(f"nothing to do: {counted(count, 'file', 'are')} formatted already")
    return _OTHERWISE if check and changed else 0


def _read(path: str) -> bytes:
    try:
        return read_plan(path)
    except FileRefused as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=error.hint) from None
