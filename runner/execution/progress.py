"""Counts what a run does, stage by stage, reports it to the observer, and sums up how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runner.execution.context import Ending
from runner.execution.ports import Clock, Journal
from runner.model import (
    UNDECIDED,
    CheckResult,
    Failure,
    Observer,
    Outcome,
    Round,
    RunStatus,
    Stage,
    StageFigures,
    StageRecord,
    Summary,
    Totals,
    Waiting,
    WindowGuard,
)
from runner.planning.estimate import Stretch, of_stage, within

_LONG = 10.0  # seconds that a job may take until it is named


@dataclass(slots=True)
class _Pace:
    """How fast this process has sent, or has seen events end: a resumed run's rate starts anew."""

    began: float
    events: int = 0
    latest: float = 0.0

    def add(self, events: int, now: float) -> None:
        self.events += events
        self.latest = now

    @property
    def rate(self) -> float:
        """Events a second up to the latest; 0 while that says nothing yet."""
        elapsed = self.latest - self.began
        return self.events / elapsed if elapsed > 0 else 0.0


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
        windows: Sequence[WindowGuard] = (),
    ) -> None:
        self._windows = windows
        self._stages = {stage.number: stage for stage in stages}
        self._progress = {
            stage.number: StageRecord(
                stage.number,
                stage.operation,
                stage.total,
                (figures := known.get(stage.number, StageFigures())).sent,
                figures.outcomes,
                followed=followed,
            )
            for stage in stages
        }
        now = clock.monotonic()
        self._sends = {stage.number: _Pace(now) for stage in stages}
        self._ends = {stage.number: _Pace(now) for stage in stages}
        self._observer, self._clock = observer, clock

    def resolved(self, stage: Stage) -> None:
        """A deferred stage has the events of now."""
        self._stages[stage.number] = stage
        self._tell(stage.number, total=stage.total, done=False)

    def lost(self) -> dict[int, int]:
        """How many events of each stage did not take effect."""
        return {
            stage: progress.settled - progress.outcomes.get("completed", 0)
            for stage, progress in self._progress.items()
        }

    def in_round(self, begun: Round) -> None:
        self._tell(begun.stage, rounds=(begun,))

    def begin(self, stage: int) -> None:
        now = self._clock.monotonic()
        self._sends[stage], self._ends[stage] = _Pace(now), _Pace(now)
        self._tell(stage)

    def sent(self, stage: int, accepted: int, rejected: int) -> None:
        now = self._progress[stage]
        self._sends[stage].add(accepted + rejected, self._clock.monotonic())
        outcomes = _added(now.outcomes, {"rejected": rejected} if rejected else {})
        self._tell(stage, sent=now.sent + accepted + rejected, outcomes=outcomes, waiting=None)

    def settled(self, stage: int, outcomes: Mapping[Outcome, int]) -> None:
        self._ends[stage].add(sum(outcomes.values()), self._clock.monotonic())
        known = self._progress[stage].outcomes
        self._tell(stage, outcomes=_added(known, outcomes), ended=self._clock.time())

    def waiting(self, stage: int, reason: Waiting | None) -> None:
        self._tell(stage, waiting=reason)

    def longest(self, stage: int, item: str, ago: float, until: float, *, queued: bool) -> None:
        """Where the end of jobs is waited for: the first of them goes on since so many seconds, or
        has not started for so long (`queued`), and is given up after so many more."""
        wait, now = self._progress[stage].waiting, self._clock.time()
        if wait is None or wait.kind not in ("jobs", "queued", "room") or ago < _LONG:
            return
        kind = wait.kind if wait.kind == "room" else "queued" if queued else "jobs"
        if (wait.item, wait.kind) != (item, kind):
            wait = wait._replace(kind=kind, item=item, since=now - ago, until=now + until)
            self._tell(stage, waiting=wait)

    def ended(self, stage: int) -> None:
        self._tell(stage, waiting=None, done=True)

    def _tell(self, stage: int, **changes: object) -> None:
        progress = replace(self._progress[stage], **changes)  # type: ignore[arg-type]
        rate, ends = self._sends[stage].rate, self._ends[stage].rate
        progress = replace(progress, rate=rate, ends=ends)
        now = self._clock.time()
        spec = self._stages[stage]
        left = of_stage(progress, spec, now)
        left = left and within(self._windows, left, now, [Stretch(left.seconds, spec.pacing.mean)])
        progress = replace(progress, left=left and left.seconds)
        self._progress[stage] = progress
        self._observer.progress(progress)


def _added(known: Mapping[Outcome, int], more: Mapping[Outcome, int]) -> Mapping[Outcome, int]:
    return {**known, **{name: known.get(name, 0) + number for name, number in more.items()}}


_LINKS = 5


def summarise(
    journal: Journal, *, plan: str, target: str, followed: bool, ending: Ending
) -> Summary:
    totals, failures = journal.totals(), tuple(journal.failures())
    checks = tuple(journal.checks())
    unsent = totals.planned - totals.accepted - totals.rejected
    still_open = bool(journal.unsettled())
    notes = _notes(journal, ending, totals, failures, unsent, still_open and not followed)
    return Summary(
        run_id=journal.run_id,
        plan=plan,
        target=target,
        status=_status(ending, failures, checks, unsent, still_open, followed),
        totals=totals,
        failures=failures,
        duration=journal.driven().seconds,
        links=tuple(journal.links(_LINKS)),
        notes=tuple(notes),
        chain=journal.chain(),
        checks=checks,
        option=ending.option,
    )


def _status(
    ending: Ending,
    failures: Sequence[Failure],
    checks: Sequence[CheckResult],
    unsent: int,
    still_open: bool,
    followed: bool,
) -> RunStatus:
    lost = [failure for failure in failures if failure.outcome not in UNDECIDED]
    open_ = unsent or (followed and still_open)
    if ending.how == "cancelled" or ending.how == "failed":
        return ending.how
    if ending.how == "limit" or (ending.how == "stopped" and (open_ or not lost)):
        return "incomplete"
    if lost or any(not check.ok for check in checks):
        return "failed"
    if failures or unsent:
        return "incomplete"
    return "sent" if still_open and not followed else "completed"


def _notes(
    journal: Journal,
    ending: Ending,
    totals: Totals,
    failures: Sequence[Failure],
    unsent: int,
    unknown: bool,
) -> Iterator[str]:
    if ending.reason:
        yield f"{ending.reason}; nothing more was sent"
    if unsent and failures and ending.how == "complete":
        yield (
            f"{unsent:,} event{' was' if unsent == 1 else 's were'} not sent, since the plan stops "
            f"on a failure; `backfill resume {journal.run_id} --past-failures` sends them"
        )
    elif unsent:
        yield f"{unsent:,} event{' is' if unsent == 1 else 's are'} not sent yet"
    if unknown:
        yield (
            "sent without following: whether a job started, or how it ended, is not known; "
            f"`backfill resume {journal.run_id}` follows them"
        )
    if totals.deduplicated:
        yield (
            f"{totals.deduplicated:,} events were sent again with the same ids after an answer was "
            "lost; each takes effect once"
        )
    lost = sum(number for name, number in totals.outcomes.items() if name != "completed")
    if good := lost - len(failures):
        attempts = f"{good:,} attempt{'' if good == 1 else 's'}"
        yield f"{attempts} did not take effect, and later ones have done the work"
