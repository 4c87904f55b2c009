"""A step ends on time, whatever the server does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.app.worker import StepRequest
from tests.support import make_plan, repos
from tests.worker.conftest import World


def test_a_sweep_that_hangs_does_not_outlast_the_step(
    tmp_path: Path, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> Any:
        await asyncio.sleep(60)

    world = new_world(budget=2.0)
    world.write_down(make_plan(tmp_path, repos(3) + "operations: [sync]\n"))
    before = HttpJobsApi.jobs
    monkeypatch.setattr(HttpJobsApi, "jobs", slow)
    began = time.monotonic()
    result = world.steps().step(StepRequest("RUN1"), None)
    took = time.monotonic() - began
    assert result.status == "running"
    assert took < 10, "a look takes a minute there"
    monkeypatch.setattr(HttpJobsApi, "jobs", before)
    ended = world.steps().step(StepRequest("RUN1"), result)
    assert ended.status == "completed"
    assert len(world.started) == 3
