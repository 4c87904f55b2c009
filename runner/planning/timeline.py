"""When everything would be sent if the jobs took no time: the pacing alone, played through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runner.model import ExecutionPlan, Stage


class Slot(NamedTuple):
    """A stage's place; seconds from the start of the run."""

    stage: Stage
    begins: float
    ends: float


class Starved(NamedTuple):
    """The item whose priority makes it wait the longest: `waits` seconds more than as written."""

    operation: str
    item: str
    at: float
    waits: float


class Timeline(NamedTuple):
    slots: tuple[Slot, ...]
    starved: Starved | None

    @property
    def duration(self) -> float:
        return max((slot.ends for slot in self.slots), default=0.0)


def simulate(plan: ExecutionPlan, written: Sequence[str]) -> Timeline:
    """`written`: the repositories in the order in which the plan has them."""
    slots, now = [], 0.0
    for stage in plan.stages:
        begins = now if stage.begins is None else stage.begins
        slots.append(Slot(stage, begins, begins + stage.duration))
        now = begins + stage.duration + (stage.pacing.delay if stage.begins is not None else 0.0)
    return Timeline(tuple(slots), _starved(slots, {item: at for at, item in enumerate(written)}))


def _starved(slots: Sequence[Slot], written: dict[str, int]) -> Starved | None:
    longest: Starved | None = None
    for slot in slots:
        stage = slot.stage
        if stage.for_each != "repo" or stage.repeated or not stage.pacing.delay:
            continue
        items = [item for item, _ in stage.items.raw()]
        in_plan = {
            item: at for at, item in enumerate(sorted(items, key=lambda i: written.get(i, 0)))
        }
        for index, item in enumerate(items):
            later = stage.batch_of(index) - stage.batch_of(in_plan[item])
            waits = later * stage.pacing.delay
            if waits > (longest.waits if longest else 0.0):
                at = slot.begins + (stage.batch_of(index) - 1) * stage.pacing.delay
                longest = Starved(stage.operation, item, at, waits)
    return longest
