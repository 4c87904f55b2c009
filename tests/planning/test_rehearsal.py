"""What a run of a few items tells about the run of all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.model import Covered
from runner.planning.rehearsal import Rehearsal, rehearsal
from tests.support import make_plan, repos


def of(folder: Path, events: list[tuple[str, str, float | None]], **view: Any) -> Rehearsal:
    """Return the rehearsal of these events: operation, outcome, and seconds."""
    known: Any = SimpleNamespace(
        record=SimpleNamespace(id="01RUN", place="dev"),
        now=0.0,
        coverage=view.get("coverage", {}),
        stages=(),
        took=lambda event: event.seconds,
    )
    ran: Any = [
        SimpleNamespace(
            operation=name, outcome=outcome, seconds=seconds, sent_at=view.get("at", 1.0)
        )
        for name, outcome, seconds in events
    ]
    body = f"{repos(7)}operations: [sync, fire]\nflow: {view.get('flow', 'stages')}\n"
    return rehearsal(known, ran, make_plan(folder, body))


@pytest.mark.parametrize(
    ("times", "p50", "p95"),
    [
        ([], None, None),
        ([4.0], 4.0, 4.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0),
        ([float(n) for n in range(100, 0, -1)], 50.0, 95.0),
        ([float(n) for n in range(1, 202)], 101.0, 191.0),
    ],
)
def test_of_the_times_of_jobs_the_middle_and_the_slowest_are_told(
    tmp_path: Path, times: list[float], p50: float | None, p95: float | None
) -> None:
    """Only of completed jobs."""
    found = of(tmp_path, [*(("sync", "completed", t) for t in times), ("sync", "failed", 9e9)])
    sync, fire = found.operations
    assert (sync.run, sync.plan, sync.completed) == (len(times) + 1, 7, len(times))
    assert (sync.p50, sync.p95) == (p50, p95)
    assert (fire.operation, fire.run, fire.plan, fire.completed) == ("fire", 0, 7, 0)
    assert found.events == (len(times) + 1, 14)


@pytest.mark.parametrize("flow", ["stages", "items"])
def test_operations_are_told_one_by_one_also_where_they_share_a_stage(
    tmp_path: Path, flow: str
) -> None:
    found = of(tmp_path, [("sync", "completed", 1.0), ("fire", "failed", 1.0)], flow=flow)
    told = [(one.operation, one.run, one.plan, one.completed) for one in found.operations]
    assert told == [("sync", 1, 7, 1), ("fire", 1, 7, 0)]


def test_what_was_not_sent_and_what_the_plan_no_longer_has_is_told_so(tmp_path: Path) -> None:
    assert [one.run for one in of(tmp_path, [("sync", "completed", 1.0)], at=None).operations] == [
        0,
        0,
    ]
    gone = of(tmp_path, [("gone", "completed", 1.0)]).operations[-1]
    assert (gone.operation, gone.run, gone.plan) == ("gone", 1, 0)


def test_coverage_is_told_in_sum_where_there_is_any(tmp_path: Path) -> None:
    rows = (Covered("issues", "a", 4, 1), Covered("issues", "b", 6, 2))
    found = of(tmp_path, [], coverage={"issues": rows, "none": ()}).coverage
    assert {name: (one.total, one.done) for name, one in found.items()} == {"issues": (10, 3)}
