"""The pace of a stage: what the plan says, or an operator, and slower while there is trouble."""

from __future__ import annotations

from runner.execution.ports import Control
from runner.model import Pacing
from runner.spec.units import format_duration

LONGEST_DELAY = 60.0  # seconds; a plan's own delay may be longer
_FIRST_DELAY = 1.0


class Pace:
    """Additive increase, multiplicative decrease (TCP's rule, RFC 5681): trouble halves the batch
    and doubles the delay; every batch without trouble takes a tenth of that back."""

    def __init__(self, pacing: Pacing, kept: tuple[int, float, int, float] | None = None) -> None:
        """`kept`: how it was, see below, where it goes on from there."""
        self._planned = self._normal = pacing
        self.size, self.delay = pacing.batch_size, pacing.delay
        if kept:
            self._normal, self.size, self.delay = Pacing(kept[0], kept[1]), kept[2], kept[3]

    @property
    def kept(self) -> tuple[int, float, int, float]:
        """What it is without trouble, as the plan says or an operator, and what it is now."""
        return (self._normal.batch_size, self._normal.delay, self.size, self.delay)

    @property
    def as_planned(self) -> bool:
        return (self.size, self.delay) == (self._planned.batch_size, self._planned.delay)

    @property
    def slowed(self) -> bool:
        """Is it slower than the plan, or an operator, has it: for trouble?"""
        return (self.size, self.delay) != (self._normal.batch_size, self._normal.delay)

    def tune(self, control: Control) -> str | None:
        """Take over what an operator has set; what has changed, in words."""
        size = control.batch_size or self._planned.batch_size
        delay = self._planned.delay if control.delay is None else control.delay
        if Pacing(size, delay) == self._normal:
            return None
        self._normal = Pacing(size, delay)
        self.size, self.delay = size, delay
        return f"{self}: tuned by an operator"

    def slow_down(self, reason: str) -> str:
        longest = max(LONGEST_DELAY, self._normal.delay)
        self.size = max(1, self.size // 2)
        self.delay = min(longest, max(self.delay * 2, _FIRST_DELAY))
        return f"slower now, {self}: {reason}"

    def speed_up(self) -> str | None:
        """After a batch without trouble; None where the pace is as it should be."""
        if not self.slowed:
            return None
        normal = self._normal
        self.size = min(normal.batch_size, self.size + max(1, normal.batch_size // 10))
        step = max(_FIRST_DELAY, (self.delay - normal.delay) / 10)
        self.delay = max(normal.delay, self.delay - step)
        return f"faster again, {self}: a batch went through without trouble"

    def __str__(self) -> str:
        return f"batches of {self.size:,}, {format_duration(round(self.delay, 1))} apart"
