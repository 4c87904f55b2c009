"""``python -m tests.benchmarks [--only NAME] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import journal, lookups, planning, seeing, send, start
from tests.benchmarks.measure import BenchmarkFailed, Figure, Goal, say

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "start": start.measure,
    "plan-inline": planning.measure_inline,
    "plan-csv": planning.measure_csv,
    "send": send.measure,
    "journal": journal.measure,
    "lookups": lookups.measure,
    "seeing": seeing.measure,
}
_PACKAGES = ("backfill", "click", "httpx", "pyyaml", "jinja2", "sqlalchemy")
_HEAD = ("work", "ours", "yardstick", "against", "ratio", "goal", "reached")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--only", choices=BENCHMARKS, help="run one of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    figures: list[Figure] = []
    failed = False
    for name, measure in BENCHMARKS.items():
        if options.only not in (None, name):
            continue
        say(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="backfill-benchmark-") as folder:
            try:
                figures += measure(Path(folder))
            except BenchmarkFailed as error:
                failed = True
                say(f"{name} could not be measured: {error}")
    print(table(figures))
    if options.json:
        found = {"machine": _machine(), "figures": [figure.as_json() for figure in figures]}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(failed)


def table(figures: Sequence[Figure]) -> str:
    rows = [_HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.work,
        _value(figure.ours, figure.unit),
        _value(figure.yardstick, figure.unit),
        figure.against,
        f"{figure.ratio:.2f}",
        _goal(figure.goal, figure.unit),
        {None: "-", True: "yes", False: "NO"}[figure.reached],
    )


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.2f} s"
    return f"{value:,.0f} {unit}"


def _goal(goal: Goal | None, unit: str) -> str:
    if goal is None:
        return "-"
    sign = {"at most": "<=", "at least": ">=", "under": "<"}[goal.bound]
    return f"{sign} {goal.value:g}" + (f" {unit}" if goal.of == "ours" else "")


def _machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
