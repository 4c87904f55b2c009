"""Which operations share a stage, and at which pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.model import BackfillPlan, Needs, Operation, Stage
from runner.spec.dependencies import closure


def flow_of(plan: BackfillPlan) -> list[tuple[str, ...]]:
    """The operations of each stage, in order: one, but for `flow: items`, where neighbours that go
    over the same items and do not depend on one another share one."""
    needs = {one.name: one.after for one in plan.operations}
    stages: list[list[Operation]] = []
    for operation in plan.operations:
        last = stages[-1] if stages else []
        joins = (
            plan.flow == "items"
            and bool(last)
            and last[0].collection == operation.collection
            and _may_share(operation)
            and _may_share(last[0])
            and not closure(operation.name, needs) & {one.name for one in last}
        )
        if joins:
            last.append(operation)
        else:
            stages.append([operation])
    return [tuple(one.name for one in stage) for stage in stages]


def _may_share(operation: Operation) -> bool:
    """Those that find out their events later, or order them anew, stay by themselves."""
    own_order = operation.group > 1 or operation.throttle is not None
    return not (operation.deferred or operation.until or own_order)


def merged(stage: Stage, members: Sequence[tuple[Stage, int]]) -> Stage:
    """A stage of several operations, which has the events of all: the first one's, as `stage`.
    `members`: a stage of each, and how many of the events it has; it takes the strictest of their
    paces and caps, and the longest of their times."""
    alone = [one for one, count in members if count]
    slowest = max(alone, key=lambda one: one.pacing.mean).pacing
    total = sum(count for _, count in members)
    costs = [(count, one.needs) for one, count in members if one.needs]
    needs = Needs(*(sum(count * cost[at] for count, cost in costs) / total for at in range(3)))
    return replace(
        stage,
        operation=" + ".join(one.operation for one in alone),
        event=" + ".join(dict.fromkeys(one.event for one in alone)),
        pacing=replace(slowest, batch_size=min(one.pacing.batch_size for one in alone)),
        wait="completed" if any(one.wait == "completed" for one in alone) else "sent",
        timeout=max(one.timeout for one in alone),
        queue_timeout=max(one.queue_timeout for one in alone),
        numbered=any(one.numbered for one in alone),
        repeated=True,
        needs=needs if costs else None,
        own=True,
        members=tuple((one.operation, one.event) for one in alone),
        cap=min((one.cap for one in alone if one.cap), default=None),
    )
