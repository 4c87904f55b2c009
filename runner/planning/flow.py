"""Decide which operations share a stage and its pace, and how a throttle spreads events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.model import BackfillPlan, Json, Needs, Operation, Pacing, Stage, Throttle
from runner.spec.dependencies import closure


def flow_of(plan: BackfillPlan) -> list[tuple[str, ...]]:
    """Return the operations of each stage, in order: one each, except with `flow: items`, where
    consecutive operations over the same items share a stage if they are independent."""
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
    """Whether it may share a stage: not if it resolves its events later or reorders them."""
    own_order = operation.group > 1 or operation.throttle is not None
    return not (operation.deferred or operation.until or own_order)


def merged(stage: Stage, members: Sequence[tuple[Stage, int]]) -> Stage:
    """Build a stage of several operations. `stage` has all their events; `members` are the stages
    of each, with their numbers of events. It takes their strictest pace and cap, and their longest
    timeouts."""
    alone = [one for one, count in members if count]
    slowest = max(alone, key=lambda one: one.pacing.mean).pacing
    total = sum(count for _, count in members)
    costs = [(count, one.needs) for one, count in members if one.needs]
    needs = Needs(*(sum(count * cost[at] for count, cost in costs) / total for at in range(3)))
    shared = replace(
        stage,
        pacing=replace(slowest, batch_size=min(one.pacing.batch_size for one in alone)),
        wait="completed" if any(one.wait == "completed" for one in alone) else "sent",
        timeout=max(one.timeout for one in alone),
        queue_timeout=max(one.queue_timeout for one in alone),
        numbered=any(one.numbered for one in alone),
        repeated=True,
        needs=needs if costs else None,
        own=True,
        cap=min((one.cap for one in alone if one.cap), default=None),
    )
    return of_members(shared, [(one.operation, one.event) for one in alone])


def of_members(stage: Stage, members: Iterable[tuple[str, str]]) -> Stage:
    """Name the stage after these operations and their events."""
    found = tuple(members)
    names, events = zip(*found, strict=True)
    return replace(
        stage,
        operation=" + ".join(names),
        event=" + ".join(dict.fromkeys(events)),
        members=found,
    )


def spread(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> Sequence[int]:
    """Return an order for events, given by their keys, that suits the throttle: unchanged if it
    already keeps it, else with the events of each key as far apart as possible, in their own
    order."""
    if keeps(keys, throttle, pacing):
        return range(len(keys))
    counts, seen = Counter(keys), Counter[Json]()
    places = []
    for key in keys:
        places.append((2 * seen[key] + 1) / counts[key])
        seen[key] += 1
    return sorted(range(len(keys)), key=places.__getitem__)


def keeps(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> bool:
    return needed_delay(keys, throttle, pacing) <= pacing.delay


def needed_delay(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> float:
    """Return the least delay between batches at which no key has more than `limit` events in `per`
    seconds; infinite if a single batch has more."""
    batches: dict[Json, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        batches[key].append(index // pacing.batch_size)
    needed = 0.0
    for places in batches.values():
        for first, last in zip(places, places[throttle.limit :], strict=False):
            apart = last - first
            needed = max(needed, throttle.per / apart if apart else float("inf"))
    return needed


def throttled(
    keys: Sequence[Json], throttle: Throttle, pacing: Pacing
) -> tuple[Sequence[int], Pacing]:
    """Return an order of the events and a pace that keep the throttle: a longer delay, and smaller
    batches if one batch alone has too many events of a key."""
    order = spread(keys, throttle, pacing)
    known = [keys[index] for index in order]
    while (needed := needed_delay(known, throttle, pacing)) == float("inf"):
        pacing = replace(pacing, batch_size=max(1, pacing.batch_size // 2))
    return order, replace(pacing, delay=max(pacing.delay, needed))
