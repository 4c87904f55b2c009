"""The shipped examples of other backfills, run to their end with their own workers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.spec.load import load_plan
from tests.support import HurriedClock

EXAMPLES = Path(__file__).parents[2] / "plans" / "examples"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[runner.Session]:
    monkeypatch.setenv("EXAMPLES_FOLDER", str(tmp_path / "done"))
    with runner.Session(str(tmp_path / "state.db"), environ={}, clock=HurriedClock()) as session:
        yield session


def completed(session: runner.Session, name: str) -> int:
    """How many events; the journal has each of them as it was planned."""
    plan = session.plan(str(EXAMPLES / name / "plan.yaml"))
    outcome = session.run(plan)
    assert outcome.status == "completed"
    events = list(session.events(outcome.run_id))
    assert [(one.stage, one.operation, one.item, one.event) for one in events] == [
        (one.stage, one.operation, one.item, one.event.name) for one in plan.events()
    ]
    assert {one.outcome for one in events} == {"completed"}
    return outcome.totals.completed


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "done" / "done.db")) as db:
        return db.execute(query).fetchall()


def test_each_tenants_days_are_counted_and_exported(
    session: runner.Session, tmp_path: Path
) -> None:
    assert completed(session, "daily-totals") == 42
    assert rows(
        tmp_path, "SELECT count(*), count(DISTINCT day), min(day), max(until) FROM totals"
    ) == [(21, 7, "2026-02-01", "2026-02-08")]
    assert rows(tmp_path, "SELECT count(*), max(day) FROM exports") == [(21, "2026/02/07")]


def test_the_days_go_item_by_item(session: runner.Session) -> None:
    plan = session.plan(str(EXAMPLES / "daily-totals" / "plan.yaml"))
    first = [(one.stage, one.operation, one.item) for one in plan.events()][:4]
    assert first == [
        (1, "recount", "2026-02-01/acme"),
        (1, "export", "2026-02-01/acme"),
        (1, "recount", "2026-02-01/globex"),
        (1, "export", "2026-02-01/globex"),
    ]


def test_users_of_a_file_have_profiles_and_are_greeted(
    session: runner.Session, tmp_path: Path
) -> None:
    assert completed(session, "user-profiles") == 6
    assert rows(tmp_path, "SELECT user, event, since, team FROM profiles ORDER BY user") == [
        (1001, "profile-v2-1001", "2025-11-03", "blue"),
        (1002, "profile-v2-1002", "2025-11-04", None),
        (1003, "profile-v2-1003", "2025-12-24", "red"),
        (1004, "profile-v2-1004", "2026-01-02", "red"),
    ]
    assert rows(tmp_path, "SELECT user, at FROM welcomes ORDER BY user") == [
        (1001, 1767603600000),
        (1003, 1767636000000),
    ]


def test_documents_go_by_the_hundred_and_never_of_two_indexes(
    session: runner.Session, tmp_path: Path
) -> None:
    assert completed(session, "reindex-documents") == 3
    found = rows(tmp_path, "SELECT name, count(*), min(together) FROM documents GROUP BY name")
    assert found == [("api", 80, 80), ("blog", 80, 80), ("guides", 80, 80)]


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.rglob("plan.yaml")), ids=lambda path: path.parent.name
)
def test_an_example_has_nothing_to_warn_of(path: Path) -> None:
    assert load_plan(str(path), strict=True).warnings == ()
