"""A journal that is full, damaged, read-only, locked or of another version."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from runner.adapters.embedded.server import create_app
from runner.adapters.journal.migrations import VERSION
from runner.adapters.journal.store import Store
from runner.errors import TargetError
from runner.model import Handed
from tests.cli.conftest import served
from tests.support import make_plan, new_store, repos, start_journal, write_plan

BODY = repos(3) + "operations: [sync]\n"
ROOT = Path(__file__).parents[3]


def _run(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A process whose files may not grow beyond `limit` bytes: a disk that is full."""

    def full_disk() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=full_disk,
        check=False,
    )


def test_a_full_disk_stops_the_sending_and_the_run_can_be_carried_on(tmp_path: Path) -> None:
    """Nothing goes out that was not written down before."""
    effects: list[str] = []
    plan = write_plan(tmp_path, repos(400) + "operations: [fire]\nbatch_size: 1\ndelay: 0s\n")
    with served(create_app({"app/fire": lambda event: effects.append(event["id"])})) as url:
        arguments = ("run", plan, "--target", url)
        stopped = _run(*arguments, limit=400_000)
        assert stopped.returncode == 6, stopped.stderr
        assert "state.db cannot be used" in stopped.stderr
        assert "free some disk" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert 0 < len(effects) < 400
        resumed = _run("resume", "latest")
    assert resumed.returncode == 0, resumed.stderr
    assert len(effects) == len(set(effects)) == 400


def _damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)


def test_a_damaged_file_is_said_with_what_can_be_saved(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, BODY)
    store = new_store(tmp_path)
    start_journal(store, plan)
    store.close()
    _damage(tmp_path / "state.db")
    with pytest.raises(TargetError, match=r"state\.db cannot be used") as error:
        Store(str(tmp_path / "state.db")).find("RUN1")
    assert ".recover" in str(error.value.hint)


def test_a_truncated_file_is_said(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    start_journal(store, make_plan(tmp_path, BODY))
    store.close()
    path = tmp_path / "state.db"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TargetError, match="cannot be used"):
        Store(str(path)).find("RUN1")


def test_a_table_that_is_gone_is_no_mistake_of_ours(tmp_path: Path) -> None:
    journal = start_journal(new_store(tmp_path), make_plan(tmp_path, BODY))
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("DROP TABLE chunks")
    connection.close()
    with pytest.raises(TargetError, match=r"state\.db cannot be used: no such table"):
        journal.next_position()


def test_a_file_that_another_process_keeps_locked_is_said(
    tmp_path: Path,
) -> None:
    journal = start_journal(new_store(tmp_path), make_plan(tmp_path, BODY))

    def impatient(connection: Any, *_: object) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")

    event.listen(journal._engine, "begin", impatient)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(TargetError, match="database is locked") as error:
            journal.keep_lease()
    finally:
        other.close()
    assert "another process holds it" in str(error.value.hint)


def test_a_postgresql_that_is_away_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as error:
        Store("postgresql://me:s3cret-word@127.0.0.1:1/nowhere")
    said = f"{error.value} {error.value.hint}"
    assert "the state in postgresql://127.0.0.1/nowhere cannot be used" in said
    assert "s3cret-word" not in said


_V1 = """
CREATE TABLE backfill_version (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO backfill_version VALUES (1);
CREATE TABLE runs (id TEXT NOT NULL PRIMARY KEY, plan TEXT NOT NULL, path TEXT NOT NULL,
  digest TEXT NOT NULL, target TEXT NOT NULL, address TEXT NOT NULL, variables TEXT NOT NULL,
  planned BIGINT NOT NULL, follow BOOLEAN NOT NULL, status TEXT NOT NULL,
  started_at FLOAT NOT NULL, ended_at FLOAT);
INSERT INTO runs VALUES
  ('01OLD','p','p.yaml','sha256:x','dev','http://x http://x','{}',2,TRUE,'failed',1.0,2.0);
CREATE TABLE chunks (run_id TEXT NOT NULL, number INTEGER NOT NULL, stage INTEGER NOT NULL,
  batch INTEGER NOT NULL, operation TEXT NOT NULL, event TEXT NOT NULL, first BIGINT NOT NULL,
  last BIGINT NOT NULL, seed TEXT NOT NULL, body {bytes}, state TEXT NOT NULL,
  resent BOOLEAN NOT NULL, sent_at FLOAT NOT NULL, PRIMARY KEY (run_id, number));
INSERT INTO chunks VALUES
  ('01OLD',0,1,1,'sync','app/sync',0,1,'1,AAAAAAAAAAAAAA==',NULL,'accepted',FALSE,1.0);
CREATE TABLE events (run_id TEXT NOT NULL, position BIGINT NOT NULL, chunk INTEGER NOT NULL,
  item TEXT NOT NULL, event_id TEXT NOT NULL, internal_id TEXT NOT NULL, outcome TEXT,
  message TEXT, PRIMARY KEY (run_id, position));
INSERT INTO events VALUES ('01OLD',0,0,'o/a','e0','i0','completed',NULL),
  ('01OLD',1,0,'o/b','e1','i1','failed','it broke');
CREATE TABLE jobs (run_id TEXT NOT NULL, job_id TEXT NOT NULL, position BIGINT NOT NULL,
  function TEXT NOT NULL, status TEXT NOT NULL, message TEXT, url TEXT,
  PRIMARY KEY (run_id, job_id));
INSERT INTO jobs VALUES ('01OLD','j0',0,'f','Completed',NULL,NULL),
  ('01OLD','j1',1,'f','Failed','it broke',NULL)
"""


def test_a_store_of_the_first_version_is_brought_forward(state: str, tmp_path: Path) -> None:
    from runner.adapters.journal.connect import parse_url
    from tests import support

    url = support.state_url(tmp_path)
    engine = create_engine(parse_url(url))
    script = _V1.replace("{bytes}", "BLOB" if state == "sqlite" else "BYTEA")
    with engine.begin() as connection:
        for statement in script.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = new_store(tmp_path)
    record = store.find("latest")
    journal = store.reading(record)
    assert record.id == "01OLD"
    assert (journal.totals().completed, journal.totals().failed) == (1, 1)
    assert [(f.item, f.message) for f in journal.failures()] == [("o/b", "it broke")]
    assert store.plan_of(record) is None, "it kept no events: it can be read, and not be retried"
    store.close()
    with new_store(tmp_path).engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version FROM backfill_version").scalar()
    assert version == VERSION


def test_a_run_that_was_left_to_the_workers_by_an_older_version_still_is(
    state: str,
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE leases DROP COLUMN workers")
        connection.exec_driver_sql("UPDATE backfill_version SET version = 5")
        for name, machine in (("a", "none"), ("b", "here")):
            connection.exec_driver_sql(
                f"INSERT INTO leases VALUES ('{name}','t','{name}','who','{machine}',0,0,9e9)"
            )
    store.close()
    handed = [new_store(tmp_path).handed(run_id) for run_id in ("a", "b")]
    assert handed == [Handed(waits=True, late=False, told="who"), None]
