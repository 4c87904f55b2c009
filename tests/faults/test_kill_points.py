"""A process killed at any named point of a run, and resumed: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import COMMAND, served
from tests.faults.killed import OF_DRAINS, POINTS
from tests.support import repos, write_plan

ROOT = Path(__file__).parents[2]
_WHEN = ("before", "after")
_OFTEN = ("chunk-record", "request", "answer", "accepted", "accepted-record", "job-record")
_KILLS = [
    *((point, when, 1) for point in POINTS if point not in OF_DRAINS for when in _WHEN),
    *((point, when, 3) for point in _OFTEN for when in _WHEN),
]


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def killed(point: str, when: str, number: int, *arguments: object) -> int:
    command = [sys.executable, "-m", "tests.faults.killed", point, when, str(number)]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=_env(), capture_output=True, timeout=60, check=False
    )
    return done.returncode


def finish(plan: Path, url: str) -> dict[str, Any]:
    """Resume; where the process died before there was a run, run."""
    options = ("--format", "json")
    done = subprocess.run(
        [*COMMAND, "resume", "latest", *options],
        env=_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "there is no run yet" in done.stderr:
        command = [*COMMAND, "run", str(plan), "--target", url, *options]
        done = subprocess.run(
            command, env=_env(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)) if done.stdout else {"status": "completed"}


@pytest.mark.parametrize(("point", "when", "number"), _KILLS)
def test_killed_and_resumed_every_event_takes_effect_exactly_once(
    tmp_path: Path, record_property: Any, point: str, when: str, number: int
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
