"""The state: it is found again, and refused with a clear message."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.database import Database, _File
from runner.adapters.journal.store import Store
from runner.errors import TargetError, UsageError
from runner.execution.ports import Answer, Control
from runner.model import Submission
from tests.adapters.journal.lives import Life
from tests.support import (
    CATALOG,
    ORIGIN,
    REQUEST,
    change_leases,
    let_go,
    make_plan,
    new_store,
    repos,
    start_journal,
)

BODY = repos(1) + "operations: [sync]\n"


def test_a_run_is_found_by_its_beginning_and_as_the_latest(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan, "01AAA")
    start_journal(store, replace(plan, name="another"), "01BBB")
    assert store.find("01a").id == "01AAA"
    assert store.find("latest").id == "01BBB"
    assert store.find("01BBB").digest == plan.digest


def test_the_last_run_of_a_plan_is_found_by_the_plans_name(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    for run, name in (("01A", "one"), ("01B", "one"), ("01C", "other")):
        start_journal(store, replace(plan, name=name), run).end("completed")
        let_go(store)
    assert store.find("latest:one").id == "01B"
    assert store.find("latest:other").id == "01C"
    for mistyped in ("latest:otter", "otter", "latest:"):
        with pytest.raises(UsageError, match="there is no run") as refused:
            store.find(mistyped)
        named = "did you mean `latest:other`?"
        assert (named in (refused.value.hint or "")) == mistyped.endswith("otter")


@pytest.mark.parametrize("run", ["\0", "latest:\0", "\ud800"])
def test_what_no_state_can_hold_is_no_run(tmp_path: Path, state: str, run: str) -> None:
    store = new_store(tmp_path)
    with pytest.raises(UsageError, match="there is no run"):
        store.find(run)


def test_what_no_state_can_hold_of_a_text_is_replaced(tmp_path: Path, state: str) -> None:
    """A run whose check or failure had a zero byte in it could not end on PostgreSQL."""
    catalog = CATALOG + "  weekly: {event: app/weekly, for_each: workspace, payload: {}}\n"
    life = Life(tmp_path, 'workspaces: ["w\\0"]\noperations: [weekly]\n', catalog=catalog)
    life.store.hold("http://other", "there", "a\0b\ud800", None)
    assert [one.reason for one in life.store.holds()] == ["a\ufffdb?"]
    life.take(1, [0])
    life.see(0, "failed", "no\0")
    (event,) = life.store.events(life.record)
    assert (event.item, event.outcome, event.message) == ("w\0", "failed", "no\ufffd")
    life.journal.end("failed", "no\0")
    assert life.record.reason == "no\ufffd"


@pytest.mark.parametrize(
    ("state", "words", "hint"),
    [
        ("42501", "permission denied for schema public", "create, read and write tables"),
        ("3F000", "no schema has been selected to create in", "`schema=` in its URL"),
        ("25006", "cannot execute INSERT in a read-only transaction", "read-only"),
        ("22P05", "no equivalent in encoding LATIN1", "with the encoding UTF8"),
        ("57014", "canceling statement due to statement timeout", "while the state is away"),
        ("42P01", 'relation "runs" does not exist', "while the state is away"),
        (None, 'FATAL:  role "nobody" does not exist', "check the role, the password"),
        (None, "FATAL:  password authentication failed", "check the role, the password"),
        (None, "connection refused", "while the state is away"),
    ],
)
def test_what_postgresql_refuses_has_a_hint_of_its_own(
    state: str | None, words: str, hint: str
) -> None:
    from psycopg import OperationalError, errors

    error = (errors.lookup(state) if state else OperationalError)(words)
    why, said = Database("postgresql://db.example.com/state").dialect.explain(error)
    assert (why, hint in said) == (words, True)


def test_an_unknown_or_ambiguous_run_is_a_usage_error(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan, "01AAA")
    start_journal(store, replace(plan, name="another"), "01BBB")
    with pytest.raises(UsageError, match="there is no run 02"):
        store.find("02")
    with pytest.raises(UsageError, match="more than one run begins with 01"):
        store.find("01")


def test_the_default_folder_ignores_itself_in_git() -> None:
    Store().close()
    assert Path(".backfill/.gitignore").read_text(encoding="utf-8") == "*\n"
    assert Path(".backfill/state.db").exists()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "://"])
def test_a_state_url_that_cannot_be_used_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="--state"):
        Store(url)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("this is no database, but a text of some length" * 100, encoding="utf-8")
    with pytest.raises(TargetError, match=r"state\.db cannot be used: file is not a database"):
        Store(str(path))


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE backfill_version SET version = 99")
    connection.close()
    with pytest.raises(TargetError, match="newer version"):
        new_store(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(TargetError, match="cannot be created"):
        Store(str(tmp_path / "file" / "deeper" / "state.db"))


def test_a_run_with_who_carries_it_out_is_one_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan, "01AAA")
    asked: list[str] = []
    spell = store._database.dialect.spell

    def remember(statement: str) -> str:
        asked.append(statement)
        return spell(statement)

    monkeypatch.setattr(store._database.dialect, "spell", remember)
    state = store.run_state("01A")
    assert len(asked) == 1
    assert (state.record.id, state.parked, state.submission) == ("01AAA", False, None)
    assert state.holder is not None
    assert f"process {os.getpid()}" in state.holder


def test_a_run_that_is_left_to_the_workers_says_so(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan, "01AAA").note("begun")
    change_leases(store, "expires_at = 0")
    store.park(store.lock(plan.name, ORIGIN, "01AAA"), time.time(), "somebody")
    state = store.run_state("01AAA")
    assert state.parked
    assert (state.holder, state.submission) == ("somebody", Submission(True, False, "somebody"))


@pytest.mark.usefixtures("state")
def test_whatever_somebody_does_to_a_run_is_in_its_story_with_who_it_was(tmp_path: Path) -> None:
    """A batch appears in the story once it was accepted."""
    plan, store = make_plan(tmp_path, repos(1) + "operations: [sync]\n"), new_store(tmp_path)
    journal = start_journal(store, plan)
    journal.begin_chunk(REQUEST, Control())
    store.request_pause("RUN1")
    store.withdraw_pause("RUN1")
    store.set_pace("RUN1", batch_size=1_000, delay=0.5)
    journal.note("of its own")
    store.request_cancel("RUN1")
    record = store.find("RUN1")
    story = store.story(record)
    assert [(note.message, note.who) for note in story.notes] == [
        ("pause requested", record.started_by),
        ("end of the pause requested", record.started_by),
        ("another pace requested: batch size 1,000, delay 500ms", record.started_by),
        ("of its own", None),
        ("cancel requested", record.started_by),
    ]
    assert not story.batches, "it may not have been taken"
    journal.accept(REQUEST, Answer(("i",)))
    journal.settle()
    assert [batch.events for batch in store.story(record).batches] == [1]


def test_a_story_is_whole_however_long_it_has_become(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, repos(1) + "operations: [sync]\n")
    start_journal(store, plan)
    with store._database.write() as connection:
        for table, columns, values in (
            ("notes", "run_id, at, message", "'RUN1', n, 'note ' || n"),
            ("waits", "run_id, stage, kind, reason, began, ended", "'RUN1', 1, 'held', 'x', n, n"),
        ):
            connection.change(
                f"""WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5000)
                INSERT INTO {table} ({columns}) SELECT {values} FROM r"""
            )
    story = store.story(store.find("RUN1"))
    assert (len(story.notes), story.notes[-1].message) == (5_000, "note 5000")
    assert len(story.waits) == 5_000


@pytest.mark.parametrize(
    "program",
    [
        "DROP TABLE notes; CREATE VIEW notes AS SELECT 1 AS number",
        "CREATE TRIGGER more AFTER INSERT ON notes BEGIN DELETE FROM runs; END",
        "DROP INDEX notes_by_run; CREATE INDEX notes_by_run ON notes (number)",
    ],
)
def test_a_state_that_somebody_has_put_a_program_into_is_refused(
    tmp_path: Path, program: str
) -> None:
    new_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.executescript(program)
    connection.close()
    with pytest.raises(TargetError, match="is not as backfill creates it"):
        new_store(tmp_path)


def test_a_table_of_somebody_elses_beside_ours_does_no_harm(tmp_path: Path) -> None:
    identity = new_store(tmp_path).identity
    assert len(identity) == 8
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    assert new_store(tmp_path).identity == identity


def test_interrupted_at_any_statement_it_leaves_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that goes on, such as a Python program, would keep it open for long."""
    plan, opened, left = make_plan(tmp_path, BODY), list[object](), [0]

    class Counted(_File):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return super().execute(sql, *given)

        def close(self) -> None:
            opened.remove(self)
            super().close()

    def connect(*given: Any, **how: Any) -> Any:
        opened.append(real(*given, **how | {"factory": Counted}))
        return opened[-1]

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    for statements in count(1):
        left[0] = statements
        try:
            with Store(f"sqlite:///{tmp_path}/{statements}.db") as store:
                start_journal(store, plan).note("begun")
                assert store.find("latest")
        except KeyboardInterrupt:
            assert not opened, f"{statements} statements"
        else:
            break
    assert statements > 30
    assert not opened
