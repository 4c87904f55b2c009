"""What is followed in git, and what came of the last look: a row for each."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, delete, insert, select

from runner.adapters.journal.tables import syncs
from runner.model import SyncRecord


def read(connection: Connection) -> list[SyncRecord]:
    """The one that has looked last comes first."""
    query = select(syncs).order_by(syncs.c.checked_at.desc())
    return [SyncRecord(**row) for row in connection.execute(query).mappings()]


def keep(connection: Connection, record: SyncRecord) -> None:
    connection.execute(delete(syncs).where(syncs.c.id == record.id))
    connection.execute(insert(syncs).values(**asdict(record)))
