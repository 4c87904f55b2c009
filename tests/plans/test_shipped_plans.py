"""The plans of `plans/` run to their end on the embedded target, each on an empty machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import runner
from tests.support import HurriedClock

PLANS = Path(__file__).parents[2] / "plans"


@pytest.mark.parametrize(
    "name", sorted(path.name for path in PLANS.glob("*.yaml") if ".test." not in path.name)
)
def test_a_shipped_plan_completes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTART_DATABASE", str(tmp_path / "quickstart.db"))
    with runner.Session(str(tmp_path / "state.db"), environ={}, clock=HurriedClock()) as session:
        plan = session.plan(str(PLANS / name))
        outcome = session.run(plan)
    assert outcome.status == "completed"
    assert outcome.totals.completed == outcome.totals.planned > 0
