"""How long it will take, or still takes, and what that is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runner.model import ExecutionPlan, Needs, RunView, StageRecord, StageSpec
from runner.spec.units import format_duration


class Past(NamedTuple):
    """How an operation went in an earlier run: events ended a second, and seconds for each."""

    run_id: str
    rate: float
    took: float


class Estimate(NamedTuple):
    """Seconds, and in words where they come from."""

    seconds: float
    basis: str

    @property
    def words(self) -> str:
        return f"about {rough(self.seconds)} ({self.basis})"


def rough(seconds: float) -> str:
    """A duration as an estimate can be known."""
    return format_duration(max(1, round(seconds if seconds < 100 else round(seconds, -1))))


def before(plan: ExecutionPlan, past: Mapping[str, Past]) -> Estimate:
    """The whole plan, before anything is sent: by its pacing, and by what runs have shown."""
    seconds, unknown, runs = 0.0, False, set[str]()
    for stage in plan.stages:
        known = past.get(stage.operation)
        seconds += max(stage.duration, stage.total / known.rate if known else 0.0)
        if known:
            seconds += known.took
            runs.add(known.run_id)
        unknown = unknown or (known is None and stage.total > 0)
    parts = ["its pacing"] if plan.duration or not runs else []
    parts += [f"its jobs as in run {', '.join(sorted(runs))}"] if runs else []
    basis = " and ".join(parts)
    return Estimate(seconds, f"{basis}; how long its jobs take is not known" if unknown else basis)


def past_of(views: Iterable[RunView]) -> Mapping[str, Past]:
    """What earlier runs, the latest ones first, have shown of their operations."""
    found: dict[str, Past] = {}
    for view in views:
        for stage in view.stages:
            ended, span = stage.settled, view.worked(stage)
            if stage.operation not in found and stage.completed and span and stage.took is not None:
                found[stage.operation] = Past(view.record.id, ended / span, stage.took)
    return found


def left(view: RunView) -> Estimate | None:
    """What is left of a run that is under way; None where there is nothing to tell it from."""
    if view.record.status != "running":
        return None
    seconds, bases = 0.0, list[str]()
    for record, stage in zip(view.stages, view.plan.stages, strict=True):
        one = of_stage(view, record, stage)
        if one:
            seconds += one.seconds
            bases += [one.basis] if one.basis not in bases else []
    return Estimate(seconds, ", then ".join(bases)) if bases else None


def of_stage(view: RunView, record: StageRecord, stage: StageSpec) -> Estimate | None:
    """None for a stage that has come to its end, or of which nothing is known yet."""
    follow = view.record.follow
    unsent, running = max(0, record.total - record.sent), record.running if follow else 0
    if not unsent and not running:
        return None
    batches = -(-unsent // stage.pacing.batch_size)
    paced = max(0, batches - (not record.sent)) * stage.pacing.delay
    span, ended = view.worked(record), record.settled
    if follow and ended and span:
        rate = ended / span
        if (unsent + running) / rate >= paced:
            return Estimate((unsent + running) / rate, f"at {rate:,.1f} events a second so far")
    if unsent and paced:
        return Estimate(paced, "by the pacing")
    return None


def needed(needs: Needs) -> str:
    """What the catalog declares that a plan takes; empty where it declares nothing."""
    said = [f"{needs.github_points:,.0f} GitHub points"] if needs.github_points else []
    said += [f"${needs.usd:,.2f}"] if needs.usd else []
    said += [f"{format_duration(round(needs.seconds))} of jobs"] if needs.seconds else []
    return ", ".join(said)
