"""What a run has come to, counted from its journal alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, distinct, func, select, update

from runner.adapters.journal.tables import FAILED, FAILED_ORDER, chunks, jobs, outcomes, runs
from runner.model import Failure, Totals

_FAILED_JOBS = ("failed", "cancelled", "overflowed", "skipped")


def totals(connection: Connection, run_id: str) -> Totals:
    """What the run has come to, from the journal alone."""
    planned = connection.execute(select(runs.c.planned).where(runs.c.id == run_id)).scalar_one()
    size = chunks.c.last - chunks.c.first + 1
    taken, resent = connection.execute(
        select(func.sum(size), func.sum(case((chunks.c.resent, size), else_=0))).where(
            chunks.c.run_id == run_id, chunks.c.state == "accepted"
        )
    ).one()
    ended = dict(
        map(
            tuple,
            connection.execute(
                select(outcomes.c.outcome, func.count())
                .where(outcomes.c.run_id == run_id, FAILED)
                .group_by(outcomes.c.outcome)
            ),
        )
    )
    by_status = connection.execute(
        select(func.lower(jobs.c.status), func.count(distinct(jobs.c.job_id)))
        .where(jobs.c.run_id == run_id)
        .group_by(func.lower(jobs.c.status))
    )
    statuses = dict(map(tuple, by_status))
    rejected = ended.get("rejected", 0)
    refused_again = _refused_again(connection, run_id)
    return Totals(
        planned=planned,
        accepted=int(taken or 0) - rejected,
        deduplicated=int(resent or 0) - refused_again,
        rejected=rejected,
        jobs=sum(statuses.values()),
        completed=statuses.get("completed", 0),
        failed=sum(statuses.get(name, 0) for name in _FAILED_JOBS),
        no_job=ended.get("no_job", 0),
    )


def _refused_again(connection: Connection, run_id: str) -> int:
    """Events that were refused by a request that was made again: they were taken neither time."""
    query = (
        select(func.count())
        .select_from(outcomes)
        .join(chunks, chunk_of_outcome())
        .where(outcomes.c.run_id == run_id, FAILED)
        .where(outcomes.c.outcome == "rejected", chunks.c.resent)
    )
    return connection.execute(query).scalar_one()


def failures(connection: Connection, run_id: str) -> list[Failure]:
    """The events that did not take effect as planned, in sending order."""
    query = (
        select(outcomes, chunks.c.operation, chunks.c.event, jobs.c.job_id, jobs.c.url)
        .join(chunks, chunk_of_outcome())
        .outerjoin(
            jobs,
            (jobs.c.run_id == outcomes.c.run_id)
            & (jobs.c.position == outcomes.c.position)
            & (func.lower(jobs.c.status) != "completed"),
        )
        .where(outcomes.c.run_id == run_id, FAILED)
        .order_by(FAILED_ORDER, jobs.c.job_id)
    )
    first = {row["position"]: row for row in reversed(connection.execute(query).mappings().all())}
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


def failed_in(connection: Connection, run_id: str, stage: int) -> int:
    mine = (chunks.c.run_id == run_id) & (chunks.c.stage == stage)
    query = select(func.coalesce(func.sum(chunks.c.failed), 0)).where(mine)
    return int(connection.execute(query).scalar_one())


def count(connection: Connection, run_id: str, settled: Sequence[Mapping[str, Any]]) -> None:
    """Add outcomes to the figures of their chunks."""
    chunk = chunks.c.number == bindparam("chunk")
    connection.execute(
        update(chunks)
        .where(chunks.c.run_id == run_id, chunk)
        .values(
            completed=chunks.c.completed + bindparam("more_completed"),
            failed=chunks.c.failed + bindparam("more_failed"),
        ),
        [
            {"chunk": number, "more_completed": good, "more_failed": all_ - good}
            for number, (good, all_) in _by_chunk(settled).items()
        ],
    )


def _by_chunk(settled: Sequence[Mapping[str, Any]]) -> Mapping[int, tuple[int, int]]:
    """Of each chunk how many have completed, and how many there are."""
    found: dict[int, tuple[int, int]] = {}
    for row in settled:
        good, all_ = found.get(row["chunk"], (0, 0))
        found[row["chunk"]] = good + (row["outcome"] == "completed"), all_ + 1
    return found


def links(connection: Connection, run_id: str, limit: int) -> list[str]:
    """Dashboard links of the first jobs; their ids where there is no dashboard."""
    query = (
        select(func.coalesce(jobs.c.url, jobs.c.job_id))
        .where(jobs.c.run_id == run_id)
        .order_by(jobs.c.position)
        .limit(limit)
    )
    return [url for (url,) in connection.execute(query)]


def chunk_of_outcome() -> ColumnElement[bool]:
    return (chunks.c.run_id == outcomes.c.run_id) & (chunks.c.number == outcomes.c.chunk)
