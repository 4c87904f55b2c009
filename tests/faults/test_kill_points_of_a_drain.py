"""A drain killed at any named point, and resumed: rounds are neither lost nor sent twice."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.journal.store import Store
from tests.cli.conftest import served
from tests.depth import crossed
from tests.faults.conftest import Finish, Kill
from tests.support import write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  drain:
    event: app/drain
    for_each: repo
    payload: {name: "{{ repo.repo }}"}
    until:
      query: select sum(pending) as pending from repositories
      expect: {column: pending, at_most: 0}
    checks:
      - name: emptied
        query: select sum(pending) as pending from repositories
        expect: {column: pending, decreased: true}
"""
BODY = """\
repos: [{query: select name as repo from repositories where pending > 0 order by name}]
operations: [drain]
delay: 0s
"""
_WHEN = ("before", "after")
_POINTS = [
    "answer-record 1",
    "round-record 1",
    "round-record 2",
    "round-record 4",
    "chunk-record 2",
    "request 3",
    "job-record 2",
    "check-record 1",
    "stage-end 1",
    "run-end 1",
]


@pytest.mark.parametrize(("point", "when"), crossed(_POINTS, _WHEN))
def test_every_round_is_sent_once_and_the_goal_is_reached(
    tmp_path: Path,
    killed: Kill,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    when: str,
) -> None:
    """There are four rounds of two repositories, and the figures from before are those of the run's
    start."""
    database, seen = tmp_path / "app.db", Counter[str]()

    def handler(event: Mapping[str, Any]) -> None:
        seen[event["id"]] += 1
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute(
                "UPDATE repositories SET pending = max(0, pending - 10) WHERE name = ?",
                [event["data"]["name"]],
            )

    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE repositories (name TEXT, pending INTEGER)")
        rows = [("o/a", 35), ("o/b", 40)]
        db.executemany("INSERT INTO repositories VALUES (?, ?)", rows)
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)
    with served(create_app({"app/drain": handler})) as url:
        arguments = ("run", plan, "--target", url, "--format", "json")
        assert killed(point, when, *arguments) == -9
        assert finish(plan, url)["status"] == "completed"
    assert set(seen.values()) == {1}
    assert len(seen) == 8


_AMONG_FAILURES = [
    "round-record 2",
    "round-record 3",
    "chunk-record 3",
    "request 2",
    "job-record 2",
    "run-end 1",
]


@pytest.mark.parametrize(("point", "when"), crossed(_AMONG_FAILURES, _WHEN))
def test_what_fails_on_the_way_is_made_good_by_later_rounds_whenever_it_is_killed(
    tmp_path: Path,
    killed: Kill,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    when: str,
) -> None:
    """There are three rounds of two events per repository; one event of each fails."""
    database, seen, failed = tmp_path / "app.db", Counter[str](), Counter[str]()
    one_at_a_time = threading.Lock()

    def handler(event: Mapping[str, Any]) -> None:
        name = event["data"]["name"]
        with one_at_a_time:
            seen[event["id"]] += 1
            attempts = sum(n for id_, n in seen.items() if id_.split(":")[2].startswith(name))
            if attempts == {"o/a": 1, "o/b": 3}[name]:
                failed[event["id"]] += 1
                raise ValueError("not now")
            with closing(sqlite3.connect(database, timeout=30)) as db, db:
                db.execute(
                    "UPDATE repositories SET pending = max(0, pending - 10) WHERE name = ?", [name]
                )

    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE repositories (name TEXT, pending INTEGER)")
        db.executemany("INSERT INTO repositories VALUES (?, ?)", [("o/a", 35), ("o/b", 40)])
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")
    body = BODY.replace("operations: [drain]", "operations: [{use: drain, repeat: 2}]")
    plan = write_plan(tmp_path, body + "on_failure: continue\n", catalog=CATALOG)
    with served(create_app({"app/drain": handler})) as url:
        arguments = ("run", plan, "--target", url, "--format", "json")
        assert killed(point, when, *arguments) == -9
        assert finish(plan, url)["status"] == "completed"
    assert set(seen.values()) == {1}
    assert len(failed) == 2
    with Store() as store:
        (record,) = (line.record for line in store.runs())
        assert store.retriable(record, ["failed"], ()) == {}
        assert store.reading(record).totals().failed == 2
        assert store.reading(record).failures() == []
