"""`backfill validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.main import ERROR_STATUS
from runner.cli.options import (
    changed_option,
    collection_option,
    facts_option,
    format_option,
    pass_session,
    plan_options,
    policy_option,
)
from runner.cli.printing import annotate, chosen_format, print_json, wants_color
from runner.errors import InvalidPlan, PreflightRefused
from runner.model import Problem
from runner.output.text import visible
from runner.spec.units import counted


@click.command(
    "validate",
    epilog="\b\nExamples:\n  backfill validate plans/*.yaml"
    "\n  backfill validate plan.yaml --strict --format json",
)
@click.argument("plans", nargs=-1, required=True, type=click.Path())
@plan_options
@collection_option
@policy_option
@format_option("text", "json", "github", "sarif")
@changed_option
@facts_option
@pass_session
def validate_command(
    session: Session,
    plans: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    form: str,
    changed_since: str | None,
    *,
    strict: bool,
) -> int:
    """Check PLANS and catalogs: their form, their names, and every event that they would send.

    A folder stands for its .yaml and .yml files. No database is asked; --facts gives its answers.
    Every problem is reported. The exit status is 3 if a file is invalid, and 4 if only the policy
    refuses a plan. Of test files, which `backfill test` runs, and of `backfill.yaml`, only the form
    is checked. In GitHub Actions, problems become annotations automatically.
    """
    from runner.app.validate import validate

    form = chosen_format(form)
    overrides = read_variables(variables, var_files)
    files, problems = validate(session, plans, overrides, changed_since, strict=strict)
    if not files and not problems and changed_since and form in ("text", "github"):
        click.echo(f"no plan has changed since {changed_since}")
        return 0
    _report(files, problems, form)
    errors = [problem.rule for problem in problems if problem.severity == "error"]
    if errors and all(rule.startswith("policy/") for rule in errors):
        return ERROR_STATUS[PreflightRefused]
    return ERROR_STATUS[InvalidPlan] if errors else 0


def _report(plans: Sequence[str], problems: list[Problem], form: str) -> None:
    from runner.output.problems import format_problems, validation_json

    valid = not any(problem.severity == "error" for problem in problems)
    if form == "json":
        print_json(validation_json(problems))
        return
    if form == "sarif":
        from runner.output.problems import sarif

        print_json(sarif(problems))
        return
    if form == "github":
        annotate(problems)
    if problems:
        click.echo(format_problems(problems, color=wants_color(sys.stdout)))
    if valid:
        from runner.app.plan_files import beside_plans

        count, what = len(plans), "file" if beside_plans(plans) else "plan"
        click.echo(
            f"{visible(plans[0])} is valid"
            if count == 1
            else f"{counted(count, what, 'are')} valid"
        )
