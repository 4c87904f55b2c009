"""Nothing to do is handled in one way, whatever the reason and the command: `if_empty`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import runner
from tests.cli.conftest import Jobs
from tests.support import write_plan
from tests.types import Backfill

EMPTY = {
    "an empty list": "repos: []\n",
    "a data file without rows": "repos: [{file: none.csv}]\n",
    "a query without rows": "repos: [{query: select name as repo from r}]\n",
    "a condition that none meets": "repos: [{repo: o/a, velocity: 1}]\n",
}
USE = "operations: [{use: sync, when: repo.velocity > 5}]\n"


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.csv").write_text("repo\n", encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute("CREATE TABLE r (name TEXT)")
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{tmp_path / 'app.db'}")


@pytest.mark.parametrize("why", EMPTY)
def test_nothing_to_do_ends_with_4(backfill: Backfill, tmp_path: Path, url: str, why: str) -> None:
    plan = write_plan(tmp_path, EMPTY[why] + USE)
    shown = backfill("plan", plan)
    assert (shown.status, "(empty)" in shown.err) == (0, True)
    for command in ("run", "apply"):
        refused = backfill(command, plan, "--target", url, "--yes")
        assert (refused.status, "there is nothing to send" in refused.err) == (4, True), command
    with runner.Session() as session, pytest.raises(runner.PreflightRefused):
        session.run(session.plan(str(plan), target=url))


@pytest.mark.parametrize("why", EMPTY)
def test_where_that_is_fine_it_is_done(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs, why: str
) -> None:
    plan = write_plan(tmp_path, EMPTY[why] + USE + "if_empty: ok\n")
    shown = backfill("plan", plan)
    assert (shown.status, "(empty)" in shown.err) == (0, False)
    done = backfill("run", plan, "--target", url, "--format", "json")
    assert (done.status, json.loads(done.out)["status"]) == (0, "completed"), done.err
    applied = backfill("apply", plan, "--target", url, "--yes")
    assert (applied.status, applied.out) == (0, "nothing is pending: 1 plan is applied\n")
    assert jobs.items == []
    with runner.Session() as session:
        assert session.run(session.plan(str(plan), target=url)).status == "completed"
