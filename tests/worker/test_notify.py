"""A run that is left to the workers: they tell of it, whoever has submitted it."""

from __future__ import annotations

from pathlib import Path

from tests.hooks import Hook, listening
from tests.support import repos, write_plan
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
