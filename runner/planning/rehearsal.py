"""What a run of some of a plan's items tells about a run of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from runner.model import Covered, EventRecord, ExecutionPlan, RunView, Stage, frozen
from runner.planning.estimate import Estimate, before, past_of
from runner.planning.event_blocks import parted


@frozen
class OfOperation:
    """How many events of an operation the `run` sent, and how many the `plan` would. `p50`, `p95`:
    seconds from sending an event to its end, for those that completed; None if none did."""

    operation: str
    run: int
    plan: int
    completed: int
    p50: float | None
    p95: float | None


@frozen
class Rehearsal:
    """`whole`: how long the plan takes at its pace, with jobs as long as the run's. `coverage`:
    after the run, by the names of the questions."""

    run_id: str
    place: str
    plan: str
    operations: tuple[OfOperation, ...]
    whole: Estimate
    coverage: Mapping[str, Covered]

    @property
    def events(self) -> tuple[int, int]:
        """Events of the run, and of the plan."""
        return (
            sum(one.run for one in self.operations),
            sum(one.plan for one in self.operations),
        )


def _by_operation(stage: Stage) -> Mapping[str, int]:
    """Return how many events each operation of a stage has."""
    if not stage.members:
        return {stage.operation: stage.total}
    return Counter(parted(cell)["operation"] for _, cell in stage.items.raw())


def rehearsal(view: RunView, events: Iterable[EventRecord], plan: ExecutionPlan) -> Rehearsal:
    took: dict[str, list[float]] = {}
    sent: dict[str, int] = {}
    for event in events:
        if event.sent_at is None:
            continue
        sent[event.operation] = sent.get(event.operation, 0) + 1
        seconds = view.took(event) if event.outcome == "completed" else None
        if seconds is not None:
            took.setdefault(event.operation, []).append(seconds)
    planned = Counter[str]()
    for stage in plan.stages:
        planned.update(_by_operation(stage))
    operations = []
    for name in dict.fromkeys([*planned, *sent]):
        times = sorted(took.get(name, ()))
        operations.append(
            OfOperation(
                name,
                sent.get(name, 0),
                planned.get(name, 0),
                len(times),
                _percentile(times, 50),
                _percentile(times, 95),
            )
        )
    return Rehearsal(
        view.record.id,
        view.record.place,
        plan.name,
        tuple(operations),
        before(plan, past_of([view]), view.now),
        {name: Covered.total_of(rows) for name, rows in view.coverage.items() if rows},
    )


def _percentile(times: Sequence[float], share: int) -> float | None:
    """Return the least time that `share` percent do not exceed; `times` are sorted."""
    return times[ceil(len(times) * share / 100) - 1] if times else None
