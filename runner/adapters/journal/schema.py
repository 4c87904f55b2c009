"""The state's tables, the same in SQLite and PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import cache
from typing import Any

from runner.adapters.journal.database import Connection, Database, no_state
from runner.errors import TargetError

VERSION = 1

_TABLES = """
CREATE TABLE backfill_version (
  version INTEGER PRIMARY KEY,
  identity TEXT NOT NULL              -- of this state: its workers are known by it
);

CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  plan TEXT NOT NULL,
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  target TEXT NOT NULL,               -- as it was named
  address TEXT NOT NULL,              -- what that meant: see Target.address
  environment TEXT NOT NULL,          -- of the project file; empty: none
  baseline TEXT,                      -- why it counts as applied though nothing was sent
  partial TEXT,                       -- the selectors of a run that is not for all of its plan
  variables TEXT NOT NULL,            -- JSON: the --var overrides
  planned BIGINT NOT NULL,
  follow BOOLEAN NOT NULL,
  status TEXT NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  started_by TEXT NOT NULL,           -- for people
  ended_at DOUBLE PRECISION,
  head TEXT NOT NULL,                 -- JSON: the execution plan without its events
  parent TEXT,                        -- the run that this one retries
  wanted TEXT,                        -- what an operator asks for: pause | cancel
  batch_size INTEGER,                 -- ... and how the run is tuned
  delay DOUBLE PRECISION,
  max_in_flight INTEGER,
  source TEXT,                        -- the plan file as it was read
  notify TEXT NOT NULL,               -- JSON: see runner.adapters.journal.notices
  reason TEXT                         -- why it ended before its plan did
);

CREATE TABLE blocks (
  run_id TEXT,
  stage INTEGER,
  number INTEGER,
  body {bytes} NOT NULL,              -- see runner.planning.event_blocks
  PRIMARY KEY (run_id, stage, number)
);

CREATE TABLE chunks (
  run_id TEXT,
  number INTEGER,
  stage INTEGER NOT NULL,
  batch INTEGER NOT NULL,
  operation TEXT NOT NULL,
  event TEXT NOT NULL,
  first BIGINT NOT NULL,              -- positions of its events
  last BIGINT NOT NULL,
  seed TEXT NOT NULL,                 -- gives the internal ids
  state TEXT NOT NULL,                -- sending | accepted | requeued
  resent BOOLEAN NOT NULL DEFAULT FALSE,
  sent_at DOUBLE PRECISION NOT NULL,
  base DOUBLE PRECISION NOT NULL,     -- what the times of scheduled events count from
  ids TEXT,                           -- JSON, position -> internal id: those the seed does not give
  -- Of its events, how many have come to which end: counted here, so that nobody has to count the
  -- outcomes of a million events.
  completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run_id, number)
);

-- Only events that have come to an end have a row: what an event is lies in its block.
CREATE TABLE outcomes (
  run_id TEXT,
  position BIGINT,
  chunk INTEGER NOT NULL,
  item TEXT NOT NULL,
  outcome TEXT NOT NULL,
  message TEXT,
  kind TEXT,                          -- of a failure: see runner.model.kind_of_failure
  at DOUBLE PRECISION,
  PRIMARY KEY (run_id, position)
) {rowless};
-- Of the failures alone: a million events that completed would make it as large as their table.
CREATE INDEX failures ON outcomes (run_id, outcome, position) WHERE outcome <> 'completed';

CREATE TABLE jobs (
  run_id TEXT,
  job_id TEXT,
  position BIGINT,                    -- a function that takes events in batches has several
  function TEXT NOT NULL,
  status TEXT NOT NULL,
  message TEXT,
  url TEXT,
  since DOUBLE PRECISION NOT NULL,    -- when the status was seen first
  PRIMARY KEY (run_id, job_id, position)
);
CREATE INDEX jobs_by_event ON jobs (run_id, position);

CREATE TABLE notes (
  number {serial},
  run_id TEXT NOT NULL,
  at DOUBLE PRECISION NOT NULL,
  message TEXT NOT NULL,
  who TEXT                            -- of a request, for people; missing: the run notes it
);
CREATE INDEX notes_by_run ON notes (run_id, number);

-- What a stage was waiting for, and how long; `ended` is missing while it still is. See
-- runner.model.Waiting for the others.
CREATE TABLE waits (
  number {serial},
  run_id TEXT NOT NULL,
  stage INTEGER NOT NULL,
  reason TEXT NOT NULL,
  kind TEXT NOT NULL,
  item TEXT,
  since DOUBLE PRECISION,
  again DOUBLE PRECISION,
  until DOUBLE PRECISION,
  tries INTEGER,
  began DOUBLE PRECISION NOT NULL,
  ended DOUBLE PRECISION
);
CREATE INDEX waits_by_run ON waits (run_id, number);

-- When somebody drove the run: see runner.adapters.journal.leases.
CREATE TABLE drives (
  number {serial},
  run_id TEXT NOT NULL,
  since DOUBLE PRECISION NOT NULL,
  until DOUBLE PRECISION NOT NULL
);
CREATE INDEX drives_by_run ON drives (run_id, number);

