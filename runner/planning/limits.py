"""What a drain may use up, and how it is given more."""

from __future__ import annotations

from collections.abc import Sequence

from runner.model import Round, RunView, Until
from runner.spec.units import format_duration


def to_raise(until: Until, rounds: Sequence[Round], worked: float) -> str | None:
    """The option of `backfill resume` that gives a drain more of what it has used up, after
    `worked` seconds since its first round; None where it has some left."""
    if len(rounds) >= until.max_rounds:
        return f"--max-rounds {2 * max(until.max_rounds, len(rounds))}"
    if rounds and worked >= until.max_time:
        return f"--max-time {format_duration(2 * max(1, until.max_time, round(worked)))}"
    return None


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
    return command
