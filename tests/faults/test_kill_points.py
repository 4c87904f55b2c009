"""A process killed at any named point of a run, and resumed: nothing lost, nothing doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.faults.conftest import Finish, Kill
from tests.faults.killed import OF_DRAINS, POINTS
from tests.support import repos, write_plan

_WHEN = ("before", "after")
_OFTEN = ("chunk-record", "request", "answer", "accepted", "accepted-record", "job-record")
_KILLS = [
    *((point, when, 1) for point in POINTS if point not in OF_DRAINS for when in _WHEN),
    *((point, when, 3) for point in _OFTEN for when in _WHEN),
]


@pytest.mark.parametrize(("point", "when", "number"), _KILLS)
def test_killed_and_resumed_every_event_takes_effect_exactly_once(
    tmp_path: Path,
    killed: Kill,
    finish: Finish,
    record_property: Any,
    point: str,
    when: str,
    number: int,
) -> None:
    effects: list[str] = []

    def handler(event: Mapping[str, Any]) -> None:
        effects.append(event["id"].split(":", 1)[1])

    plan = write_plan(tmp_path, repos(5) + "operations: [sync, embed]\nbatch_size: 2\ndelay: 0s\n")
    with served(create_app({"app/sync": handler, "app/embed": handler})) as url:
        arguments = ("run", plan, "--target", url, "--format", "json")
        assert killed(point, when, number, *arguments) == -9
        assert finish(plan, url)["status"] == "completed"
    counts = Counter(effects)
    lost = 10 - len(counts)
    doubled = sum(count - 1 for count in counts.values())
    record_property("kill points: kills, lost, doubled", (1, lost, doubled))
    assert (lost, doubled) == (0, 0)
