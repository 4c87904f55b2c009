"""`backfill doctor`."""

from __future__ import annotations

import sys

import click

from runner.app.session import HERE, Session
from runner.app.variables import read_variables
from runner.cli.main import ERROR_STATUS
from runner.cli.options import (
    format_option,
    pass_session,
    plan_options,
    state_option,
    target_option,
    timings_option,
)
from runner.cli.printing import people, print_json, wants_color
from runner.errors import PreflightRefused, TargetError
from runner.model import Finding


@click.command(
    "doctor",
    epilog="\b\nExamples:\n  backfill doctor --target dev\n  backfill doctor plan.yaml"
    "\n  backfill doctor plan.yaml --target cloud --format json",
)
@click.argument("plan", required=False, type=click.Path(dir_okay=False))
@plan_options
@target_option
@state_option
@timings_option
@format_option("text", "json")
@pass_session
def doctor_command(
    session: Session,
    plan: str | None,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str | None,
    form: str,
    *,
    strict: bool,
) -> int:
    """Check what a run needs: the target, its keys and functions, the database that PLAN asks, the
    guards, the policy and the approval.

    Nothing is sent and no work is started. Guards that are a program or an address are only asked
    by a run. The exit status is 4 if a run would be refused or could not do its work, and 6 if the
    only fault is that a server or a database does not answer or refuses the key. `backfill run`
    checks the same before it sends.
    """
    from runner.app.doctor import examine

    overrides = read_variables(variables, var_files)
    resolved = session.target(target, plan or HERE)
    findings = examine(session, plan, resolved, variables=overrides, strict=strict, named=target)
    _print(findings, form)
    failed = [finding for finding in findings if finding.level == "fail"]
    if not failed:
        return 0
    return ERROR_STATUS[TargetError if all(one.away for one in failed) else PreflightRefused]


def _print(findings: list[Finding], form: str) -> None:
    from runner.output.problems import findings_json, findings_text

    if form == "json":
        print_json(findings_json(findings))
    else:
        people().write(f"{findings_text(findings, color=wants_color(sys.stdout))}\n")
