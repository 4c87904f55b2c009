"""The policy: rules over the execution plan, in the expression language of plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from runner.errors import InvalidPlan
from runner.model import Data, ExecutionPlan, Problem, Verdict, group_skipped
from runner.planning.lines import figures_of, totals_of
from runner.spec.document import ranked
from runner.spec.project import Rule
from runner.spec.rendering import TemplateError


def judge(
    plan: ExecutionPlan,
    rules: Sequence[Rule],
    *,
    target: str,
    environment: str,
    proved: Callable[[str], bool],
) -> tuple[Verdict, ...]:
    """Evaluate the rules. `proved` tells whether the same plan was completed and proved in an
    environment. Raises `InvalidPlan` with the rules that cannot be evaluated."""
    context = _context(plan, target, environment)
    verdicts: list[Verdict] = []
    problems: list[Problem] = []
    for rule in rules:
        place = rule.place
        if rule.require is None:
            wanted = rule.requires or ""
            first = f"run it there first: `backfill run {plan.path} --env {wanted}`"
            place = replace(place, hint=first)
            holds = environment == wanted or proved(wanted)
            reason = f"it was not completed in `{wanted}` with the same files and variables"
        else:
            try:
                holds = rule.require(context)
            except ValueError as error:
                message = f"the rule `{rule.name}` cannot be evaluated for {plan.name}: {error}"
                hint = error.hint if isinstance(error, TemplateError) else None
                problems.append(replace(rule.place, message=message, hint=hint))
                continue
            reason = rule.require.source
        verdicts.append(
            Verdict(rule.name, rule.level, holds, "" if holds else reason, rule.message, place)
        )
    if problems:
        raise InvalidPlan(ranked(problems))
    return tuple(verdicts)


def _context(plan: ExecutionPlan, target: str, environment: str) -> Data:
    """Return what an expression can read."""
    return {
        "plan": {"name": plan.name, "metadata": plan.metadata},
        "target": target,
        "environment": environment,
        "totals": totals_of(plan),
        "stages": [
            {
                **figures_of(stage),
                "max_in_flight": stage.cap and stage.cap.events,
                "deferred": stage.deferred,
            }
            for stage in plan.stages
        ],
        "skipped": [
            {"operation": group.operation, "reason": group.reason, "items": group.total}
            for group in group_skipped(plan.skipped)
        ],
        "warnings": [warning.rule for warning in plan.warnings],
    }
