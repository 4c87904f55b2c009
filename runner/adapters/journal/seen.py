"""What the journal knows of events that were sent before."""

from __future__ import annotations

from sqlalchemy import Connection, and_, exists, select

from runner.adapters.journal.tables import chunks, jobs, runs


def last_seen(connection: Connection, event: str, address: str) -> tuple[str, bool] | None:
    """The latest run that followed the event there, and whether it has started a job."""
    started = exists().where(
        and_(
            jobs.c.run_id == chunks.c.run_id,
            jobs.c.position.between(chunks.c.first, chunks.c.last),
        )
    )
    query = (
        select(runs.c.id, started)
        .join(chunks, chunks.c.run_id == runs.c.id)
        .where(runs.c.address == address, runs.c.follow, chunks.c.event == event)
        .order_by(runs.c.started_at.desc(), started.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None else (found[0], bool(found[1]))
