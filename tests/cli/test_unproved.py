"""What a run has not proved stays unproved until a check proves it, for all of its items."""

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
# Compared with the values before the first run, or with its start: a retry moves nothing again.
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
    """The job of o/a fails at first; the job of o/b completes, and does nothing if `lazy`.
    Otherwise the retry proves what the first run moved."""
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


SIDE_BY_SIDE = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  embed: {event: app/embed, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  pairs: {event: app/pairs, for_each: repo, group: 2, payload: {repo: "{{ rows[0].repo }}"}}
  total: {event: app/total, for_each: workspace, payload: {repo: "{{ workspace.id }}"}}
"""
EACH = "select name as repo, done, at from repositories where name in :repos"
NEWER = "{column: at, newer_than: run.started_at}"
MORE = "{column: done, increased: true}"


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(
    ("operations", "query", "expected"),
    [
        ("sync, embed", EACH, NEWER),
        ("sync, embed", EACH, MORE),
        ("pairs", EACH, NEWER),
        ("sync, total", EACH, NEWER),
        ("sync, total", "select min(at) as at from repositories", NEWER),
        (
            "sync, total",
            "select min(done) as done from repositories",
            "{column: done, at_least: 1}",
        ),
    ],
)
def test_what_the_first_run_has_moved_is_not_to_move_for_a_retry_that_sends_something_else(
    backfill: Backfill,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: str,
    query: str,
    expected: str,
    lazy: bool,
) -> None:
    """The first run moves all rows, and one event fails that is for other work. If `lazy`, o/a did
    not move: its check must still hold, even in a retry that does not send its operation."""
    database, failing = tmp_path / "app.db", [True]

    def change(statement: str) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute(statement)

    def work(event: Mapping[str, Any]) -> None:
        name, repo = event["name"], event["data"]["repo"]
        pair = ("o/a", "o/b") if (name, repo) == ("app/pairs", "o/a") else (repo, repo)
        if name in ("app/sync", "app/pairs"):
            change(f"{DONE} WHERE name IN {pair} AND (name <> 'o/a' OR NOT {lazy})")
        if failing[0] and name != "app/sync" and repo in ("o/c", "w"):
            raise ValueError("not now")

    change("CREATE TABLE repositories (name TEXT, pending INTEGER, done INTEGER, at TEXT)")
    for name in "abc":
        change(f"INSERT INTO repositories VALUES ('o/{name}', 3, 0, '2026-01-01')")
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")
    body = (
        "repos: [o/a, o/b, o/c]\nworkspace: w\non_failure: continue\nflow: items\n"
        f"operations: [{operations}]\n"
        f"checks:\n  - name: moved\n    query: {query}\n    expect: {expected}\n"
    )
    if operations != "sync, total":
        body += f"    after: {operations.partition(',')[0]}\n"
    plan = write_plan(tmp_path, body, catalog=SIDE_BY_SIDE)
    handlers = dict.fromkeys(("app/sync", "app/embed", "app/pairs", "app/total"), work)
    with served(create_app(handlers)) as url:
        first = json.loads(backfill("run", plan, "--target", url, "--format", "json").out)
        assert [one["ok"] for one in first["checks"]] == [not lazy]
        assert (first["totals"]["failed"], first["status"]) == (1, "failed")
        failing[0] = False
        retried = backfill("retry", "latest", "--format", "json")
        assert retried.status == (1 if lazy else 0), retried.out
        applied = ("apply", plan, "--target", url)
        shown = json.loads(backfill(*applied, "--dry-run", "--all", "--format", "json").out)
        assert shown["plans"][0]["state"] == ("failed" if lazy else "applied")
        if lazy:
            change(DONE)
            assert backfill("resume", first["run_id"]).status == 0, "it asks again"


@pytest.mark.parametrize("moment", ["after: sync", "at: end"])
def test_a_run_that_failed_over_a_check_alone_is_said_to_be_resumed_which_asks_it_again(
    backfill: Backfill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The run's last lines, `status`, `report`, the page, and the refusals of `apply` and `retry`
    say so."""
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE repositories (name TEXT, pending INTEGER)")
        db.execute("INSERT INTO repositories VALUES ('o/a', 3)")
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")
    check = f"{{name: done, {moment}, query: select pending from repositories, expect: {EXPECTED}}}"
    body = f"repos: [o/a]\noperations: [sync]\nchecks: [{check}]\n"
    plan = write_plan(tmp_path, body, catalog=SIDE_BY_SIDE)
    with served(create_app({"app/sync": lambda _: None})) as url:
        ran = backfill("run", plan, "--target", url)
        assert ran.status == 1
        run_id = json.loads(backfill("status", "latest", "--format", "json").out)["run_id"]
        backfill("report", "--html", "run.html")
        said = {
            "run": ran.out,
            "status": backfill("status").out,
            "report": backfill("report").out,
            "page": Path("run.html").read_text("utf-8"),
            "apply": backfill("apply", plan, "--target", url).err,
            "retry": backfill("retry", run_id).err,
        }
        resume = f"backfill resume {run_id}"
        assert [name for name, text in said.items() if resume not in text] == []
        assert [name for name, text in said.items() if "backfill retry" in text] == []
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("UPDATE repositories SET pending = 0")
        assert backfill("resume", run_id).status == 0
