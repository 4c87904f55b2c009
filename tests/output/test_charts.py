"""A run's chart: it adds up to the run's figures, and shows trouble apart from pacing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.app.queries import view_of
from runner.model.record import RunLine
from runner.output import charts
from tests.web.states import STATES, Player


def _chart(folder: Path, state: str, width: int = charts.WIDE) -> tuple[charts.Chart, Player]:
    player = Player(folder)
    STATES[state](player)
    found = charts.chart(view_of(player.store, player.store.find("latest")), width)
    assert found is not None
    return found, player


@pytest.mark.parametrize("state", sorted(set(STATES) - {"empty"}))
def test_everything_lies_within_and_ends_at_the_runs_figures(tmp_path: Path, state: str) -> None:
    player = Player(tmp_path)
    STATES[state](player)
    (line,) = player.store.runs(limit=1)
    view = view_of(player.store, player.store.find("latest"))
    for width in charts.WIDTHS:
        chart = charts.chart(view, width)
        assert chart is not None
        _is_of(line, chart, width)


def _is_of(line: RunLine, chart: charts.Chart, width: int) -> None:
    heights = {}
    for area in chart.areas:
        points = [tuple(map(float, pair.split(","))) for pair in area.points.split()]
        assert all(charts.LEFT <= x <= width - charts.RIGHT for x, _ in points)
        assert all(charts.TOP <= y <= charts.TOP + charts.PLOT for _, y in points)
        last, first = points[len(points) // 2 - 1], points[len(points) // 2]
        heights[area.kind] = first[1] - last[1]
    whole = sum(heights.values())
    for kind, number in (
        ("completed", line.completed),
        ("failed", line.lost),
        ("running", line.sent - line.completed - line.lost),
    ):
        assert heights[kind] == pytest.approx(whole * number / line.sent, abs=0.3), kind
    labels = [row.label for row in chart.rows]
    assert labels[0] == "0"
    assert len(labels) == len(set(labels)) >= 3
    assert 2 <= len(chart.columns) <= 9


def test_trouble_is_marked_by_its_kind_and_pacing_is_calm(tmp_path: Path) -> None:
    for state, kinds in (("held", {"held"}), ("away", {"away"}), ("finished", set[str]())):
        folder = tmp_path / state
        folder.mkdir()
        chart, _ = _chart(folder, state)
        assert {band.kind for band in chart.trouble} == kinds
        assert {band.kind for band in chart.calm} <= {"pace", "jobs"}
        assert chart.calm


def test_time_in_which_nobody_drove_a_run_is_a_gap(tmp_path: Path) -> None:
    player = Player(tmp_path)
    run = player.begin("stopped", "repos: [a/b, a/c]\noperations: [sync]\n", 600)
    run.send(1, 1, 0, lambda _: None)
    run.pass_time(60, 1, None)
    run.journal.rest()
    player.now += 240
    run.journal.drive()
    run.send(1, 1, 0, lambda _: None)
    run.pass_time(60, 1, None)
    run.finish("completed")
    chart = charts.chart(view_of(player.store, player.store.find("latest")), charts.WIDE)
    assert chart is not None
    (gap,) = chart.trouble
    assert (gap.kind, gap.label) == ("gap", "not driven")
    plot = charts.WIDE - charts.LEFT - charts.RIGHT
    assert gap.width == pytest.approx(plot * 240 / 360, rel=0.02)


@pytest.mark.parametrize("seconds", [0.012, 0.09, 0.5, 3.0])
def test_each_mark_of_the_axis_of_time_says_its_own_time(tmp_path: Path, seconds: float) -> None:
    """The middle of a run of 12 ms was said to be at 10 ms, as was its end."""
    player = Player(tmp_path)
    run = player.begin("short", "repos: [a/b]\noperations: [sync]\n", 60)
    run.send(1, 1, 0, lambda _: None)
    run.pass_time(seconds, 1, None)
    run.finish("completed")
    chart = charts.chart(view_of(player.store, player.store.find("latest")), charts.WIDE)
    assert chart is not None
    labels = [column.label for column in chart.columns]
    assert len(labels) == len({*labels})


def test_a_count_is_short_and_exact_enough() -> None:
    assert [charts._short(n) for n in (0, 999, 1_000, 1_250, 15_000, 2_000_000)] == [
        "0", "999", "1k", "1250", "15k", "2M",
    ]  # fmt: skip
    assert all(re.fullmatch("[125]0*", str(charts._nice(n / 7))) for n in range(1, 10_000, 37))
