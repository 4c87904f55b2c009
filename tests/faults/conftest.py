"""Commands that are killed at a named point, and what finishes their work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Start, backfill, start
from tests.types import Backfill

__all__ = ["backfill", "start"]  # fixtures of the command line

Kill = Callable[..., int]


@pytest.fixture
def killed(start: Start) -> Kill:
    """What `backfill ARGUMENTS` ends with that is killed at a point, as in ``request 3``: the third
    time that it comes there."""

    def run(point: str, when: str, *arguments: object) -> int:
        name, number = point.split()
        process = start(*arguments, env={**os.environ, "SANDBOX_KILLED": f"{name} {when} {number}"})
        process.communicate(timeout=60)
        return process.wait()

    return run


Finish = Callable[[Path, str], dict[str, Any]]


@pytest.fixture
def finish(backfill: Backfill) -> Finish:
    """Resume; where the process died before there was a run, run."""

    def run(plan: Path, url: str) -> dict[str, Any]:
        options = ("--format", "json")
        done = backfill("resume", "latest", *options)
        if "there is no state in" in done.err or "there is no run yet" in done.err:
            done = backfill("run", plan, "--target", url, *options)
        assert done.status == 0, done.err
        return dict(json.loads(done.out)) if done.out else {"status": "completed"}

    return run
