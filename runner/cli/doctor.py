"""`backfill doctor`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from runner.adapters.inngest.target import Target, resolve
from runner.cli.common import (
    build,
    format_option,
    open_store,
    plan_options,
    read_variables,
    state_file,
    state_option,
    target_option,
    timings_option,
    wants_color,
)
from runner.errors import BackfillError, InvalidPlan, PreflightRefused, UsageError
from runner.model import ExecutionPlan, Finding, Json

if TYPE_CHECKING:
    from runner.execution.ports import Seen


@click.command(
    "doctor",
    short_help="Find what would go wrong, before anything is sent.",
    epilog="\b\nExamples:\n  backfill doctor --target dev\n  backfill doctor plan.yaml"
    "\n  backfill doctor plan.yaml --target cloud --format json",
)
@click.argument("plan", required=False, type=click.Path(dir_okay=False))
@plan_options
@target_option
@state_option
@timings_option
@format_option("text", "json")
def doctor_command(
    plan: str | None,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
    form: str,
    *,
    strict: bool,
) -> int:
    """Look at the target, its keys and functions, and at what PLAN asks of the database.

    Nothing is sent and no work is started. The exit status is 4 where a run would be refused,
    or could not do its work; `backfill run` looks at the same before it sends.
    """
    from runner.cli.examine import examine_plan, examine_server

    resolved = resolve(target, os.environ)
    findings: list[Finding] = []
    built = None
    if plan is not None:
        built, findings = _read(plan, read_variables(variables, var_files), strict=strict)
    findings += examine_server(built, resolved, lambda e: _seen(state, e, resolved), thorough=True)
    if built:
        findings += examine_plan(built.path, built, thorough=True)
    _print(findings, form)
    failed = any(finding.level == "fail" for finding in findings)
    return PreflightRefused.exit_status if failed else 0


def _read(
    path: str, variables: dict[str, Json], *, strict: bool
) -> tuple[ExecutionPlan | None, list[Finding]]:
    """The plan as a run would build it; what keeps it from being built is found, not raised."""
    try:
        plan = build(path, variables, strict=strict).execution_plan
    except InvalidPlan as error:
        return None, [
            Finding(
                "plan",
                "fail" if problem.severity == "error" else "warn",
                f"{problem.path}:{problem.line}: {problem.message}",
                problem.hint,
            )
            for problem in error.problems
        ]
    except UsageError:
        raise
    except BackfillError as error:
        return None, [Finding("plan", "fail", str(error), error.hint)]
    stages = f"{len(plan.stages):,} stage{'' if len(plan.stages) == 1 else 's'}"
    message = f"{plan.name}: {plan.events:,} event{'' if plan.events == 1 else 's'}, {stages}"
    if plan.may_send:
        return plan, [Finding("plan", "ok", f"{message}; every payload fits its contract")]
    mend = "`backfill plan` shows what is skipped and why"
    return plan, [Finding("plan", "fail", f"{message}: there is nothing to send", mend)]


def _seen(state: str | None, event: str, target: Target) -> Seen | None:
    """From a journal that is there; looking for one must not make one."""
    from runner.adapters.journal import DEFAULT_STATE
    from runner.execution.ports import Seen

    file = state_file(state or DEFAULT_STATE)
    if file is not None and not file.exists():
        return None
    found = open_store(state).last_seen(event, target.address)
    return found and Seen(*found)


def _print(findings: list[Finding], form: str) -> None:
    from runner.output.findings import findings_json, findings_text

    if form == "json":
        click.echo(json.dumps(findings_json(findings), indent=2))
    else:
        click.echo(findings_text(findings, color=wants_color(sys.stdout)))
