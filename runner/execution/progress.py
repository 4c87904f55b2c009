"""Counts what a run does, stage by stage, and tells the observer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.execution.ports import Clock
from runner.model import Observer, Stage, StageProgress


class Tracker:
    def __init__(self, stages: Sequence[Stage], observer: Observer, clock: Clock) -> None:
        self._stages = {stage.number: stage for stage in stages}
        self._progress = {
            stage.number: StageProgress(stage.number, stage.operation, stage.total)
            for stage in stages
        }
        self._started: dict[int, float] = {}
        self._sent_now: dict[int, int] = {}  # in this process: a resumed run's rate starts anew
        self._observer, self._clock = observer, clock

    def begin(self, stage: int, already_sent: int, settled: int, failed: int) -> None:
        self._started[stage] = self._clock.monotonic()
        completed = settled - failed
        self._tell(stage, sent=already_sent, completed=completed, failed=failed)

    def sent(self, stage: int, accepted: int, rejected: int) -> None:
        now = self._progress[stage]
        self._sent_now[stage] = self._sent_now.get(stage, 0) + accepted + rejected
        self._tell(
            stage, sent=now.sent + accepted + rejected, failed=now.failed + rejected, waiting=None
        )

    def settled(self, stage: int, *, failed: bool) -> None:
        now = self._progress[stage]
        self._tell(stage, completed=now.completed + (not failed), failed=now.failed + failed)

    def waiting(self, stage: int, reason: str | None) -> None:
        self._tell(stage, waiting=reason)

    def ended(self, stage: int) -> None:
        self._tell(stage, waiting=None, ended=True)

    def _tell(self, stage: int, **changes: object) -> None:
        progress = replace(self._progress[stage], **changes)  # type: ignore[arg-type]
        running = progress.sent - progress.completed - progress.failed
        elapsed = self._clock.monotonic() - self._started.get(stage, self._clock.monotonic())
        rate = self._sent_now.get(stage, 0) / elapsed if elapsed > 0 else 0.0
        progress = replace(progress, running=running, rate=rate, left=self._left(progress, rate))
        self._progress[stage] = progress
        self._observer.progress(progress)

    def _left(self, progress: StageProgress, rate: float) -> float | None:
        """Seconds until all is sent: the delays still to come, and the rate seen so far."""
        unsent = progress.total - progress.sent
        if not unsent:
            return None
        pacing = self._stages[progress.stage].pacing
        delays = -(-unsent // pacing.batch_size) * pacing.delay
        return max(delays, unsent / rate if rate else 0.0)
