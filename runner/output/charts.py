"""Where the bars of a page's charts lie. Units are those of an SVG 1,000 wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runner.model import Bucket, RunView

WIDTH = 1_000
ROW, BAR = 34, 20  # of the timeline
RATE_HEIGHT = 120


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    kind: str


class Row(NamedTuple):
    label: str
    y: int


class Chart(NamedTuple):
    height: int
    bars: tuple[Bar, ...]
    rows: tuple[Row, ...] = ()
    most: float = 0.0  # what the highest bar stands for


def timeline(view: RunView) -> Chart:
    """One row a stage: its batches, what it waited for, and its jobs until their end."""
    start = view.record.started_at
    scale = WIDTH / max(1.0, (view.record.ended_at or view.now) - start)

    def x(at: float) -> float:
        return round(min(WIDTH, max(0.0, (at - start) * scale)), 1)

    bars: list[Bar] = []
    rows = {stage.number: index * ROW + 16 for index, stage in enumerate(view.stages)}
    for stage in view.stages:
        if stage.began is not None:
            end = x(stage.ended or view.now if stage.running or stage.ended else stage.began)
            begin = x(stage.began)
            bars.append(Bar(begin, rows[stage.number], max(2, round(end - begin, 1)), BAR, "jobs"))
    for wait in view.waits:
        begin, end = x(wait.began), x(wait.ended or view.now)
        if wait.stage in rows and end - begin >= 1:
            y, width = rows[wait.stage] + BAR / 2, round(end - begin, 1)
            bars.append(Bar(begin, y, width, BAR / 2, "wait"))
    # Batches that would lie on each other are one.
    sent = {(batch.stage, int(x(batch.sent_at))): batch for batch in view.batches}
    bars += [
        Bar(at, rows[stage], 2, BAR, "bad" if batch.lost else "sent")
        for (stage, at), batch in sent.items()
        if stage in rows
    ]
    labels = tuple(
        Row(f"{stage.number}. {stage.operation}", rows[stage.number]) for stage in view.stages
    )
    return Chart(len(rows) * ROW + 4, tuple(bars), labels)


def rates(buckets: Sequence[Bucket]) -> Chart:
    """Events that ended, and behind them events that were sent, for each bucket of time."""
    if not buckets:
        return Chart(RATE_HEIGHT, ())
    most = max(max(bucket.sent, bucket.ended) for bucket in buckets) or 1
    width = WIDTH / len(buckets)
    seconds = buckets[1].at - buckets[0].at if len(buckets) > 1 else 1.0
    bars = list(_bars(((bucket.sent for bucket in buckets)), most, width, "sent"))
    bars += _bars((bucket.ended for bucket in buckets), most, width, "ended")
    return Chart(RATE_HEIGHT, tuple(bars), most=most / seconds)


def _bars(figures: Iterable[int], most: int, width: float, kind: str) -> Iterable[Bar]:
    half, shift = width / 2, width / 2 if kind == "ended" else 0.0
    for index, figure in enumerate(figures):
        if figure:
            height = max(2.0, round(figure / most * RATE_HEIGHT, 1))
            x = round(index * width + shift, 1)
            yield Bar(x, RATE_HEIGHT - height, max(1.0, round(half - 1, 1)), height, kind)


def share(part: int, whole: int) -> float:
    """Of a bar that is 100 wide."""
    return round(100 * part / whole, 2) if whole else 0.0
