"""What a stage with a goal does next, by the first figure that its database gives."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from runner.execution.rounds import Rounds
from runner.model import RowSecurity, Table


@pytest.mark.parametrize(
    ("left", "blind", "what"),
    [(0, True, "stalled"), (0, False, "done"), (3, True, "round"), (3, False, "round")],
)
def test_a_first_zero_of_rows_that_policies_hide_is_no_goal(
    left: int, blind: bool, what: str
) -> None:
    async def ask(_question: Any) -> Table:
        return Table(("pending",), ((left,),))

    async def row_security(_question: Any) -> tuple[RowSecurity, ...]:
        return (RowSecurity("backlog", blind=blind),)

    expect = SimpleNamespace(column="pending", at_most=0, at_least=None)
    until = SimpleNamespace(
        question=None, expect=expect, max_time=60.0, max_rounds=9, stalled_after=3
    )
    stage: Any = SimpleNamespace(number=1, operation="drain", until=until)
    journal: Any = SimpleNamespace(rounds=lambda _stage: [])
    within = lambda _seconds: nullcontext()  # noqa: E731
    queries: Any = SimpleNamespace(ask=ask, row_security=row_security, within=within)
    nobody: Any = None
    assert asyncio.run(Rounds(journal, nobody, queries, nobody).next(stage)).what == what
