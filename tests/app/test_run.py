"""A run by a session, in process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.journal.reader import JournalReader
from runner.app.prepare import prepare
from runner.app.run import run, submit
from runner.app.session import Session
from runner.execution.context import RunOptions
from runner.model import Query, Table
from tests.support import repos, write_plan

HANDLED = 'handlers: {app/sync: "jobs:sync"}\n'


def test_no_batch_of_a_stage_without_rounds_asks_the_journal_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading would write the last answer before the next request, not while that is under way."""
    asked: list[int] = []
    rounds = JournalReader.rounds

    def counted(self: JournalReader, stage: int) -> object:
        asked.append(stage)
        return rounds(self, stage)

    monkeypatch.setattr(JournalReader, "rounds", counted)
    (tmp_path / "jobs.py").write_text("def sync(event):\n    pass\n")
    body = repos(40) + HANDLED + "operations: [sync]\nbatch_size: 1\ndelay: 0s\n"
    plan = write_plan(tmp_path, body)
    with runner.Session(state=tmp_path / "state.db") as session:
        assert session.run(session.plan(plan)).totals.completed == 40
    assert len(asked) < 10


def test_files_may_be_given_as_paths(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    with runner.Session(state=tmp_path / "state.db") as session:
        assert session.plan(plan).digest == session.plan(str(plan)).digest
        for ask in (session.check, session.coverage):
            with pytest.raises((runner.PreflightRefused, runner.UsageError)):
                ask(plan)


def test_what_was_planned_is_run_once_and_the_refusal_says_to_plan_again(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("def sync(event):\n    pass\n")
    plan = write_plan(tmp_path, repos(2) + HANDLED + "operations: [sync]\n")
    with runner.Session(state=tmp_path / "state.db") as session:
        planned = session.plan(plan)
        session.run(planned)
        with pytest.raises(runner.StalePlan, match=r"^this plan was run already") as again:
            session.run(planned)
    assert "or plan again" in (again.value.hint or "")


def test_only_what_was_planned_is_run(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + HANDLED + "operations: [sync]\n")
    with runner.Session(state=tmp_path / "state.db") as session:
        for other in (plan, str(plan), session.plan(plan).plan):
            for use in (session.run, session.submit):
                with pytest.raises(runner.UsageError, match=r"cannot be run") as refused:
                    use(other)  # type: ignore[arg-type]
                assert refused.value.hint == "give what `session.plan(PATH)` has returned"
        assert session.runs() == []


@pytest.mark.parametrize("start", [run, submit])
@pytest.mark.parametrize(
    ("body", "target", "words"),
    [
        (repos(2), "dev", "the policy does not allow test"),
        (repos(1) + "approval: {required: true}\n", "dev", "needs an approval"),
        ("repos: []\n", "dev", "there is nothing to send"),
        (repos(1), "cloud", "needs an event key"),
    ],
)
def test_what_is_known_to_be_refused_is_refused_before_a_server_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., object],
    body: str,
    target: str,
    words: str,
) -> None:
    plan = str(write_plan(tmp_path, body + "operations: [sync]\n"))
    rule = '{name: small, require: "totals.events < 2"}'
    project = f"apiVersion: backfill/v1\nkind: BackfillProject\npolicy: [{rule}]\n"
    (tmp_path / "backfill.yaml").write_text(project, encoding="utf-8")
    with Session(tmp_path / "state.db", environ={}) as session:
        monkeypatch.setattr(session, "connect", lambda *_: pytest.fail("it was asked"))
        with pytest.raises(runner.PreflightRefused, match=words):
            start(session, prepare(session, plan, target=target), RunOptions(yes=True))


def test_a_run_asks_its_questions_once_and_what_is_planned_before_it_more_patiently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is resumed: a wait of its own is shown and counts against a drain's time."""
    path, asked = tmp_path / "app.db", list[tuple[str, bool]]()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE repositories (name TEXT, pending INTEGER)")
        db.execute("INSERT INTO repositories VALUES ('o/a', 5)")
    ask = SqlDatabase.ask

    def noted(self: SqlDatabase, query: Query, given: Any, *, once: bool = False) -> Table:
        asked.append((query.text.split()[1], once))
        return ask(self, query, given, once=once)

    monkeypatch.setattr(SqlDatabase, "ask", noted)
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  l: {query: select name as repo from repositories where name in :keys, key: repo}
operations:
  drain:
    event: app/drain
    for_each: repo
    lookups: [l]
    payload: {}
    until:
      query: select sum(pending) as n from repositories
      expect: {column: n, at_most: 0}
      max_rounds: 1
"""
    (tmp_path / "jobs.py").write_text("def drain(event):\n    pass\n")
    handled = 'handlers: {app/drain: "jobs:drain"}\n'
    body = "repos: [o/a]\noperations: [drain]\ndelay: 0s\n" + handled
    plan = write_plan(tmp_path, body, catalog=catalog)
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{path}"}
    with runner.Session(f"sqlite:///{tmp_path / 'state.db'}", environ=environ) as session:
        planned = session.plan(plan, target="embedded")
        run = session.run(planned)
        before = [("name", False), ("sum(pending)", False)]  # it is planned, and may begin
        assert asked[:2] == before
        assert asked[2:] == [("sum(pending)", True), ("name", True), ("sum(pending)", True)]
        asked.clear()
        session.resume(run.run_id, options=RunOptions(yes=True, max_rounds=2))
    assert asked[0] == ("name", False)
    assert {once for what, once in asked if what == "sum(pending)"} == {True}
