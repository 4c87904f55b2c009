"""The journal's tables. Portable SQL: the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    event,
    text,
)

metadata = MetaData()

versions = Table("backfill_version", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("target", Text, nullable=False),  # as it was named
    Column("address", Text, nullable=False),  # what that meant: see Target.address
    Column("variables", Text, nullable=False),  # JSON: the --var overrides
    Column("planned", BigInteger, nullable=False),
    Column("follow", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("head", Text),  # JSON: the execution plan without its events
    Column("parent", Text),  # the run that this one retries
    Column("wanted", Text),  # what an operator has ordered: pause | cancel
    Column("batch_size", Integer),  # ... and how the run was tuned
    Column("delay", Float),
    Column("source", Text),  # the plan file as it was read
    Column("reason", Text),  # why it ended before its plan did
)

blocks = Table(
    "blocks",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("stage", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # see runner.planning.sealed
)

chunks = Table(
    "chunks",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("operation", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("first", BigInteger, nullable=False),  # positions of its events
    Column("last", BigInteger, nullable=False),
    Column("seed", Text, nullable=False),  # gives the internal ids
    Column("state", Text, nullable=False),  # sending | accepted | requeued
    Column("resent", Boolean, nullable=False, default=False),
    Column("sent_at", Float, nullable=False),
    Column("ids", Text),  # JSON, position -> internal id: those that the seed does not give
    # Of its events, how many have come to which end: counted here, so that nobody has to count the
    # outcomes of a million events.
    Column("completed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
)

# Only events that have come to an end have a row: what an event is lies in its block.
outcomes = Table(
    "outcomes",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("chunk", Integer, nullable=False),
    Column("item", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text),
    Column("at", Float),
    sqlite_with_rowid=False,
)
_NOT_COMPLETED = text("outcome <> 'completed'")
_FAILURES = Index(
    "failures",
    outcomes.c.run_id,
    outcomes.c.outcome,
    outcomes.c.position,
    sqlite_where=_NOT_COMPLETED,
)


@event.listens_for(metadata, "before_create")
def _in_part_there_too(_metadata: MetaData, connection: Connection, **_: object) -> None:
    """Said where it is needed: the bare word imports all of PostgreSQL's dialect at each start."""
    if connection.dialect.name == "postgresql":
        _FAILURES.dialect_options["postgresql"]["where"] = _NOT_COMPLETED


# Both halves, so that the index is used: the first is what it holds, and a bound makes SQLite like
# it better than the key. A million events that completed are not gone through for a few others.
FAILED = and_(_NOT_COMPLETED, outcomes.c.outcome > "")
# The order of failures: by the bare column, SQLite would take the key for the order's sake.
FAILED_ORDER = outcomes.c.position + 0

jobs = Table(
    "jobs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    # A function that takes events in batches starts one job for several of them.
    Column("position", BigInteger, primary_key=True),
    Column("function", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("message", Text),
    Column("url", Text),
)
Index("jobs_by_event", jobs.c.run_id, jobs.c.position)

notes = Table(
    "notes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("message", Text, nullable=False),
)
Index("notes_by_run", notes.c.run_id, notes.c.number)

# What a stage was waiting for, and how long; `ended` is missing while it still is.
waits = Table(
    "waits",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("began", Float, nullable=False),
    Column("ended", Float),
)
Index("waits_by_run", waits.c.run_id, waits.c.number)

# What the database has answered: figures before the work, and what checks came to.
answers = Table(
    "answers",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("at", Float, nullable=False),
)

# Stages whose events are found out when they start, or that are sent until a goal is met.
rounds = Table(
    "rounds",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("stage", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first", BigInteger, nullable=False),  # of the stage's events, from 0
    Column("events", BigInteger, nullable=False),
    Column("left", Float),  # the backlog before it
    Column("at", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),  # a plan and an address
    Column("token", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("holder", Text, nullable=False),  # who, for people
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    # The run is left to the workers: see parking.py.
    Column("workers", Boolean, nullable=False, default=False, server_default=text("FALSE")),
)

# Git branches whose plans are applied as they come: see runner.model.SyncRecord.
syncs = Table(
    "syncs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("every", Float, nullable=False),
    Column("holder", Text, nullable=False),
    Column("checked_at", Float, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text),
    Column("seen", Text),
    Column("applied", Text),
    Column("applied_at", Float),
    Column("ended_at", Float),
)
