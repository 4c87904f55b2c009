"""A drain killed at any named point, and resumed: rounds are neither lost nor sent twice."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.faults.test_kill_points import finish, killed
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
_KILLS = [
    (point, when, number)
    for when in ("before", "after")
    for point, number in (
        ("answer-record", 1),
        ("round-record", 1),
        ("round-record", 2),
        ("round-record", 4),
        ("chunk-record", 2),
        ("request", 3),
        ("job-record", 2),
        ("check-record", 1),
        ("stage-end", 1),
        ("run-end", 1),
    )
]


@pytest.mark.parametrize(("point", "when", "number"), _KILLS)
def test_every_round_is_sent_once_and_the_goal_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, when: str, number: int
) -> None:
    """Four rounds of two repositories, and the figure of before is that of the run's start."""
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
        assert killed(point, when, number, *arguments) == -9
        assert finish(plan, url)["status"] == "completed"
    assert set(seen.values()) == {1}
    assert len(seen) == 8
