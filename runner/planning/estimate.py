"""Estimate how long a plan takes, or still takes, and say what that is based on; and simulate when
everything would be sent if jobs took no time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isinf
from typing import NamedTuple

from runner.model import (
    Driven,
    ExecutionPlan,
    Function,
    Needs,
    Pacing,
    RunView,
    Stage,
    StageRecord,
    WindowGuard,
)
from runner.spec.opening import LONGEST, finished, opening, shown
from runner.spec.units import counted, format_duration

_QUIET = 10.0  # seconds without an ended event that mean nothing
_GAPS = 5  # ... and this many times the usual gap between two ends


class Past(NamedTuple):
    """An operation's figures in an earlier run: events ended per second, and seconds for each."""

    run_id: str
    rate: float
    took: float


class Stretch(NamedTuple):
    """The duration of a stage in seconds, and the pause between its batches."""

    seconds: float
    pause: float = 0.0


class Estimate(NamedTuple):
    """A duration in seconds, and what it is based on.

    `ends`: when it is over (since 1970), if windows decide that. `telling`: it is based on more
    than the pacing, on earlier runs or on the clock.
    """

    seconds: float
    basis: str
    ends: float | None = None
    telling: bool = False

    @property
    def about(self) -> str:
        until = "" if self.ends is None else f", until {shown(self.ends)}"
        return f"about {rough(self.seconds)}{until}"

    @property
    def words(self) -> str:
        return f"{self.about} ({self.basis})"


def within(
    windows: Sequence[WindowGuard], estimate: Estimate, now: float, parts: Sequence[Stretch]
) -> Estimate:
    """Restrict an estimate, made of `parts`, to the windows in which events are sent."""
    if not windows:
        return estimate
    openings, ends = list(map(opening, windows)), now
    for part in parts:
        if ends - now <= LONGEST:
            ends = finished(openings, ends, part.seconds, part.pause)
    if isinf(ends):
        basis = f"{estimate.basis}; its windows are never open at the same time"
        return estimate._replace(seconds=ends, basis=basis)
    hours = "; ".join(window.words for window in windows)
    basis = f"{estimate.basis}; only within {hours}"
    if ends - now > LONGEST:
        return estimate._replace(basis=basis)
    return estimate._replace(seconds=ends - now, basis=basis, ends=ends)


def rough(seconds: float) -> str:
    """Format a duration with the precision of an estimate."""
    if isinf(seconds):
        return "for ever"
    return format_duration(max(1, round(round(seconds, -1) if seconds > 99 else seconds)))


def before(
    plan: ExecutionPlan,
    past: Mapping[str, Past],
    now: float,
    functions: Sequence[Function] = (),
) -> Estimate:
    """Estimate the whole plan if it started `now`.

    It considers the pacing, earlier runs, the start times of events, and how long debounces and
    batches of the server's `functions` hold events.
    """
    unknown, runs, governs, parts_of = False, set[str](), list[str](), list[Stretch]()
    goes_by_clock = bool(plan.windows)
    for stage in plan.stages:
        known = past.get(stage.operation)
        paced = max(stage.duration, stage.total / known.rate if known else 0.0)
        capped = stage.total * known.took / stage.cap.events if known and stage.cap else 0.0
        before_it = sum(part.seconds for part in parts_of)
        last = last_start(stage) if stage.own else 0.0
        goes_by_clock = goes_by_clock or last > 0
        starts = last - now - before_it if last and stage.waits else 0.0
        if starts > max(paced, capped):
            governs.append(f"`{stage.operation}` goes by the start times of its events")
        seconds = max(paced, capped, starts)
        if known:
            if stage.cap and stage.total > stage.cap.events:
                what = "max_in_flight" if capped > stage.duration else "its pace"
                took = format_duration(round(known.took, 1))
                governs.append(f"`{stage.operation}` goes by {what}, with jobs of {took}")
            seconds += known.took
            runs.add(known.run_id)
        elif rest := _rest(stage, functions):
            seconds += rest.rest
            governs.append(f"`{rest.name}` may delay events by {format_duration(rest.rest)}")
        parts_of.append(Stretch(seconds, seconds / max(1, stage.batches - 1)))
        unknown = unknown or known is None
    parts = ["its pacing"] if plan.duration or not runs else []
    parts += [f"its jobs as in run {', '.join(sorted(runs))}"] if runs else []
    basis = "; ".join([" and ".join(parts), *governs])
    basis = f"{basis}; how long its jobs take is not known" if unknown else basis
    drains = [f"`{stage.operation}`" for stage in plan.stages if stage.until and stage.total]
    basis = f"{basis}; with one round of {', '.join(drains)}" if drains else basis
    telling = bool(runs or governs) or goes_by_clock
    whole = Estimate(sum(part.seconds for part in parts_of), basis, telling=telling)
    return within(plan.windows, whole, now, parts_of)


