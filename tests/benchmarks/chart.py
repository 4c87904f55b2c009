"""Draw the results of `tests.benchmarks.growth`."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Distinguishable with colour blindness (Okabe and Ito).
_COLOURS = {
    "plan": "#009E73",
    "send": "#0072B2",
    "send and follow": "#D55E00",
    "resume, to the first request": "#AA4499",
}
_INK, _QUIET, _GRID = "#1f2328", "#57606a", "#e6e8eb"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": _QUIET,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "svg.hashsalt": "backfill",  # the same numbers give the same file
}
_TITLE = "What a thousand to a million events take"
_SUBTITLE = "whole processes on a machine of {} cores; both axes are logarithmic"


def draw(found: dict[str, Any], picture: Path) -> None:
    """Draw `found`, the JSON that is written beside the picture; its suffix gives the format."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 6), facecolor="white")
        time, memory = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.07, right=0.98, top=0.82, bottom=0.27, wspace=0.18)
        figure.text(0.07, 0.935, _TITLE, size=15, weight="bold")
        figure.text(0.07, 0.89, _SUBTITLE.format(found["machine"]["cpus"]), color=_QUIET)
        _panel(time, found["series"], "seconds", "Time", _seconds)
        _panel(memory, found["series"], "peak_mb", "Peak memory", _megabytes)
        handles, labels = time.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower left", ncols=3, frameon=False, bbox_to_anchor=(0.06, 0.085)
        )
        quick = " Quick: small sizes." if found["quick"] else ""
        note = found["note"] + quick
        figure.text(0.07, 0.035, fill(note, 150), color=_QUIET, size=9)
        dated = {"Date": None} if picture.suffix == ".svg" else None
        figure.savefig(picture, dpi=150, metadata=dated)


def _panel(axes: Axes, series: list[dict[str, Any]], what: str, title: str, form: Any) -> None:
    for one in series:
        points = one["points"]
        embedded = "embedded" in one["on"]
        axes.plot(
            [point["events"] for point in points],
            [point[what] for point in points],
            color=_COLOURS[one["work"]],
            linestyle=(0, (4, 1.5)) if embedded else "-",
            marker="s" if embedded else "o",
            markersize=5.5,
            markeredgecolor="white",
            linewidth=2,
            label=", ".join(filter(None, (one["work"], one["on"]))),
            zorder=3,
        )
    axes.set(xscale="log", yscale="log")
    axes.set_title(title, loc="left", size=11, weight="bold")
    axes.set_xlabel("events")
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    axes.yaxis.set_major_formatter(FuncFormatter(form))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(FuncFormatter(form))
    axes.grid(color=_GRID, which="both", zorder=0)
    axes.tick_params(length=0, which="both", labelsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)
    _guide(axes, series, what)


def _guide(axes: Axes, series: list[dict[str, Any]], what: str) -> None:
    """Draw a line for linear growth, above all that was measured."""
    points = [point for one in series for point in one["points"]]
    values = [point[what] for point in points]
    fewest, most = min(one["events"] for one in points), max(one["events"] for one in points)
    top = max(values) * 2
    axes.set_ylim(min(values) / 2, top)
    axes.set_xlim(fewest / 1.3, most * 1.3)
    an_event = 1.8 * max(point[what] / point["events"] for point in points)
    line = [(x, x * an_event) for x in (fewest, most)]
    axes.plot(*zip(*line, strict=True), color="#8c959f", linestyle=":", linewidth=1.5, zorder=2)
    beside = top / 1.35
    axes.annotate(
        "linear growth",
        (beside / an_event, beside),
        xytext=(8, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        color=_QUIET,
        size=9,
    )


def _count(value: float, _: int) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _seconds(value: float, _: int) -> str:
    return f"{value:g} s"


def _megabytes(value: float, _: int) -> str:
    return f"{value:g} MB"
