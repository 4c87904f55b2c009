"""The figures of a run, and of a run with its retries, counted from the journal alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from runner.adapters.journal import plans
from runner.adapters.journal.database import Connection, listed
from runner.execution.ports import Ended, Observation
from runner.execution.seeds import event_id
from runner.model import (
    OUTCOMES,
    Failure,
    JobLink,
    Outcome,
    StageFigures,
    StageSpec,
    Totals,
    kind_of_failure,
)
from runner.planning.serialize import load_head

# Both halves are needed for the index: the first is its condition, and the bound makes SQLite
# prefer it to the key. So a few failures are found without a scan of a million completed events.
FAILED = "outcomes.outcome <> 'completed' AND outcomes.outcome > ''"
# The order of failures. With the bare column, SQLite would use the key to get the order.
FAILED_ORDER = "outcomes.position + 0"
WITH_CHUNK = """outcomes
JOIN chunks ON chunks.run_id = outcomes.run_id AND chunks.number = outcomes.chunk"""

# For a request that must be made again, only its ended events count as sent.
SENT = """sum(CASE WHEN chunks.state = 'accepted' THEN chunks.last - chunks.first + 1
ELSE chunks.completed + chunks.failed END)"""


def record(
    connection: Connection, run_id: str, observations: Sequence[Observation], now: float
) -> None:
    """Record the observed jobs of events, and which events have ended."""
    connection.change_each(
        """INSERT INTO jobs (run_id, job_id, position, function, status, message, url, since)
        VALUES (:run, :job, :position, :function, :status, :message, :url, :now)
        ON CONFLICT (run_id, job_id, position)
        DO UPDATE SET status = excluded.status, message = excluded.message,
          since = CASE WHEN lower(jobs.status) = lower(excluded.status)
            THEN jobs.since ELSE excluded.since END""",
        [
            {
                "run": run_id,
                "job": job.id,
                "position": observation.event.position,
                "function": job.function,
                "status": job.status,
                "message": job.message,
                "url": job.url,
                "now": now,
            }
            for observation in observations
            for job in observation.jobs
        ],
    )
    _end(
        connection,
        run_id,
        [
            (Ended(one.event.position, one.event.chunk, one.event.item), one.outcome, one.message)
            for one in observations
            if one.outcome
        ],
        now,
    )


def complete(connection: Connection, run_id: str, events: Iterable[Ended], now: float) -> None:
    """Record that these events have completed."""
    _end(connection, run_id, [(event, "completed", None) for event in events], now)


def _end(
    connection: Connection,
    run_id: str,
    ended: Iterable[tuple[Ended, Outcome, str | None]],
    now: float,
) -> None:
    rows: list[dict[str, Any]] = []
    more: dict[int, dict[str, Any]] = {}
    for (position, chunk, item), outcome, message in ended:
        good = outcome == "completed"
        rows.append(
            {
                "run": run_id,
                "position": position,
                "chunk": chunk,
                "item": item,
                "outcome": outcome,
                "message": message,
                "kind": None if good else kind_of_failure(message, item),
                "at": now,
            }
        )
        row = more.setdefault(chunk, {"run": run_id, "number": chunk, "good": 0, "bad": 0})
        row["good" if good else "bad"] += 1
    connection.change_each(
        """INSERT INTO outcomes (run_id, position, chunk, item, outcome, message, kind, at)
        VALUES (:run, :position, :chunk, :item, :outcome, :message, :kind, :at)""",
        rows,
    )
    connection.change_each(
        """UPDATE chunks SET completed = completed + :good, failed = failed + :bad
        WHERE run_id = :run AND number = :number""",
        list(more.values()),
    )


def by_stage(connection: Connection, run_id: str) -> dict[int, StageFigures]:
    """Return the figures of each stage that has begun."""
    return by_run(connection, [run_id]).get(run_id, {})


def last_end(connection: Connection, run_id: str, stage: int) -> float | None:
    """Return when the latest event of a stage ended; None if none has.

    The positions of a stage are contiguous, so its outcomes are scanned without a join with their
    requests.
    """
    query = """SELECT max(at) FROM outcomes WHERE run_id = :run
    AND position >= (SELECT min(first) FROM chunks WHERE run_id = :run AND stage = :stage)
    AND position <= (SELECT max(last) FROM chunks WHERE run_id = :run AND stage = :stage)"""
    found: float | None = connection.value(query, run=run_id, stage=stage)
    return found


def by_run(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[int, StageFigures]]:
    """Return the figures by stage for each run; all displays use these."""
    within, given = listed("run", run_ids)
    found: dict[str, dict[int, StageFigures]] = {}
    query = f"""SELECT run_id, stage, {SENT} AS sent, sum(completed) AS completed,
    min(sent_at) AS began, max(sent_at) AS last_sent
    FROM chunks WHERE run_id IN ({within}) GROUP BY run_id, stage"""
    for run_id, stage, number, completed, *sent_at in connection.rows(query, **given):
        outcomes: dict[Outcome, int] = {"completed": int(completed)} if completed else {}
        found.setdefault(run_id, {})[stage] = StageFigures(int(number), outcomes, *sent_at)
    query = f"""SELECT outcomes.run_id, chunks.stage, outcomes.outcome, count(*) AS events
    FROM {WITH_CHUNK} WHERE outcomes.run_id IN ({within}) AND {FAILED}
    GROUP BY outcomes.run_id, chunks.stage, outcomes.outcome"""
    for run_id, stage, outcome, number in connection.rows(query, **given):
        known = found[run_id][stage]
        outcomes = {**known.outcomes, outcome: int(number)}
        found[run_id][stage] = known._replace(outcomes=outcomes)
    return found


def added(outcomes: Iterable[Mapping[Outcome, int]]) -> dict[Outcome, int]:
    """Sum outcomes, in display order."""
    found = Counter[Outcome]()
    for one in outcomes:
        found.update(one)
    return {name: found[name] for name in OUTCOMES if found[name]}


def totals(connection: Connection, run_id: str) -> Totals:
    planned = connection.value("SELECT planned FROM runs WHERE id = :run", run=run_id)
    stages = by_stage(connection, run_id).values()
    outcomes = added(stage.outcomes for stage in stages)
    resent = connection.value(
        """SELECT sum(last - first + 1) FROM chunks
        WHERE run_id = :run AND state = 'accepted' AND resent""",
        run=run_id,
    )
    # Rejected events of a resent request were not accepted either time.
    refused_again = connection.value(
        f"""SELECT count(*) FROM {WITH_CHUNK}
        WHERE outcomes.run_id = :run AND {FAILED}
        AND outcomes.outcome = 'rejected' AND chunks.resent""",
        run=run_id,
    )
    jobs = connection.value(
        "SELECT count(DISTINCT job_id) FROM jobs WHERE run_id = :run", run=run_id
    )
    return Totals(
        planned=planned,
        accepted=sum(stage.sent for stage in stages) - outcomes.get("rejected", 0),
        deduplicated=int(resent or 0) - refused_again,
        jobs=jobs,
        **outcomes,
    )


def failures(connection: Connection, run_id: str, good: Collection[int]) -> list[Failure]:
    """Return the events that did not take effect as planned, in sending order, except those whose
    work a later attempt has made `good`."""
    head = load_head(connection.value("SELECT head FROM runs WHERE id = :run", run=run_id))
    begins: dict[int, tuple[StageSpec, int]] = {}
    position = 0
    for stage in head.stages:
        begins[stage.number] = stage, position
        position += stage.total

    def id_of(row: Any) -> str:
        stage, begin = begins[row.stage]
        index = row.position - begin
        own = plans.own_of(connection, run_id, stage, index).get("id") if stage.own else None
        return str(own or event_id(run_id, stage, row.item, index, row.operation))

    query = f"""SELECT outcomes.*, chunks.stage, chunks.operation, chunks.event,
      jobs.job_id, jobs.url
    FROM {WITH_CHUNK}
    LEFT JOIN jobs ON jobs.run_id = outcomes.run_id AND jobs.position = outcomes.position
      AND lower(jobs.status) <> 'completed'
    WHERE outcomes.run_id = :run AND {FAILED}
    ORDER BY {FAILED_ORDER}, jobs.job_id"""
    first = {row.position: row for row in reversed(connection.rows(query, run=run_id))}
    return [
        Failure(
            operation=row.operation,
            item=row.item,
            event=row.event,
            outcome=row.outcome,
            message=row.message or row.outcome,
            job=row.job_id,
            url=row.url,
            event_id=id_of(row),
        )
        for row in reversed(first.values())
        if row.position not in good
    ]


def first_failed(connection: Connection, run_id: str) -> Any:
    """Return the first event that did not take effect: operation, item, outcome, message, and the
    page of its job; None if there is none."""
    query = f"""SELECT chunks.operation, outcomes.item, outcomes.outcome, outcomes.message,
      (SELECT min(jobs.url) FROM jobs WHERE jobs.run_id = outcomes.run_id
       AND jobs.position = outcomes.position AND lower(jobs.status) <> 'completed') AS url
    FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND {FAILED} ORDER BY {FAILED_ORDER} LIMIT 1"""
    return connection.row(query, run=run_id)


def links(connection: Connection, run_id: str, limit: int) -> list[JobLink]:
    """Return links to the first jobs."""
    query = """SELECT coalesce(jobs.url, jobs.job_id) AS link, chunks.operation, outcomes.item
    FROM jobs
    LEFT JOIN outcomes ON outcomes.run_id = jobs.run_id AND outcomes.position = jobs.position
    LEFT JOIN chunks ON chunks.run_id = outcomes.run_id AND chunks.number = outcomes.chunk
    WHERE jobs.run_id = :run ORDER BY jobs.position, jobs.job_id LIMIT :limit"""
    return [JobLink(*row) for row in connection.rows(query, run=run_id, limit=limit)]
