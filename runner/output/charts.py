"""The geometry of a run's chart: events sent, and their outcomes, over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from runner.model import Bucket, RunView
from runner.spec.units import format_duration

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 260, 46, 10, 22, 44
STRIP = 8  # height of the planned waits below the axis
PLOT = HEIGHT - TOP - BOTTOM
WIDTHS = WIDE, NARROW = 1_000, 360
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_CALM = {"pace": "pace", "room": "pace", "jobs": "jobs", "queued": "jobs"}
_TROUBLE = {"held": "held", "away": "server away"}
_GAP = 1.0  # seconds without a driver that count as a gap


class Tick(NamedTuple):
    at: float
    label: str


class Band(NamedTuple):
    """A span of time. `kind`: ``held``, ``away`` or ``gap`` over the plot, ``pace`` or ``jobs``
    below it."""

    kind: str
    x: float
    width: float
    label: str = ""


class Area(NamedTuple):
    kind: str
    points: str


class Chart(NamedTuple):
    width: int
    areas: Sequence[Area]
    line: str  # the edge of failures, visible even for a few
    rows: Sequence[Tick]  # the axis of events
    columns: Sequence[Tick]  # the axis of time
    stages: Sequence[Tick]
    trouble: Sequence[Band]
    calm: Sequence[Band]


def chart(view: RunView, width: int) -> Chart | None:
    """Draw the chart; None for a run that has sent nothing."""
    if not view.rates:
        return None
    start = view.record.started_at
    end = max(_end(view), view.rates[-1].at, start + 0.001)

    def x(at: float) -> float:
        share = min(1.0, max(0.0, (at - start) / (end - start)))
        return round(LEFT + share * (width - LEFT - RIGHT), 1)

    levels = list(_levels(view.rates, start, end))
    most = max(1, max(max(level.sent, level.ended) for level in levels))
    planned = view.record.planned
    step = _nice(most / 4)
    ceiling = planned if most <= planned <= 2 * most else most
    room = 1.12 * ceiling  # with space for marks above the events

    def y(events: float) -> float:
        return round(TOP + PLOT * (1 - events / room), 1)

    return Chart(
        width,
        (
            _area("completed", levels, x, y, lambda _: 0, lambda level: level.completed),
            _area("failed", levels, x, y, lambda level: level.completed, lambda level: level.ended),
            _area("running", levels, x, y, lambda level: level.ended, lambda level: level.sent),
        ),
        _points((x(level.at), y(level.ended)) for level in levels if level.ended > level.completed),
        [Tick(y(events), _short(events)) for events in range(0, ceiling + 1, step)],
        list(_times(start, end, x, 7 if width == WIDE else 3)),
        list(_stages(view, x)),
        list(_trouble(view, start, end, x)),
        list(_merged(view, end, x)),
    )


class _Level(NamedTuple):
    """How many events were sent, and how many had ended, at a moment."""

    at: float
    sent: int = 0
    completed: int = 0
    ended: int = 0


def _levels(buckets: Sequence[Bucket], start: float, end: float) -> Iterator[_Level]:
    width = buckets[1].at - buckets[0].at if len(buckets) > 1 else 0.0
    yield _Level(start)
    yield _Level(buckets[0].at)
    level = _Level(start)
    for bucket in buckets:
        completed = level.completed + bucket.completed
        ended = level.ended + bucket.completed + bucket.lost
        sent = max(level.sent + bucket.sent, ended)
        level = _Level(min(end, bucket.at + width), sent, completed, ended)
        yield level
    yield level._replace(at=end)


def _area(
    kind: str,
    levels: Sequence[_Level],
    x: Callable[[float], float],
    y: Callable[[float], float],
    low: Callable[[_Level], int],
    high: Callable[[_Level], int],
) -> Area:
    above = [(x(level.at), y(high(level))) for level in levels]
    below = [(x(level.at), y(low(level))) for level in reversed(levels)]
    return Area(kind, _points([*above, *below]))


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)


def _times(start: float, end: float, x: Callable[[float], float], most: int) -> Iterator[Tick]:
    span = end - start
    step: float = next((step for step in _STEPS if span / step <= most), _nice(span / most))
    if span < 1:
        step = span / 2
    at = 0.0
    while at <= span:
        yield Tick(x(start + at), format_duration(round(at, 3)) if at else "0s")
        at += step


def _stages(view: RunView, x: Callable[[float], float]) -> Iterator[Tick]:
    last = -100.0
    for stage in view.stages:
        if stage.began is not None and (at := x(stage.began)) - last >= 14:
            last = at
            yield Tick(at, str(stage.number))


def _trouble(
    view: RunView, start: float, end: float, x: Callable[[float], float]
) -> Iterator[Band]:
    spans: list[tuple[str, str, float, float]] = [
        (wait.kind, _TROUBLE[wait.kind], wait.began, wait.ended or end)
        for wait in view.waits
        if wait.kind in _TROUBLE
    ]
    before = start
    for since, until in (*view.driven.intervals, (end, end)):
        if since - before > max(_GAP, (end - start) / 100):
            spans.append(("gap", "not driven", before, since))
        before = max(before, until)
    for kind, label, since, until in spans:
        at, wide = x(since), max(2.0, round(x(until) - x(since), 1))
        yield Band(kind, at, wide, label if wide > 7 * len(label) else "")


def _merged(view: RunView, end: float, x: Callable[[float], float]) -> Iterator[Band]:
    """Yield planned waits; adjacent ones of a kind are joined."""
    last: Band | None = None
    for wait in sorted(view.waits, key=lambda wait: wait.began):
        if wait.kind not in _CALM:
            continue
        kind, at, until = _CALM[wait.kind], x(wait.began), x(wait.ended or end)
        if last and last.kind == kind and at - last.x - last.width < 1.5:
            last = last._replace(width=round(max(last.width, until - last.x), 1))
            continue
        if last:
            yield last
        last = Band(kind, at, max(1.0, round(until - at, 1)))
    if last:
        yield last


def _end(view: RunView) -> float:
    """Return the end of the chart: for a run that nobody drives, when it was last driven."""
    record = view.record
    return record.ended_at or (view.now if view.holder else view.silent or view.now)


def _nice(least: float) -> int:
    """Return a round step for an axis."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= least:
                return step * power
        power *= 10


def _short(number: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= 10 * size or (number >= size and number % size == 0):
            return f"{number / size:g}{unit}"
    return str(number)