def _rest(stage: Stage, functions: Sequence[Function]) -> Function | None:
    """Return the function whose debounce or batch holds the stage's events the longest."""
    hearing = [one for one in functions if one.rest and any(map(one.hears, stage.event_names))]
    return max(hearing, key=lambda one: one.rest) if hearing and stage.waits else None


def last_start(stage: Stage) -> float:
    """Return the latest start time of the stage's events; 0 if none has one."""
    from runner.planning.event_blocks import start_of

    return max((start_of(cell) for _, cell in stage.items.raw()), default=0.0)


def past_of(views: Iterable[RunView]) -> Mapping[str, Past]:
    """Return the figures of each operation from earlier runs, the latest first."""
    found: dict[str, Past] = {}
    for view in views:
        for stage in view.stages:
            ended, span = stage.settled, view.worked(stage)
            if stage.operation not in found and stage.completed and span and stage.took is not None:
                found[stage.operation] = Past(view.record.id, ended / span, stage.took)
    return found


def left(view: RunView) -> Estimate | None:
    """Estimate what is left of a run in progress; None if there is no basis for it."""
    record = view.record
    if record.status != "running" or view.holder is None or record.wanted == "pause":
        return None
    if view.target_held and view.unsent:  # a worker sees it at its next step
        return None
    parts, bases = list[Stretch](), list[str]()
    for stage, spec in zip(view.stages, view.plan.stages, strict=True):
        pacing = spec.pacing.tuned(record.batch_size, record.delay)
        if spec.until and not stage.done:
            return None  # nobody knows how many rounds it takes
        one = of_stage(stage, pacing, view.now)
        if one:
            parts.append(Stretch(one.seconds, pacing.mean))
            bases += [one.basis] if one.basis not in bases else []
        elif _is_held(stage) or (stage.sent and (stage.running or stage.sent < stage.total)):
            return None  # what comes after it is unknown too
    if not bases:
        return None
    whole = Estimate(sum(part.seconds for part in parts), ", then ".join(bases))
    return within(view.plan.windows, whole, view.now, parts)


def left_of(
    record: StageRecord, pacing: Pacing, windows: Sequence[WindowGuard], now: float
) -> float | None:
    """Return the estimated seconds until all events of a stage have ended; None if unknown."""
    left = of_stage(record, pacing, now)
    if left is None:
        return None
    return within(windows, left, now, [Stretch(left.seconds, pacing.mean)]).seconds


