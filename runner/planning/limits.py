"""What a drain may use up, and how it is given more; what a run that has ended needs to go on."""

from __future__ import annotations

from collections.abc import Sequence

from runner.model import Round, RunView, Until
from runner.spec.units import format_duration


def to_raise(until: Until, rounds: Sequence[Round], worked: float) -> str | None:
    """The options of `backfill resume` that give a drain more of what it has used up, after
    `worked` seconds since its first round; None where it has some left of both."""
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
    """What continues the run, also where a limit of it has been reached."""
    command = f"backfill resume {view.record.id}"
    if view.record.status != "incomplete" or view.record.reason is None:
        return command
    for stage, record in zip(view.plan.stages, view.stages, strict=True):
        if stage.until and record.rounds:
            worked = view.driven.between(record.rounds[0].at, view.now)
            if option := to_raise(stage.until, record.rounds, worked):
                return f"{command} {option}"
        if view.outstanding and 0 < record.sent == stage.canary < record.total:
            return f"{command} --past-failures"
    return command
