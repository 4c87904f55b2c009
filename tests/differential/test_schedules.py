"""Schedules, compared with a table made by the engine's own parser (robfig/cron 3.0.1,
`ParseStandard`): expression, zone, moment, and the next six firings, or null if it refuses.

The zones have stable laws, since this machine's data may be newer than the table.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from runner.spec.recurring import BadCron, firings, parse
from tests.depth import depth

TABLE = Path(__file__).parent / "firings.jsonl"


def _due(expression: str, zone: str, moment: str) -> list[int] | None:
    try:
        cron = parse(expression)
    except BadCron:
        return None
    found, at = list[int](), datetime.fromisoformat(moment)
    while len(found) < 6 and (due := next(firings(cron, ZoneInfo(zone), at), None)):
        at = due.astimezone(UTC)
        found.append(int(at.timestamp()))
    return found


def test_each_expression_is_due_when_the_engine_fires_it_and_refused_where_it_refuses(
    record_property: Any,
) -> None:
    rows = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()[:: depth(10, 1)]]
    wrong = [(*asked, due, found) for *asked, due in rows if (found := _due(*asked)) != due]
    assert not wrong, wrong[:5]
    record_property("schedules as the engine has them", (len(rows),))
