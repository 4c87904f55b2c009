"""`backfill diff`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from runner.adapters.git import checked_out
from runner.cli.common import build, format_option, plan_options, read_variables, wants_color
from runner.cli.saved import load_saved
from runner.model import ExecutionPlan, Json

_DIFFERENT = 2


@click.command(
    "diff",
    short_help="Show what a change to a plan does.",
    epilog="\b\nExamples:\n  backfill diff old.yaml new.yaml"
    "\n  backfill diff main..HEAD plans/refresh.yaml --format markdown"
    "\n  backfill diff saved.json plans/refresh.yaml --exit-code",
)
@click.argument("old")
@click.argument("new")
@plan_options
@format_option("text", "json", "markdown")
@click.option("--exit-code", is_flag=True, help="Exit 0: the same; 2: different.")
def diff_command(
    old: str,
    new: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    form: str,
    *,
    strict: bool,
    exit_code: bool,
) -> int:
    """Show what would be sent otherwise: from the plan OLD to the plan NEW.

    Each is a plan file, or a plan that `backfill plan --out` has saved. OLD may also be two git
    revisions, as in `main..HEAD` (or one, to compare with the files as they are); NEW is then the
    plan file in both. Nothing is sent; a database that a plan asks is asked.
    """
    from runner.planning.compare import compare

    overrides = read_variables(variables, var_files)
    if ".." in old or not Path(old).exists():
        before, after = _revisions(old, new, overrides, strict=strict)
        names = _names(old, new)
    else:
        before, after = (_plan(path, overrides, strict=strict) for path in (old, new))
        names = (old, new)
    found = compare(before, after)
    if form == "json":
        from runner.output.difference import difference_json

        click.echo(json.dumps(difference_json(found), indent=2))
    elif form == "markdown":
        from runner.output.difference import difference_markdown

        click.echo(difference_markdown(found, *names), nl=False)
    else:
        from runner.output.difference import write_difference

        write_difference(found, sys.stdout, color=wants_color(sys.stdout))
    return _DIFFERENT if exit_code and found.changes else 0


def _plan(path: str, overrides: dict[str, Json], *, strict: bool) -> ExecutionPlan:
    if saved := load_saved(path):
        return saved.plan
    return build(path, overrides, strict=strict).execution_plan


def _names(revisions: str, path: str) -> tuple[str, str]:
    first, _, second = revisions.partition("..")
    return f"{first}:{path}", f"{second.lstrip('.')}:{path}" if second else path


def _revisions(
    revisions: str, path: str, overrides: dict[str, Json], *, strict: bool
) -> tuple[ExecutionPlan, ExecutionPlan]:
    first, dots, second = revisions.partition("..")
    second = second.lstrip(".")
    with checked_out(first or "HEAD", path) as there:
        before = build(there, overrides, strict=strict).execution_plan
    if not dots:
        return before, build(path, overrides, strict=strict).execution_plan
    with checked_out(second or "HEAD", path) as there:
        return before, build(there, overrides, strict=strict).execution_plan
