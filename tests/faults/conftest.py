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
    """Run `backfill ARGUMENTS`, kill it at a point, such as ``request 3`` (the third time that it
    gets there), and return its exit status."""

    def run(point: str, when: str, *arguments: object) -> int:
        name, number = point.split()
        process = start(*arguments, env={**os.environ, "SANDBOX_KILLED": f"{name} {when} {number}"})
        process.communicate(timeout=60)
        return process.wait()

    return run


Finish = Callable[[Path, str], dict[str, Any]]


@pytest.fixture
def finish(backfill: Backfill) -> Finish:
    """Resume the run; if the process died before there was a run, start one."""

    def run(plan: Path, url: str) -> dict[str, Any]:
        options = ("--format", "json")
        done = backfill("resume", "latest", *options)
        if "there is no state in" in done.err or "there is no run yet" in done.err:
            done = backfill("run", plan, "--target", url, *options)
        assert done.status == 0, done.err
        return dict(json.loads(done.out)) if done.out else {"status": "completed"}

    return run
