"""What a run has come to, counted from its journal alone."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, case, func, select

from runner.adapters.journal.tables import chunks, events, jobs, runs
from runner.model import FAILURES, Failure, Totals

_FAILED_JOBS = ("failed", "cancelled", "overflowed", "skipped")


def totals(connection: Connection, run_id: str) -> Totals:
    """What the run has come to, from the journal alone."""
    planned = connection.execute(select(runs.c.planned).where(runs.c.id == run_id)).scalar_one()
    accepted = events.c.outcome.is_distinct_from("rejected") & (chunks.c.state == "accepted")
    counts = connection.execute(
        select(
            func.count(case((accepted, 1))),
            func.count(case((accepted & chunks.c.resent, 1))),
            func.count(case((events.c.outcome == "rejected", 1))),
            func.count(case((events.c.outcome == "no_job", 1))),
        )
        .select_from(events)
        .join(chunks, chunk_of_event())
        .where(events.c.run_id == run_id)
    ).one()
    by_status = connection.execute(
        select(func.lower(jobs.c.status), func.count())
        .where(jobs.c.run_id == run_id)
        .group_by(func.lower(jobs.c.status))
    ).all()
    statuses = dict(map(tuple, by_status))
    failed = sum(statuses.get(name, 0) for name in _FAILED_JOBS)
    return Totals(
        planned=planned,
        accepted=counts[0],
        deduplicated=counts[1],
        rejected=counts[2],
        jobs=sum(statuses.values()),
        completed=statuses.get("completed", 0),
        failed=failed,
        no_job=counts[3],
    )


def failures(connection: Connection, run_id: str) -> list[Failure]:
    """The events that did not take effect as planned, in sending order."""
    query = (
        select(events, chunks.c.operation, chunks.c.event, jobs.c.job_id, jobs.c.url)
        .join(chunks, chunk_of_event())
        .outerjoin(
            jobs,
            (jobs.c.run_id == events.c.run_id)
            & (jobs.c.position == events.c.position)
            & (func.lower(jobs.c.status) != "completed"),
        )
        .where(events.c.run_id == run_id, events.c.outcome.in_(FAILURES))
        .order_by(events.c.position, jobs.c.job_id)
    )
    rows = connection.execute(query).mappings().all()
    first = {row["position"]: row for row in reversed(rows)}
    return [
        Failure(
            operation=row["operation"],
            item=row["item"],
            event=row["event"],
            outcome=row["outcome"],
            message=row["message"] or row["outcome"],
            job=row["job_id"],
            url=row["url"],
        )
        for row in sorted(first.values(), key=lambda row: row["position"])
    ]


def links(connection: Connection, run_id: str, limit: int) -> list[str]:
    """Dashboard links of the first jobs; their ids where there is no dashboard."""
    query = (
        select(func.coalesce(jobs.c.url, jobs.c.job_id))
        .where(jobs.c.run_id == run_id)
        .order_by(jobs.c.position)
        .limit(limit)
    )
    return [url for (url,) in connection.execute(query)]


def chunk_of_event() -> ColumnElement[bool]:
    return (chunks.c.run_id == events.c.run_id) & (chunks.c.number == events.c.chunk)
