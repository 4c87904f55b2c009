"""The warnings about plans. Each has a name, by which a plan may accept it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from runner.errors import InvalidPlan
from runner.model import Acceptance, BackfillPlan, Problem
from runner.spec.document import ranked

# What each of them means; docs/reference/warnings.md has the same table.
WARNINGS: Mapping[str, str] = {
    "clock-change": "a schedule's time is skipped or comes twice when the clocks change",
    "empty": "there is nothing to do",
    "filter": "`filter` changes nothing: a glob fits no item that is written, or all are kept",
    "group": "`group` groups nothing: no two neighbours are alike in the rest of the payload",
    "large-batch": "a batch is larger than what the work bears well",
    "min-delay": "a delay is raised to the least that the catalog allows",
    "needs-skipped": "an operation runs without one that it comes after",
    "no-handler": "the embedded target has no handler for an event",
    "no-rows": "a query gives no rows, or an operation has no items among others that have some",
    "no-workspace": "repositories belong to no workspace, and no workspace operation covers them",
    "order-by": "`order_by` orders nothing",
    "selects-all": "selectors leave nothing out",
    "shared-workspace": "a repository skips an operation that its workspace runs all the same",
    "short-delay": "a delay is shorter than what the work bears well",
    "unused-accept": "an accepted warning does not occur",
    "unused-collection": "no operation runs for a collection, and no product is made of it",
    "unused-attribute": "nothing reads an attribute of an item that is written in the plan",
    "unused-handler": "`handlers` names an event that no operation sends",
    "unused-variable": "nothing reads a variable of the plan",
    "unused-workspace": "every repository names a workspace of its own, none takes the plan's",
}
# Warnings that depend on more than the plan.
_ELSEWHERE = frozenset(("no-handler", "selects-all", "unused-accept", "empty", "no-rows"))


def reasons_of(plan: BackfillPlan) -> dict[str, str]:
    return {name: acceptance.reason for name, acceptance in plan.accept.items()}


def accepted(problems: Iterable[Problem], reasons: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return the problems, with the plan's reasons at the warnings that it accepts."""
    return tuple(
        replace(problem, accepted=reasons[problem.rule])
        if problem.severity == "warning" and problem.rule in reasons
        else problem
        for problem in problems
    )


def strictly(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Turn the warnings that are not accepted into errors."""
    return tuple(
        problem if problem.accepted else replace(problem, severity="error") for problem in problems
    )


def refuse_any(problems: Sequence[Problem]) -> None:
    """Raise `InvalidPlan` for a warning that is not accepted, if warnings count as errors."""
    if not all(problem.accepted for problem in problems):
        raise InvalidPlan(ranked(strictly(problems)))


def not_occurring(
    problems: Iterable[Problem], accept: Mapping[str, Acceptance]
) -> Iterable[Problem]:
    """Warn of each accepted warning that does not occur."""
    occurring = {problem.rule for problem in problems} | _ELSEWHERE
    for name, (_, place) in accept.items():
        if name not in occurring:
            yield replace(
                place,
                message=f"the plan accepts the warning `{name}`, which does not occur",
                hint="take it out: what is accepted by now may come back unseen",
                severity="warning",
                rule="unused-accept",
            )
