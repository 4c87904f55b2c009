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
    "filter": "`filter` changes nothing: a glob matches no listed item, or all items are kept",
    "group": "`group` groups nothing: no two neighbours have the same rest of the payload",
    "large-batch": "a batch is large for this kind of work",
    "min-delay": "a delay is raised to the shortest that the catalog allows",
    "needs-skipped": "an operation runs, but one that it comes after is skipped",
    "no-handler": "the embedded target has no handler for an event",
    "no-rows": "a query gives no rows, or an operation has no items while others have some",
    "no-workspace": "repositories belong to no workspace, and no workspace operation covers them",
    "order-by": "`order_by` orders nothing",
    "selects-all": "selectors leave nothing out",
    "shared-workspace": "a repository skips an operation that its workspace still runs",
    "short-delay": "a delay is short for this kind of work",
    "unused-accept": "an accepted warning does not occur",
    "unused-collection": "no operation and no product uses a collection",
    "unused-attribute": "nothing reads an attribute that the plan gives to an item",
    "unused-handler": "`handlers` names an event that no operation sends",
    "unused-variable": "nothing reads a variable of the plan",
    "unused-workspace": "no repository uses the plan's workspace: each names its own",
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
                hint="remove it: it would accept the warning if it came back",
                severity="warning",
                rule="unused-accept",
            )
