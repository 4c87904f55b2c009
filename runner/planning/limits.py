"""The limits of a drain and how to raise them; how to continue a run that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.model import (
    RETRIED,
    CheckResult,
    Outcome,
    Round,
    RunView,
    StageRecord,
    StageSpec,
    Until,
)
from runner.spec.units import counted, format_duration

PAST = "--past-failures"  # option of `backfill resume`: continue despite failures or a stall


def to_raise(until: Until, rounds: Sequence[Round], worked: float) -> str | None:
    """Return the options of `backfill resume` that raise the limits a drain has used up, after
    `worked` seconds since its first round; None if neither is used up."""
    options = []
    if len(rounds) >= until.max_rounds:
        options.append(f"--max-rounds {2 * max(until.max_rounds, len(rounds))}")
    if time_is_up(until, rounds, worked):
        options.append(more_time(until, worked))
    return " ".join(options) or None


def time_is_up(until: Until, rounds: Sequence[Round], worked: float) -> bool:
    return bool(rounds) and worked >= until.max_time


def more_time(until: Until, worked: float) -> str:
    return f"--max-time {format_duration(2 * max(1, until.max_time, round(worked)))}"


def resume_command(view: RunView) -> str:
    """Return the command that continues the run, with the options it needs to pass a limit."""
    command = f"backfill resume {view.record.id}"
    if view.record.status != "incomplete" or view.record.reason is None:
        return command
    for stage, record in zip(view.plan.stages, view.stages, strict=True):
        if stage.until and record.rounds:
            worked = view.driven.between(record.rounds[0].at, view.now) + _owed(view, stage, record)
            if option := to_raise(stage.until, record.rounds, worked):
                return f"{command} {option}"
        if view.outstanding and 0 < record.sent == stage.canary < record.total:
            return f"{command} {PAST}"
    return command


def _owed(view: RunView, stage: StageSpec, record: StageRecord) -> float:
    """Return the seconds of the pause that a drain had no time left for when the run ended."""
    if record.last_sent is None or view.record.ended_at is None:
        return 0.0
    pause = stage.pacing.tuned(view.record.batch_size, view.record.delay).mean
    return max(0.0, record.last_sent + pause - view.record.ended_at)


def _is_short(view: RunView) -> bool:
    """Whether a drain missed its goal."""
    return any(
        stage.until and record.rounds and not record.done
        for stage, record in zip(view.plan.stages, view.stages, strict=True)
    )


def _has_jobs_open(view: RunView) -> bool:
    """Whether the outcome of some jobs is unknown but could be read from a server."""
    if view.state != "cancelled" or view.record.target == "embedded":
        return False
    return any(stage.open for stage in view.stages)


def what_is_left(view: RunView) -> Iterator[tuple[str, str, str]]:
    """Yield ways to finish what an ended run left undone, in the form of `retries`."""
    yield from retries(view.record.id, view.to_retry)
    if _has_jobs_open(view):
        end = "to end its jobs that are still running, and see how the others ended"
        yield end, f"backfill cancel {view.record.id} --jobs", ""
    for run in dict.fromkeys(run for _, run in view.going_on.values()):
        yield "another attempt is still open", f"backfill status {run}", ""
    short = _is_short(view)
    stalled = short and view.record.reason is not None
    option = f" {PAST}" if view.outstanding or stalled else ""
    if view.state == "failed" and view.unsent:
        events = f"to send the {counted(view.unsent, 'event')} that it has not sent"
        yield events, f"backfill resume {view.record.id}{option}", ""
    elif view.state == "failed" and short:
        yield "to work on its goal again", f"backfill resume {view.record.id}{option}", ""
    elif view.state == "failed" and not (view.outstanding or view.retries):
        yield from unproved(view.record.id, view.checks)


def unproved(run_id: str, checks: Iterable[CheckResult]) -> Iterator[tuple[str, str, str]]:
    """Yield how to repeat checks that fail, if nothing is left to send or retry; as `retries`."""
    if not all(check.ok for check in checks):
        yield "to ask the checks that do not hold again", f"backfill resume {run_id}", ""


def retries(run_id: str, left: Mapping[Outcome, int]) -> Iterator[tuple[str, str, str]]:
    """Yield ways to send failed events again: the purpose, the command, and a warning if it may do
    work twice. `left`: events to retry by outcome."""
    if any(left.get(outcome) for outcome in RETRIED):
        late = left.get("no_job", 0)
        more = f" ({late:,} started no job: if one starts late, it runs twice)" if late else ""
        yield "to send what failed again", f"backfill retry {run_id}", more
    if left.get("dropped"):
        again = "to send what was dropped again, which may be dropped again"
        yield again, f"backfill retry {run_id} --dropped", ""
