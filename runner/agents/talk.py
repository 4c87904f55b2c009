"""What a use case says while a tool works: progress to the client, notes for the tool's answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from runner.app.session import Session
from runner.model import ExecutionPlan, Observer, RunHead, StageRecord, Summary
from runner.output.progress import stage_line
from runner.spec.secrets import redact

Heard = Callable[[float, float | None, str], None]
_STEP = 0.001  # progress grows with every message, also where nothing was done


class Talk:
    """Meets `runner.app.session.Reporter` and `Observer`.

    `heard` is told how far the work is, of how much, and in words. Each event of a run counts
    twice: when it is sent and when its jobs have ended.
    """

    def __init__(self, session: Session, heard: Heard) -> None:
        self._session, self._heard = session, heard
        self._stages: dict[int, int] = {}
        self._total: float | None = None
        self._at = 0.0
        self._stopped = False
        self.notes: list[str] = []
        self.summary: Summary | None = None

    def stop(self) -> None:
        """Whoever has asked no longer waits: a run ends after the request in flight."""
        self._stopped = True
        self._session.stop()

    def note(self, message: str) -> None:
        self.notes.append(redact(message))
        self._report(redact(message))

    def say(self, message: str) -> None:
        self.note(message)

    def planned(self, plan: ExecutionPlan, target: str) -> None: ...

    def driving(self) -> AbstractContextManager[Observer]:
        return nullcontext(self)

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self._total = 2.0 * sum(stage.total for stage in plan.stages)
        self._report(f"run {run_id} of {plan.name} has begun")

    def progress(self, progress: StageRecord) -> None:
        if self._stopped:
            self._session.stop()
        self._stages[progress.number] = progress.sent + progress.settled
        self._report(redact(stage_line(progress, time.time())))

    def ended(self, summary: Summary) -> None:
        self.summary = summary

    def _report(self, message: str) -> None:
        self._at = max(self._at + _STEP, float(sum(self._stages.values())))
        total = self._total if self._total and self._total >= self._at else None
        self._heard(self._at, total, message)
