"""`backfill plan` of several plans, or of a folder: every one is told of, and the worst decides."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from runner.adapters.inngest.target import Target
from runner.app.prepare import build
from runner.app.session import Session
from runner.cli.main import status_of
from runner.cli.printing import show, tell_github, wants_color, warned
from runner.errors import BackfillError, InvalidPlan
from runner.model import ExecutionPlan, Json, Problem
from runner.output.escape import visible
from runner.output.preview_markdown import previews_markdown
from runner.spec.secrets import redact


def preview_all(
    session: Session,
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
            plan = build(session, file, overrides, strict=strict).execution_plan
        except InvalidPlan as error:
            problems += error.problems
            status = max(status, status_of(error))
        except BackfillError as error:
            click.echo(f"error: {visible(file)}: {visible(redact(str(error)))}", err=True)
            status = max(status, status_of(error))
        else:
            plans.append(plan)
    _print(plans, target, form, events)
    if form == "github":
        told = [warned(plan, target) for plan in plans]
        warnings = [warning for plan in told for warning in plan.warnings]
        tell_github([*problems, *warnings], previews_markdown(told, target.name, events))
    if problems:
        from runner.output.problems import format_problems

        click.echo(format_problems(problems, color=wants_color(sys.stderr)), err=True)
    return status, any(plan.may_send for plan in plans)


def _print(plans: Sequence[ExecutionPlan], target: Target, form: str, events: int | None) -> None:
    if form == "markdown":
        told = [warned(plan, target) for plan in plans]
        click.echo(previews_markdown(told, target.name, events), nl=False)
        return
    if form == "json":
        click.echo("[")
    for index, plan in enumerate(plans):
        if index:
            click.echo("," if form == "json" else "")
        show(plan, target, form=form, events=events)
    if form == "json":
        click.echo("]")