def of_stage(record: StageRecord, pacing: Pacing, now: float) -> Estimate | None:
    """Estimate what is left of a stage at its current `pacing`.

    None if it has ended or nothing is known (yet): it is held, or waits for jobs that do not end.
    """
    unsent, running = max(0, record.total - record.sent), record.running
    if not unsent and not running:
        return None
    waits_for_jobs = record.waiting is not None and record.waiting.for_jobs
    if _is_held(record) or (waits_for_jobs and _stands_still(record, now)):
        return None
    batches = -(-unsent // pacing.batch_size)
    paced = max(0, batches - (not record.sent)) * pacing.mean
    if record.ends and (unsent + running) / record.ends >= paced:
        if _stands_still(record, now):
            return None
        seconds = (unsent + running) / record.ends
        return Estimate(seconds, f"at {record.ends:,.1f} events a second so far")
    if unsent and record.rate and unsent / record.rate > paced:
        return Estimate(unsent / record.rate, f"at {record.rate:,.1f} events a second so far")
    if unsent and paced:
        return Estimate(paced, "by the pacing")
    return None


def measured(
    record: StageRecord,
    pacing: Pacing,
    windows: Sequence[WindowGuard],
    driven: Driven,
    now: float | None,
    *,
    through: bool,
    drains: bool,
) -> StageRecord:
    """Add the rates while the run was driven, and what is left: unknown for a stage that `drains`.

    The stage is done if it was gone `through` and nothing of it is in progress. `now`: None if
    nobody drives the run.
    """
    done = through and not (record.running or record.waiting)
    if now is None:
        return record._replace(done=done)
    sending = driven.between(record.began, record.last_sent)
    span = driven.between(record.began, record.ended)
    record = record._replace(
        done=done,
        rate=record.sent / sending if sending else 0.0,
        ends=record.settled / span if record.followed and span else 0.0,
    )
    return record._replace(left=None if drains else left_of(record, pacing, windows, now))


def _is_held(record: StageRecord) -> bool:
    return record.waiting is not None and record.waiting.kind in ("held", "away")


def _stands_still(record: StageRecord, now: float) -> bool:
    """Whether nothing has ended yet, or for much longer than the usual gap between two ends."""
    if not record.ends:
        return True
    return record.ended is not None and now - record.ended > max(_QUIET, _GAPS / record.ends)


def needed(needs: Needs) -> str:
    """Describe the declared cost of a plan; empty if none is declared."""
    said = [counted(round(needs.github_points), "GitHub point")] if needs.github_points else []
    said += [f"${needs.usd:,.2f}"] if needs.usd else []
    said += [f"{format_duration(round(needs.seconds))} of jobs"] if needs.seconds else []
    return ", ".join(said)


class Slot(NamedTuple):
    """When a stage begins and ends, in seconds from the start of the run."""

    stage: Stage
    begins: float
    ends: float


class Starved(NamedTuple):
    """The item that waits longest because of its priority: `waits` seconds more than in written
    order."""

    operation: str
    item: str
    at: float
    waits: float


class Timeline(NamedTuple):
    slots: tuple[Slot, ...]
    starved: Starved | None

    @property
    def duration(self) -> float:
        return max((slot.ends for slot in self.slots), default=0.0)


def simulate(plan: ExecutionPlan, written: Sequence[str]) -> Timeline:
    """Simulate the plan's timeline. `written`: the repositories in the order of the plan file."""
    slots, now = [], 0.0
    for stage in plan.stages:
        begins = now if stage.begins is None else stage.begins
        slots.append(Slot(stage, begins, begins + stage.duration))
        now = begins + stage.duration
    return Timeline(tuple(slots), _starved(slots, {item: at for at, item in enumerate(written)}))


def _starved(slots: Sequence[Slot], written: dict[str, int]) -> Starved | None:
    longest: Starved | None = None
    for slot in slots:
        stage = slot.stage
        if stage.for_each != "repo":
            continue
        items = [item for item, _ in stage.items.raw()]
        as_written = sorted(items, key=lambda item: written.get(item, len(written)))
        in_plan = {item: at for at, item in enumerate(as_written)}
        for index, item in enumerate(items):
            later = stage.batch_of(index) - stage.batch_of(in_plan[item])
            waits = later * stage.pacing.delay
            if waits > (longest.waits if longest else 0.0):
                at = slot.begins + (stage.batch_of(index) - 1) * stage.pacing.delay
                longest = Starved(stage.operation, item, at, waits)
    return longest