-- What the database has answered: figures before the work, and what checks came to.
CREATE TABLE answers (
  run_id TEXT,
  name TEXT,
  value TEXT NOT NULL,                -- JSON
  at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (run_id, name)
);

-- Stages whose events are found out when they start, or that are sent until a goal is met.
CREATE TABLE rounds (
  run_id TEXT,
  stage INTEGER,
  number INTEGER,
  first BIGINT NOT NULL,              -- of the stage's events, from 0
  events BIGINT NOT NULL,
  backlog DOUBLE PRECISION,           -- before it
  at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (run_id, stage, number)
);

-- Events that are not the first attempt at their work, in later rounds and in retries, and the
-- position in the first run of the event that was.
CREATE TABLE origins (
  run_id TEXT,
  position BIGINT,
  origin BIGINT NOT NULL,
  PRIMARY KEY (run_id, position)
) {rowless};

CREATE TABLE leases (
  name TEXT PRIMARY KEY,              -- a plan and an address
  token TEXT NOT NULL,
  run_id TEXT NOT NULL,
  holder TEXT NOT NULL,               -- who, for people
  machine TEXT NOT NULL,
  pid INTEGER NOT NULL,
  taken_at DOUBLE PRECISION NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  workers BOOLEAN NOT NULL            -- the run is left to the workers
);

-- The outbox: what hooks are to be told of a run, written in the transaction of what happened.
CREATE TABLE notices (
  number {serial},
  run_id TEXT NOT NULL,
  event TEXT NOT NULL,
  occasion TEXT NOT NULL,             -- which of those: a run may be held, and end, several times
  hook INTEGER NOT NULL,              -- of the run's `notify`
  body TEXT NOT NULL,                 -- JSON
  at DOUBLE PRECISION NOT NULL,
  due DOUBLE PRECISION NOT NULL,      -- when it is tried, by the state's clock
  tries INTEGER NOT NULL DEFAULT 0,
  done BOOLEAN NOT NULL DEFAULT FALSE,
  UNIQUE (run_id, event, occasion, hook)
);

-- Targets to which nothing is sent, by whatever run.
CREATE TABLE holds (
  address TEXT PRIMARY KEY,           -- see Target.address
  target TEXT NOT NULL,               -- as it is shown
  reason TEXT NOT NULL,
  holder TEXT NOT NULL,               -- by whom, for people
  since DOUBLE PRECISION NOT NULL,
  until DOUBLE PRECISION              -- missing: until it is taken back
);

-- Git branches whose plans are applied as they come: see runner.model.SyncRecord.
CREATE TABLE syncs (
  id TEXT PRIMARY KEY,
  repository TEXT NOT NULL,
  branch TEXT NOT NULL,
  path TEXT NOT NULL,
  target TEXT NOT NULL,
  every DOUBLE PRECISION NOT NULL,
  holder TEXT NOT NULL,
  checked_at DOUBLE PRECISION NOT NULL,
  outcome TEXT NOT NULL,
  message TEXT,
  seen TEXT,
  applied TEXT,
  applied_at DOUBLE PRECISION,
  ended_at DOUBLE PRECISION
)
"""

_STATEMENTS = _TABLES.split(";\n")


def make(database: Database) -> None:
    """Create the tables if there are none; concurrent first runs take turns."""
    with database.read() as connection:
        if _is_made(connection, database):
            return
    with database.write() as connection:
        if database.dialect.one_at_a_time:
            connection.value(database.dialect.one_at_a_time)
        if _is_made(connection, database):
            return
        for statement in _STATEMENTS:
            connection.change(statement)
        connection.change(
            "INSERT INTO backfill_version VALUES (:version, :identity)",
            version=VERSION,
            identity=os.urandom(4).hex(),
        )


def expect(database: Database) -> None:
    """Raise `NoState` if nothing has been written yet."""
    with database.read() as connection:
        if not _is_made(connection, database):
            raise no_state(database.where)


def _is_made(connection: Connection, database: Database) -> bool:
    """Whether the tables exist. Raises `TargetError` for a state of another version."""
    if not connection.value(database.dialect.has_table, name="backfill_version"):
        return False
    if database.dialect.made_of:
        _refuse_others(connection.rows(database.dialect.made_of), database)
    version = connection.value("SELECT version FROM backfill_version")
    if version != VERSION:
        message = f"the state in {database.where} has a newer version ({version})"
        raise TargetError(message, hint="install the backfill that wrote it, or a newer one")
    return True


def _refuse_others(found: Iterable[Any], database: Database) -> None:
    """Refuse definitions that are not ours. A file in a checkout may have views instead of tables,
    and triggers: these are programs, which no reader may run."""
    ours = _as_made(database.dialect.spell)
    for one in found:
        name, table = one.name.lower(), one.tbl_name.lower()  # as SQLite compares them
        if one.sql != ours[name] if name in ours else table in ours:
            message = f"the state in {database.where} is not as backfill creates it: {one.name}"
            raise TargetError(message, hint="name another with --state, or restore a backup")


@cache
def _as_made(spell: Callable[[str], str]) -> Mapping[str, str]:
    """Return what SQLite stores as the definition of each of our tables and indexes, by name."""
    with closing(sqlite3.connect(":memory:")) as memory:
        for statement in _STATEMENTS:
            memory.execute(spell(statement))
        return dict(memory.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
