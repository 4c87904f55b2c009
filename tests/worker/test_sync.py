"""A git branch whose plans are submitted to the workers: `sync --detach`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Result, until
from tests.git import Git
from tests.support import CATALOG
from tests.worker.test_serve import Site

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: {name}}}
catalog: catalog.yaml
repos: [{repo}]
operations: [sync]
"""
Backfill = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path, warm: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, warm)


def test_plans_of_a_branch_are_handed_over_one_after_the_other_and_then_it_is_applied(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    remote = Git.init(tmp_path / "remote")
    remote.write("plans/catalog.yaml", CATALOG)
    remote.write("plans/1.yaml", PLAN.format(name="one", repo="o/a"))
    remote.write("plans/2.yaml", PLAN.format(name="two", repo="o/b"))
    commit = remote.commit()

    def look() -> tuple[int, dict[str, Any]]:
        asked = ("sync", "--repo", remote.folder, "--target", site.url, "--once", "--detach")
        done = backfill(*asked, env=site.env)
        (found,) = json.loads(backfill("status", "--format", "json", env=site.env).out)["syncs"]
        return done.status, found

    site.serve()
    for item in ("o/a", "o/b"):
        assert look()[0] == 7
        status, found = look()  # the workers drive it, and nothing else is submitted
        assert (status, found["outcome"], found["applied"]) == (7, "applying", None)
        assert "is with the workers" in found["message"]
        until(lambda: bool(site.engine.events))
        (ran,) = site.engine.run_all()
        assert ran.output["status"] == "completed", ran.error
        assert site.order[-1] == item

    status, found = look()
    assert (status, found["outcome"], found["applied"]) == (0, "applied", commit)
    assert site.order == ["o/a", "o/b"]
    assert look()[0] == 0


def test_a_run_that_fails_at_the_workers_is_the_syncs_failure(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    remote = Git.init(tmp_path / "remote")
    remote.write("plans/catalog.yaml", CATALOG)
    remote.write("plans/1.yaml", PLAN.format(name="one", repo="o/broken"))
    remote.commit()
    asked = ("sync", "--repo", remote.folder, "--target", site.url, "--once", "--detach")
    site.failing.add("o/broken")
    site.serve()
    assert backfill(*asked, env=site.env).status == 7
    until(lambda: bool(site.engine.events))
    site.engine.run_all()
    failed = backfill(*asked, env=site.env)
    assert failed.status == 1
    assert "`backfill retry" in failed.err
    (found,) = json.loads(backfill("status", "--format", "json", env=site.env).out)["syncs"]
    assert found["outcome"] == "failed"
