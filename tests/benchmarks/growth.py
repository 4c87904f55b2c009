"""Measure how time and memory grow from a thousand events to a million: a picture, and JSON.

Whole processes are measured: `plan` and `run --no-wait` of one operation over the repositories of a
CSV file, `run` that follows each job to its end, and `resume` at half, up to its first request.
"The bare sink" accepts events and nothing else, so nothing can be followed there; the embedded
server holds events and jobs in memory, and gets up to 100,000 here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from runner.adapters.embedded.server import create_app
from tests.benchmarks import chart
from tests.benchmarks.following import follow
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import Sizes, say
from tests.benchmarks.process import backfill, run
from tests.benchmarks.resume import killed_at_half
from tests.benchmarks.send import send
from tests.benchmarks.server import sink
from tests.benchmarks.table import machine
from tests.cli.conftest import served

_EVENTS, _QUICK_EVENTS = (1_000, 10_000, 100_000, 1_000_000), (100, 1_000, 10_000)
_MOST_EMBEDDED = 100_000
_NOTE = (
    "The resumed run had sent half of its events when it was killed. The embedded server runs"
    " beside the process that is measured; it keeps all events and jobs in memory, and is given"
    f" {_MOST_EMBEDDED:,} at most."
)
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Point:
    events: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Series:
    """A line of the chart; `measure` runs the work once, with so many events, in a folder."""

    work: str
    on: str
    measure: Callable[[Path, int], Point]
    most: int | None = None


def draw(picture: Path, sizes: Sizes) -> None:
    """Measure everything, draw it, and write the numbers beside the picture."""
    events = _QUICK_EVENTS if sizes.quick else _EVENTS
    found: dict[str, Any] = {
        "quick": sizes.quick,
        "machine": machine(),
        "note": _NOTE,
        "series": [_measured(series, events) for series in _SERIES],
    }
    text = json.dumps(found, indent=2) + "\n"
    picture.with_suffix(".json").write_text(text, encoding="utf-8")
    chart.draw(found, picture)


def _measured(series: Series, sizes: tuple[int, ...]) -> dict[str, Any]:
    points = []
    for events in sizes:
        if series.most and events > series.most:
            break
        with tempfile.TemporaryDirectory(prefix="backfill-growth-") as folder:
            # Measure long runs once: other work on the machine disturbs them less.
            tries = [series.measure(Path(folder), events) for _ in range(3 if events < 1e5 else 1)]
        point = Point(
            events,
            median(one.seconds for one in tries),
            median(one.peak_mb for one in tries),
        )
        say(f"{series.work}, {events:,}: {point.seconds:.2f} s, {point.peak_mb:.0f} MB")
        points.append(asdict(point))
    return {"work": series.work, "on": series.on, "points": points}


def _plan(folder: Path, events: int) -> Point:
    plan = plan_send(folder, events, _BATCH)
    process = run(backfill("plan", plan.name), folder)
    return Point(events, process.wall, process.peak_mb)


def _send(folder: Path, events: int) -> Point:
    with sink(folder) as server:
        return _sent(folder, events, server.url)


def _send_embedded(folder: Path, events: int) -> Point:
    with served(create_app({})) as url:
        return _sent(folder, events, url)


def _sent(folder: Path, events: int, url: str) -> Point:
    plan = plan_send(folder, events, _BATCH)
    process = run(send(plan, url, f"sqlite:///{_fresh(folder)}"), folder)
    return Point(events, process.wall, process.peak_mb)


def _follow(folder: Path, events: int) -> Point:
    process, _ = follow(folder, events, _fresh(folder))
    return Point(events, process.wall, process.peak_mb)


def _resume(folder: Path, events: int) -> Point:
    with killed_at_half(folder, events, _fresh(folder)) as resumed:
        begun = resumed.first_request()
    return Point(events, begun.seconds, begun.process.peak_mb)


_numbers = count()


def _fresh(folder: Path) -> Path:
    return folder / f"state-{next(_numbers)}.db"


_SINK, _EMBEDDED = "to a bare sink", "embedded server"
_SERIES = (
    Series("plan", "", _plan),
    Series("send", _SINK, _send),
    Series("send", _EMBEDDED, _send_embedded, _MOST_EMBEDDED),
    Series("send and follow", _EMBEDDED, _follow, _MOST_EMBEDDED),
    Series("resume, to the first request", "", _resume),
)
