"""What is written by those who do not carry a run out, and so by no lease: requests to a run, which
its process obeys, and what is followed in git."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from runner.adapters.journal.database import Connection
from runner.model import SyncRecord


def order(connection: Connection, run_id: str, orders: dict[str, Any]) -> None:
    """`wanted`, `batch_size`, `delay`: what is named replaces what was asked before."""
    settings = ", ".join(f"{name} = :{name}" for name in orders)
    connection.change(f"UPDATE runs SET {settings} WHERE id = :run", run=run_id, **orders)


def go_on(connection: Connection, run_id: str) -> None:
    """A run that nobody is at just now waits for nothing any more: its next portion says anew."""
    connection.change(
        "UPDATE waits SET ended = :now WHERE run_id = :run AND ended IS NULL",
        run=run_id,
        now=time.time(),
    )


def syncs(connection: Connection) -> list[SyncRecord]:
    """The one that has looked last comes first."""
    found = connection.rows("SELECT * FROM syncs ORDER BY checked_at DESC")
    return [SyncRecord(**row._asdict()) for row in found]


def keep_sync(connection: Connection, record: SyncRecord) -> None:
    values = asdict(record)
    connection.change("DELETE FROM syncs WHERE id = :id", id=record.id)
    names = ", ".join(values)
    given = ", ".join(f":{name}" for name in values)
    connection.change(f"INSERT INTO syncs ({names}) VALUES ({given})", **values)
