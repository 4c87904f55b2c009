"""The journal's tables. Portable SQL: the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

VERSION = 1
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
    Column("seed", Text, nullable=False),
    Column("body", LargeBinary),  # until the run has ended: what a resend posts again
    Column("state", Text, nullable=False),  # sending | accepted | requeued
    Column("resent", Boolean, nullable=False, default=False),
    Column("sent_at", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("chunk", Integer, nullable=False),
    Column("item", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("internal_id", Text, nullable=False),
    Column("outcome", Text),
    Column("message", Text),
    sqlite_with_rowid=False,  # one tree to write to: positions come in order
)

jobs = Table(
    "jobs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("function", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("message", Text),
    Column("url", Text),
)
Index("jobs_by_event", jobs.c.run_id, jobs.c.position)
