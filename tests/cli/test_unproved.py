"""What a run has not proved stays unproved until something has proved it, for all of its items."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.support import write_plan
from tests.types import Backfill

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    checks:
      - name: synced
        query: select name as repo, pending, done, at from repositories where name in :repos
        expect: {column: pending, at_most: 0}
"""
EXPECTED = "{column: pending, at_most: 0}"
# By what was there before the first run, and when it began: what it has moved is not moved again.
COMPARED = [
    EXPECTED,
    "{column: pending, decreased: true}",
    "{column: done, increased: true}",
    "{column: done, at_least: 1}",
    "{column: at, newer_than: run.started_at}",
    "{rows: 1}",
]
DONE = """UPDATE repositories SET pending = 0, done = done + 1,
at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')"""
BODY = "repos: [o/a, o/b]\noperations: [sync]\non_failure: continue\n"


@pytest.mark.parametrize("expected", COMPARED)
@pytest.mark.parametrize("lazy", [True, False])
def test_a_retry_does_not_prove_an_item_whose_job_completed_and_did_nothing(
    backfill: Backfill,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lazy: bool,
    expected: str,
) -> None:
    """The job of o/a fails at first; that of o/b completes, and where it is lazy nothing moves.
    Then nothing else does: what the first run has moved is proved."""
    database, failing = tmp_path / "app.db", [True]

    def change(statement: str) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute(statement)

    def work(event: Mapping[str, Any]) -> None:
        repo = event["data"]["repo"]
        if repo == "o/a" and failing[0]:
            raise ValueError("not now")
        if repo == "o/a" or not lazy:
            change(f"{DONE} WHERE name = '{repo}'")

    change("CREATE TABLE repositories (name TEXT, pending INTEGER, done INTEGER, at TEXT)")
    change(
        "INSERT INTO repositories VALUES ('o/a', 3, 0, '2026-01-01'), ('o/b', 3, 0, '2026-01-01')"
    )
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")
    catalog = CATALOG.replace(EXPECTED, expected)
    if expected == "{rows: 1}":
        catalog = catalog.replace(":repos", ":repos and at > :run_started_at")
    plan = write_plan(tmp_path, BODY, catalog=catalog)
    with served(create_app({"app/sync": work})) as url:
        assert backfill("run", plan, "--target", url).status == 1
        failing[0] = False
        retried = backfill("retry", "latest", "--format", "json")
        summary = json.loads(retried.out)
        assert summary["totals"]["planned"] == summary["totals"]["completed"] == 1
        assert [check["ok"] for check in summary["checks"]] == [not lazy]
        applied = ("apply", plan, "--target", url)
        shown = backfill(*applied, "--dry-run", "--all", "--format", "json").out
        (entry,) = json.loads(shown)["plans"]
        assert entry["state"] == ("failed" if lazy else "applied")
        assert backfill(*applied).status == (1 if lazy else 0)
        if lazy:
            change(DONE)
            assert backfill("resume", entry["run_id"]).status == 0, "it asks again"
            assert backfill(*applied).status == 0
