"""Count what a run does, stage by stage, report it to the observer, and summarise its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runner.execution.context import Ending
from runner.execution.ports import Clock, Control, Journal
from runner.model import (
    UNDECIDED,
    CheckResult,
    Driven,
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
from runner.planning.estimate import measured
from runner.planning.limits import PAST
from runner.spec.units import counted

_LONG = 10.0  # seconds that a job may take before it is named


class Tracker:
    """Tracks the progress of each stage, from where the journal stands.

    `known`: what was sent in each stage, and the outcomes; `driven`: when the run was driven, by
    this process in the last interval; `followed`: jobs are followed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        known: Mapping[int, StageFigures],
        observer: Observer,
        clock: Clock,
        *,
        followed: bool,
        driven: Driven,
        windows: Sequence[WindowGuard] = (),
    ) -> None:
        self._windows, self._driven = windows, driven
        self._stages = {stage.number: stage for stage in stages}
        self._progress = {
            stage.number: StageRecord(
                stage.number,
                stage.operation,
                stage.total,
                (figures := known.get(stage.number, StageFigures())).sent,
                figures.outcomes,
                began=figures.began,
                last_sent=figures.last_sent,
                ended=figures.ended,
                followed=followed,
            )
            for stage in stages
        }
        self._through, self._control = set[int](), Control()
        self._observer, self._clock = observer, clock

    def resolved(self, stage: Stage, begun: Round) -> None:
        """Replace a deferred stage by its current version."""
        self._stages[stage.number] = stage
        self._tell(stage.number, total=stage.total, rounds=(begun,))

    def tuned(self, control: Control) -> None:
        """Estimate the rest by the pace that an operator has set."""
        self._control = control

    def lost(self) -> dict[int, int]:
        """Return how many events of each stage did not take effect."""
        return {
            stage: progress.settled - progress.outcomes.get("completed", 0)
            for stage, progress in self._progress.items()
        }

    def in_round(self, begun: Round) -> None:
        self._tell(begun.stage, rounds=(begun,))

    def begin(self, stage: int) -> None:
        self._tell(stage)

    def sent(self, stage: int, accepted: int, rejected: int, at: float) -> None:
        """Count an answered request; `at`: when it began, as in the journal."""
        now = self._progress[stage]
        times = [at, *(time for time in (now.began, now.last_sent) if time is not None)]
        self._tell(
            stage,
            sent=now.sent + accepted + rejected,
            outcomes=_added(now.outcomes, {"rejected": rejected} if rejected else {}),
            began=min(times),
            last_sent=max(times),
            ended=self._clock.time() if rejected else now.ended,
            waiting=None,
        )

    def settled(self, stage: int, outcomes: Mapping[Outcome, int]) -> None:
        known = self._progress[stage].outcomes
        self._tell(stage, outcomes=_added(known, outcomes), ended=self._clock.time())

    def waiting(self, stage: int, reason: Waiting | None) -> None:
        self._tell(stage, waiting=reason)

    def longest(self, stage: int, item: str, ago: float, until: float, *, queued: bool) -> None:
        """Report the oldest event while jobs are waited for: it has run, or been `queued`, for
        `ago` seconds and is given up in `until` seconds."""
        wait, now = self._progress[stage].waiting, self._clock.time()
        if wait is None or not wait.for_jobs or ago < _LONG:
            return
        kind = wait.kind if wait.kind == "room" else "queued" if queued else "jobs"
        if (wait.item, wait.kind) != (item, kind):
            wait = wait._replace(kind=kind, item=item, since=now - ago, until=now + until)
            self._tell(stage, waiting=wait)

    def ended(self, stage: int) -> None:
        """Note that a stage was gone through: it is done once nothing of it runs or is waited
        for."""
        self._through.add(stage)
        self._tell(stage, waiting=None)

    def _tell(self, stage: int, **changes: object) -> None:
        now, spec = self._clock.time(), self._stages[stage]
        progress = self._progress[stage]._replace(**changes)  # type: ignore[arg-type]
        driven, through = self._driven.until(now), stage in self._through
        pacing = spec.pacing.tuned(self._control.batch_size, self._control.delay)
        drains, windows = spec.until is not None, self._windows
        progress = measured(progress, pacing, windows, driven, now, through=through, drains=drains)
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
    unsent = totals.planned - totals.sent
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
    short = ending.option == PAST and not (ending.reason or unsent)
    if ending.option and (ending.how == "failed" or short):
        yield f"`backfill resume {journal.run_id} {ending.option}` works on its goal again"
    if unsent and failures and ending.how == "complete":
        why = "" if ending.reason else ", since the plan stops on a failure"
        yield (
            f"{counted(unsent, 'event', 'were')} not sent{why}; "
            f"`backfill resume {journal.run_id} --past-failures` sends "
            f"{'it' if unsent == 1 else 'them'}"
        )
    elif unsent:
        open_ = [one for one in journal.unanswered() if not one.started_again]
        unanswered = sum(len(one.positions) for one in open_)
        if left := unsent - unanswered:
            were, yet = ("were", "") if ending.how == "cancelled" else ("are", " yet")
            yield f"{counted(left, 'event', were)} not sent{yet}"
        if unanswered:
            yield f"{counted(unanswered, 'event')} may have been accepted: no valid answer came"
    if unknown:
        yield (
            "sent without following: it is not known whether jobs started or how they "
            f"ended; `backfill resume {journal.run_id}` follows them"
        )
    if totals.deduplicated:
        yield (
            f"{counted(totals.deduplicated, 'event', 'were')} sent again with the same ids after "
            "an answer was lost; each takes effect once"
        )
    lost = sum(number for name, number in totals.outcomes.items() if name != "completed")
    if good := lost - len(failures):
        yield f"{counted(good, 'attempt')} did not take effect, and later ones have done the work"
