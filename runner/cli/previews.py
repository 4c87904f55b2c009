"""`backfill plan` of several plans, or of a folder: every one is told of, and the worst decides."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from runner.adapters.inngest.target import Target
from runner.cli.common import build, wants_color
from runner.cli.github import tell_github
from runner.cli.plan import show, warned
from runner.errors import BackfillError, InvalidPlan
from runner.model import ExecutionPlan, Json, Problem
from runner.output.escape import visible
from runner.output.markdown import MAX_CHARACTERS
from runner.spec.secrets import redact

_RESERVE = 100  # characters, for the line that counts what is left out
_PART = 3_000  # what a plan may take at least


def preview_all(
    files: Sequence[str],
    overrides: dict[str, Json],
    target: Target,
    *,
    form: str,
    events: int | None,
    strict: bool,
) -> tuple[int, bool]:
    """The exit status, and whether any of them sends something.

    Those that cannot be planned are told of on stderr, and are no part of JSON and Markdown.
    """
    from runner.spec.load import check_catalog

    plans: list[ExecutionPlan] = []
    problems: list[Problem] = []
    status = 0
    for file in files:
        try:
            if check_catalog(file) is not None:
                continue
            plan = build(file, overrides, strict=strict).execution_plan
        except InvalidPlan as error:
            problems += error.problems
            status = max(status, error.exit_status)
        except BackfillError as error:
            click.echo(f"error: {visible(file)}: {visible(redact(str(error)))}", err=True)
            status = max(status, error.exit_status)
        else:
            plans.append(warned(plan, target))
    _print(plans, target, form, events)
    if form == "github":
        warnings = [warning for plan in plans for warning in plan.warnings]
        tell_github([*problems, *warnings], _markdown(plans, target, events))
    if problems:
        from runner.output.problems import format_problems

        click.echo(format_problems(problems, color=wants_color(sys.stderr)), err=True)
    sends = any(plan.events or any(stage.deferred for stage in plan.stages) for plan in plans)
    return status, sends


def _print(plans: Sequence[ExecutionPlan], target: Target, form: str, events: int | None) -> None:
    if form == "markdown":
        click.echo(_markdown(plans, target, events), nl=False)
        return
    if form == "json":
        click.echo("[")
    for index, plan in enumerate(plans):
        if index:
            click.echo("," if form == "json" else "")
        show(plan, target, form=form, events=events)
    if form == "json":
        click.echo("]")


def _markdown(plans: Sequence[ExecutionPlan], target: Target, events: int | None) -> str:
    """All of them within a comment's limit; of those that do not fit, how many there are."""
    from runner.output import words
    from runner.output.preview_markdown import write_markdown

    room, parts, left_out = MAX_CHARACTERS - _RESERVE, list[str](), 0
    for index, plan in enumerate(plans):
        share = max(_PART, room // (len(plans) - index))
        out = io.StringIO()
        write_markdown(plan, out, target=target.name, events=events, room=share - 1)
        part = out.getvalue()
        if len(part) + 1 > room:
            left_out += 1
            continue
        parts.append(part)
        room -= len(part) + 1
    if left_out:
        more = words.counted(left_out, "more plan")
        parts.append(f"... and {more}, for which there is no room.\n")
    return "\n".join(parts)
