"""A run, and the runs that retry what failed in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import astuple
from fnmatch import fnmatchcase

from sqlalchemy import Connection, distinct, func, select

from runner.adapters.journal import figures
from runner.adapters.journal.plans import read
from runner.adapters.journal.tables import FAILED, FAILED_ORDER, chunks, outcomes, runs
from runner.model import Chain, Outcome, RunRecord, Totals


def failed_positions(
    connection: Connection, run_id: str, kinds: Collection[Outcome], patterns: Collection[str]
) -> list[int]:
    """The events of a run that failed, but for those that a later retry has taken care of."""
    query = (
        select(outcomes.c.position, outcomes.c.item, chunks.c.operation)
        .join(chunks, figures.chunk_of_outcome())
        .where(outcomes.c.run_id == run_id, FAILED, outcomes.c.outcome.in_(kinds))
        .order_by(FAILED_ORDER)
    )
    taken_care_of = _taken_care_of(connection, run_id)
    return [
        position
        for position, item, operation in connection.execute(query)
        if (operation, item) not in taken_care_of
        and (not patterns or any(fnmatchcase(item, pattern) for pattern in patterns))
    ]


def chain_of(connection: Connection, run_id: str) -> Chain | None:
    """The figures of a run and all its retries, added up; None where there is just one run."""
    parents = dict(
        map(tuple, connection.execute(select(runs.c.id, runs.c.parent).order_by(runs.c.started_at)))
    )
    root = run_id
    while parent := parents.get(root):
        root = parent
    members = [root, *_descendants(root, parents)]
    if len(members) == 1:
        return None
    each = [figures.totals(connection, member) for member in members]
    added = Totals(*map(sum, zip(*map(astuple, each), strict=True)))
    planned = each[0].planned
    done = connection.execute(
        select(func.count(distinct(chunks.c.operation + "\n" + outcomes.c.item)))
        .select_from(outcomes)
        .join(chunks, figures.chunk_of_outcome())
        .where(outcomes.c.run_id.in_(members), outcomes.c.outcome == "completed")
    ).scalar_one()
    return Chain(tuple(members), _with_planned(added, planned), outstanding=planned - done)


def is_done(connection: Connection, record: RunRecord) -> bool:
    """Has every event of the run taken effect, in it or in a retry?"""
    if record.status == "completed":
        return True
    chain = chain_of(connection, record.id) if record.status == "failed" else None
    return chain is not None and not chain.outstanding


def _with_planned(totals: Totals, planned: int) -> Totals:
    return Totals(planned, *astuple(totals)[1:])


def _taken_care_of(connection: Connection, run_id: str) -> set[tuple[str, str]]:
    """What later retries have done or are still to do: all of their events but what failed."""
    query = select(runs.c.id, runs.c.parent, runs.c.head).order_by(runs.c.started_at)
    rows = {id_: (parent, head) for id_, parent, head in connection.execute(query)}
    found: set[tuple[str, str]] = set()
    for member in _descendants(run_id, {id_: parent for id_, (parent, _) in rows.items()}):
        plan = read(connection, member, rows[member][1])
        found |= {(s.operation, item) for s in plan.stages for item, _ in s.items.raw()}
        failed = select(chunks.c.operation, outcomes.c.item).join(
            chunks, figures.chunk_of_outcome()
        )
        again = connection.execute(failed.where(outcomes.c.run_id == member, FAILED))
        found -= {(operation, item) for operation, item in again}
    return found


def _descendants(run_id: str, parents: dict[str, str | None]) -> Iterable[str]:
    """In the order in which they were started."""
    family = {run_id}
    for id_, parent in parents.items():
        if parent in family:
            family.add(id_)
            yield id_
