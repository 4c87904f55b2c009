"""Notices of a submitted run: the workers send them, whoever submitted the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner import model
from runner.adapters.inngest.target import resolve
from runner.adapters.journal.store import Store
from tests.hooks import Hook, listening
from tests.support import make_plan, repos, write_plan
from tests.worker.conftest import World
from tests.worker.test_serve import Backfill, Site, site, submit

__all__ = ["site"]

PROJECT = """\
apiVersion: backfill/v1
kind: BackfillProject
notify: [{kind: webhook, url: HOOK}]
"""


def test_the_workers_tell_of_a_run_with_the_url_that_they_have(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    (tmp_path / "backfill.yaml").write_text(PROJECT, encoding="utf-8")
    plan = write_plan(tmp_path, repos(3) + "operations: [sync]\nbatch_size: 1\ndelay: 100ms\n")
    site.failing = {"o/r1"}
    with listening(Hook()) as hook:
        run_id = submit(backfill, site, plan)
        assert hook.told == [], "whoever submits it has no URL"
        site.env["HOOK"] = hook.url
        site.serve()
        site.engine.run_all()
    assert hook.events == ["started", "failed", "ended"]
    assert {body["run_id"] for body in hook.told} == {run_id}
    assert hook.told[-1]["status"] == "failed"


def test_a_hook_that_cannot_be_told_is_noted_once_however_many_steps_a_run_takes(
    tmp_path: Path, new_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = new_world()
    plan = make_plan(tmp_path, repos(4) + "operations: [sync]\nbatch_size: 1\ndelay: 30s\n")
    target = resolve(world.url, {})
    record = {"target": world.url, "address": target.address, "variables": {}, "follow": True}
    hooks = [model.Hook("webhook", "UNSET")]
    with Store(world.state) as store:
        lease = store.lock(plan.name, target.address, "RUN1")
        store.start("RUN1", plan, lease, **record, hooks=hooks)
        store.park(lease, world.clock.now, "nobody yet")
    (ran,) = world.carry_on(plan)
    assert ran.output == {"run": "RUN1", "status": "completed"}
    assert len(ran.steps) > 3
    noted = [one for one in caplog.messages if "UNSET is not set" in one]
    assert len(noted) == 1
