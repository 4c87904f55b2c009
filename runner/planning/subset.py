"""Some events of an execution plan, as a plan of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

from runner.model import Check, ExecutionPlan, Stage
from runner.planning.event_blocks import pack


def subset(
    plan: ExecutionPlan, positions: Collection[int], unproved: Collection[str] = ()
) -> ExecutionPlan:
    """The events at these positions (from 0, over the whole plan), in the plan's order and pace.

    They are known, so nothing is found out when a stage starts, and no goal is worked towards. The
    checks that are `unproved` are for all of their items still.
    """
    wanted, stages, first = frozenset(positions), list[Stage](), 0
    begins = 0.0 if plan.scheduled else None
    for stage in plan.stages:
        kept = [
            event for position, event in enumerate(stage.items.raw(), first) if position in wanted
        ]
        first += stage.total
        if not kept:
            continue
        made = replace(
            stage,
            number=len(stages) + 1,
            items=pack(stage.event, kept),
            canary=min(stage.canary, len(kept)),
            begins=begins,
            deferred=False,
            until=None,
        )
        stages.append(made)
        if begins is not None:
            begins += made.batches * made.pacing.delay
    digest = hashlib.sha256(f"{plan.digest} {sorted(wanted)}".encode()).hexdigest()
    ran = {None, *(stage.operation for stage in stages)}
    return replace(
        plan,
        stages=tuple(stages),
        digest=f"sha256:{digest}",
        skipped=(),
        warnings=(),
        checks=tuple(
            check if check.name in unproved else _of_these(check, stages)
            for check in plan.checks
            if check.operation in ran
        ),
    )


def _of_these(check: Check, stages: Sequence[Stage]) -> Check:
    """What is proved and not sent again need not be proved again."""
    question = check.question
    names: dict[str, set[str]] = {}
    for stage in stages:
        if check.operation in (None, stage.operation):
            names.setdefault(stage.for_each, set()).update(item for item, _ in stage.items.raw())
    if question.of is None or question.of not in names:
        return check
    return replace(check, question=question.only(names[question.of], question.of))
