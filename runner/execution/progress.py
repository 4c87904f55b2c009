"""Counts what a run does, stage by stage, and tells the observer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runner.execution.ports import Clock
from runner.model import Observer, Outcome, Round, Stage, StageFigures, StageProgress


@dataclass(slots=True)
class _Pace:
    """How fast this process has sent: a resumed run's rate starts anew."""

    began: float
    sent: int = 0
    latest: float = 0.0

    @property
    def rate(self) -> float:
        """Events a second up to the latest send; 0 while that says nothing yet."""
        elapsed = self.latest - self.began
        return self.sent / elapsed if elapsed > 0 else 0.0


class Tracker:
    """Begins where the journal stands: `known`, what was sent in each stage and what came of it.

    `followed`: the jobs of what is sent are looked at.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        known: Mapping[int, StageFigures],
        observer: Observer,
        clock: Clock,
        *,
        followed: bool,
    ) -> None:
        self._followed = followed
        self._stages = {stage.number: stage for stage in stages}
        self._progress = {
            stage.number: StageProgress(
                stage.number,
                stage.operation,
                stage.total,
                (figures := known.get(stage.number, StageFigures())).sent,
                outcomes=figures.outcomes,
            )
            for stage in stages
        }
        now = clock.monotonic()
        self._paces = {stage.number: _Pace(now) for stage in stages}
        self._observer, self._clock = observer, clock

    def resolved(self, stage: Stage) -> None:
        """A deferred stage has the events of now."""
        self._stages[stage.number] = stage
        self._tell(stage.number, total=stage.total, ended=False)

    def lost(self) -> dict[int, int]:
        """How many events of each stage did not take effect."""
        return {
            stage: progress.settled - progress.outcomes.get("completed", 0)
            for stage, progress in self._progress.items()
        }

    def in_round(self, begun: Round) -> None:
        self._tell(begun.stage, round=begun)

    def begin(self, stage: int) -> None:
        self._paces[stage] = _Pace(self._clock.monotonic())
        self._tell(stage)

    def sent(self, stage: int, accepted: int, rejected: int) -> None:
        now, pace = self._progress[stage], self._paces[stage]
        pace.sent += accepted + rejected
        pace.latest = self._clock.monotonic()
        outcomes = _added(now.outcomes, {"rejected": rejected} if rejected else {})
        self._tell(stage, sent=now.sent + accepted + rejected, outcomes=outcomes, waiting=None)

    def settled(self, stage: int, outcomes: Mapping[Outcome, int]) -> None:
        self._tell(stage, outcomes=_added(self._progress[stage].outcomes, outcomes))

    def waiting(self, stage: int, reason: str | None) -> None:
        self._tell(stage, waiting=reason)

    def ended(self, stage: int) -> None:
        self._tell(stage, waiting=None, ended=True)

    def _tell(self, stage: int, **changes: object) -> None:
        progress = replace(self._progress[stage], **changes)  # type: ignore[arg-type]
        rate = self._paces[stage].rate
        progress = replace(
            progress,
            running=progress.sent - progress.settled if self._followed else 0,
            rate=rate,
            left=self._left(progress, rate),
        )
        self._progress[stage] = progress
        self._observer.progress(progress)

    def _left(self, progress: StageProgress, rate: float) -> float | None:
        """Seconds until all is sent: by the delays to come, or by the rate so far if slower."""
        unsent = progress.total - progress.sent
        if not unsent:
            return None
        pacing = self._stages[progress.stage].pacing
        batches = -(-unsent // pacing.batch_size)
        delays = (batches if progress.sent else batches - 1) * pacing.delay
        return max(delays, unsent / rate if rate else 0.0)


def _added(known: Mapping[Outcome, int], more: Mapping[Outcome, int]) -> Mapping[Outcome, int]:
    return {**known, **{name: known.get(name, 0) + number for name, number in more.items()}}
