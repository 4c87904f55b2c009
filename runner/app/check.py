"""Looking at a plan and its target before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.adapters.inngest.target import Target
from runner.app.preflight import examine_plan, examine_server
from runner.app.prepare import build
from runner.app.session import Session
from runner.errors import BackfillError, InvalidPlan, PreflightRefused, UsageError
from runner.model import CheckResult, Covered, ExecutionPlan, Finding, Json, QueryRefused


def examine(
    session: Session,
    plan: str | None,
    target: Target,
    *,
    variables: dict[str, Json] | None = None,
    strict: bool = False,
) -> list[Finding]:
    """What is well and what is not, of the target, its keys and functions, and of a plan's
    questions; nothing is sent. What keeps a plan from being built is found, not raised."""
    built, findings = None, list[Finding]()
    if plan is not None:
        built, findings = _read(session, plan, variables or {}, strict=strict)
    findings += examine_server(session, built, target, thorough=True)
    if built:
        findings += examine_plan(session, built, thorough=True)
    return findings


def _read(
    session: Session, path: str, variables: dict[str, Json], *, strict: bool
) -> tuple[ExecutionPlan | None, list[Finding]]:
    """The plan as a run would build it."""
    try:
        plan = build(session, path, variables, strict=strict).execution_plan
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
    hint = "`backfill plan` shows what is skipped and why"
    return plan, [Finding("plan", "fail", f"{message}: there is nothing to send", hint)]


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks and the coverage of a plan say now; `skipped`: checks that need a run."""

    checks: tuple[CheckResult, ...]
    coverage: Mapping[str, Sequence[Covered]]
    skipped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Do all checks hold that could be asked?"""
        return all(check.ok for check in self.checks)


def check(
    session: Session, path: str, *, variables: dict[str, Json] | None = None, strict: bool = False
) -> Checked:
    """Ask the checks and the coverage of a plan now; nothing is sent.

    Raises `PreflightRefused` where a database refuses a question.
    """
    from runner.app.queries import covered_now
    from runner.execution.check import ask_now, needs_run, result_of

    plan = build(session, path, variables or {}, strict=strict).execution_plan
    database, results, skipped = session.databases(path), [], []
    for one in plan.checks:
        if needs_run(one):
            skipped.append(one.name)
            continue
        try:
            results.append(result_of(one, ask_now(one, database)))
        except QueryRefused as error:
            message = f"the check `{one.name}` cannot be asked: {error}"
            raise PreflightRefused(message, hint=error.hint) from None
    return Checked(tuple(results), covered_now(session, path, plan), tuple(skipped))
