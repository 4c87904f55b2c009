"""A process killed at any named point of a run, and resumed: nothing lost, nothing doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.depth import crossed
from tests.faults.conftest import Finish, Kill
from tests.faults.killed import OF_DRAINS, POINTS
from tests.support import repos, write_plan

_WHEN = ("before", "after")
_OFTEN = ("chunk-record", "request", "answer", "accepted", "accepted-record", "job-record")
_KILLS = [
    *crossed([f"{point} 1" for point in POINTS if point not in OF_DRAINS], _WHEN),
    *crossed([f"{point} 3" for point in _OFTEN], _WHEN),
]


@pytest.mark.parametrize(("point", "when"), _KILLS)
def test_killed_and_resumed_every_event_takes_effect_exactly_once(
    tmp_path: Path,
    killed: Kill,
    finish: Finish,
    record_property: Any,
    point: str,
    when: str,
) -> None:
    operations = "operations: [sync, embed]\n"
    counts = _effects(tmp_path, operations, (point, when), killed, finish)
    lost = 10 - len(counts)
    doubled = sum(count - 1 for count in counts.values())
    record_property("kill points: kills, lost, doubled", (1, lost, doubled))
    assert (lost, doubled) == (0, 0)


@pytest.mark.parametrize(
    ("point", "when"),
    [("chunk-record", "after"), ("request", "before"), ("answer", "before"), ("accepted", "after")],
)
def test_so_does_every_event_of_operations_that_share_a_stage(
    tmp_path: Path, killed: Kill, finish: Finish, point: str, when: str
) -> None:
    operations = "operations: [sync, fire]\nflow: items\n"
    counts = _effects(tmp_path, operations, (f"{point} 2", when), killed, finish)
    assert sorted(counts.elements()) == sorted(
        f"{name}:o/r{number}" for name in ("sync", "fire") for number in range(5)
    )


def _effects(
    folder: Path, operations: str, at: tuple[str, str], killed: Kill, finish: Finish
) -> Counter[str]:
    """Return how often each event, by its id, took effect in a run that was killed there and
    resumed."""
    effects: list[str] = []

    def handler(event: Mapping[str, Any]) -> None:
        effects.append(event["id"].split(":", 1)[1])

    plan = write_plan(folder, f"{repos(5)}{operations}batch_size: 2\ndelay: 0s\n")
    handlers = dict.fromkeys(("app/sync", "app/embed", "app/fire"), handler)
    with served(create_app(handlers)) as url:
        arguments = ("run", plan, "--target", url, "--format", "json")
        assert killed(*at, *arguments) == -9
        assert finish(plan, url)["status"] == "completed"
    return Counter(effects)
