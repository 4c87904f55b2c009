"""The ledger for people: the state of each plan on a target."""

from __future__ import annotations

from typing import get_args

import pytest

from runner.output.ledger import ledger_markdown, ledger_text
from runner.planning.ledger import LedgerEntry, PlanState


@pytest.mark.parametrize("state", get_args(PlanState))
def test_every_state_of_a_plan_can_be_shown(state: PlanState) -> None:
    entry = LedgerEntry("one", "one.yaml", state, None, ())
    assert state in ledger_text([entry], color=True, width=80)
    shown = ledger_markdown([entry], "dev", None, link=None)
    assert f": 1 plan {state}\n" in shown
    assert f"| one | {state} |  |" in shown
