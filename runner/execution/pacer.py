"""The one owner of the time between two sends of a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.execution.pace import Pace
from runner.execution.ports import Clock, Journal
from runner.execution.waits import Waits
from runner.model import Stage

_BEHIND = 1.0  # seconds that a scheduled stage may be late before its times are moved


@dataclass(slots=True)
class Pacer:
    """Between a batch and the next of its stage lies `delay`, counted from when the server had the
    batch, whatever else lies between: a round, a canary, a worker's step, another process. What
    the run waits for meanwhile (jobs, guards, a pause) is not added to it.
    """

    clock: Clock
    journal: Journal
    waits: Waits
    _paces: dict[int, Pace] = field(default_factory=dict)  # by stage
    _sent: dict[int, float] = field(default_factory=dict)  # when each stage has last sent
    _base: float = field(init=False)  # what the times of scheduled events count from

    def __post_init__(self) -> None:
        latest = self.journal.latest()
        self._base = latest.base if latest else self.journal.started_at
        if latest:
            ago = self.clock.time() - latest.sent_at
            self._sent[latest.stage] = self.clock.monotonic() - ago

    def of(self, stage: Stage) -> Pace:
        """It stays as it is from one round of the stage to the next."""
        if stage.number not in self._paces:
            self._paces[stage.number] = self.waits.pace_of(stage)
        return self._paces[stage.number]

    def sent(self, stage: int) -> None:
        """The server has had a request of the stage."""
        self._sent[stage] = self.clock.monotonic()

    def owed(self, stage: Stage) -> float:
        """Seconds until the next batch may go out. A clock that was put back adds nothing."""
        delay = self.of(stage).delay
        if stage.begins is not None or stage.number not in self._sent:
            return 0.0
        return min(delay, max(0.0, self._sent[stage.number] + delay - self.clock.monotonic()))

    def left_of_batch(self, stage: Stage, index: int, *, fresh: bool) -> int:
        """How many events are left of a batch that was begun before: they are not paced anew.

        `fresh`: a round of the stage begins with the `index`-th event.
        """
        left = self.waits.left_of_batch(stage)
        if left is None:
            begun = not fresh and not stage.begins_batch(index)
            left = stage.left_of_batch(index) if begun else 0
        return min(left, stage.total - index)

    def base(self, stage: Stage, index: int) -> float:
        """What the times of a scheduled stage count from, from its `index`-th event on: the run's
        start, or later where that is past already, so that what is left keeps its distances."""
        at = stage.at(stage.batch_of(index))
        if at is not None and (behind := self.clock.time() - self._base - at) > _BEHIND:
            self._base += behind
        return self._base
