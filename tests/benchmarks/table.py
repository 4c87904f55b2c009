"""Print the figures for people, and as JSON for a later run to compare with."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Figure, Goal

_PACKAGES = (
    "backfill",
    "check-jsonschema",
    "click",
    "httpx",
    "inngest",
    "jinja2",
    "jsonschema",
    "orjson",
    "pyyaml",
)
_HEAD = ("work", "ours", "theirs", "kind", "against", "ratio", "goal", "reached")
_QUICK = "Quick: small sizes, few rounds. These say that it works, not how fast it is."


def table(figures: Sequence[Figure], *, quick: bool) -> str:
    rows: list[Sequence[str]] = []
    before = ""
    for figure in figures:
        rows.append(_row(figure, "" if figure.work == before else figure.work, judged=not quick))
        before = figure.work
    note = [_QUICK, ""] if quick else []
    return "\n".join([*note, *aligned(_HEAD, rows)])


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, ["-" * width for width in widths], *rows)
    ]


def as_json(figures: Sequence[Figure], *, quick: bool) -> str:
    shown = [figure.as_json(judged=not quick) for figure in figures]
    return json.dumps({"quick": quick, "machine": machine(), "figures": shown}, indent=2) + "\n"


def ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _row(figure: Figure, work: str, *, judged: bool) -> tuple[str, ...]:
    return (
        work,
        _value(figure.ours, figure.unit),
        _value(figure.theirs, figure.unit),
        figure.kind,
        figure.against,
        ratio(figure.ratio),
        _goal(figure.goal, figure.unit),
        {None: "-", True: "yes", False: "NO"}[figure.reached if judged else None],
    )


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.2f} s"
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


def _goal(goal: Goal | None, unit: str) -> str:
    if goal is None:
        return "-"
    sign = {"at most": "<=", "at least": ">=", "under": "<"}[goal.bound]
    return f"{sign} {goal.value:g}" + (f" {unit}" if goal.of == "ours" else "")


def _processor() -> str:
    """Return Linux's name of it; `platform.processor` gives little but the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
