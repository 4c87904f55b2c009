"""The state store: journals, locks and orders; a SQLite file by default."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Self

from sqlalchemy import insert, select, update

from runner.adapters.journal import (
    DEFAULT_STATE,
    chains,
    leases,
    listing,
    parking,
    plans,
    syncs,
    views,
)
from runner.adapters.journal.connect import connect, parse_url
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.migrations import migrate
from runner.adapters.journal.reach import describe, reachable
from runner.adapters.journal.run_journal import RunJournal
from runner.adapters.journal.seen import last_seen
from runner.adapters.journal.tables import runs, waits
from runner.errors import TargetError, UsageError
from runner.model import (
    EventRecord,
    ExecutionPlan,
    Handed,
    Note,
    Outcome,
    RunLine,
    RunRecord,
    RunStatus,
    RunView,
    SyncRecord,
    Waited,
)
from runner.planning.ledger import Applied, seal_of
from runner.planning.written import head_of, inputs_in

# The plan file's text is read where it is shown.
_RECORD = [column for column in runs.c if column is not runs.c.source]


class Store:
    """Raises `TargetError` where the state cannot be reached, read or written."""

    def __init__(self, url: str = DEFAULT_STATE) -> None:
        self.url = parse_url(url)
        self.engine = connect(self.url)
        try:
            with reachable(self.url), self.engine.begin() as connection:
                migrate(connection, describe(self.url))
        except TargetError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def lock(self, plan: str, address: str, run_id: str, *, worker: bool = False) -> Lease:
        """The right to send this plan to this address. Raises `LockHeld`."""
        return leases.acquire(self.engine, f"{plan} -> {address}", run_id, worker=worker)

    def start(self, run_id: str, plan: ExecutionPlan, lease: Lease, **record: Any) -> RunJournal:
        """Write down a new run; `record` has target, address, variables, follow, parent, source."""
        started_at = time.time()
        with reachable(self.url), self.engine.begin() as connection:
            lease.renew(connection)
            connection.execute(
                insert(runs).values(
                    id=run_id,
                    plan=plan.name,
                    path=plan.path,
                    digest=plan.digest,
                    planned=plan.events,
                    status="running",
                    variables=json.dumps(record.pop("variables")),
                    started_at=started_at,
                    head=head_of(plan),
                    **record,
                )
            )
            plans.write_events(connection, run_id, plan)
        return RunJournal(self.engine, run_id, started_at, lease)

    def find(self, run_id: str) -> RunRecord:
        """A run by its id, a unique beginning of it, or ``latest``; else a `UsageError`."""
        query = select(*_RECORD).order_by(runs.c.started_at.desc()).limit(2)
        if run_id != "latest":
            query = query.where(runs.c.id.startswith(run_id.upper(), autoescape=True))
        with reachable(self.url), self.engine.connect() as connection:
            found = connection.execute(query).mappings().all()
        if not found:
            hint = f"this state store is {describe(self.url)}; --state names another"
            which = "yet" if run_id == "latest" else run_id
            raise UsageError(f"there is no run {which}", hint=hint)
        if len(found) > 1 and run_id != "latest":
            raise UsageError(f"more than one run begins with {run_id}", hint="give more of its id")
        return _record(found[0])

    def runs(
        self,
        *,
        plan: str | None = None,
        target: str | None = None,
        states: Collection[str] = (),
        since: float = 0.0,
        limit: int | None = None,
    ) -> list[RunLine]:
        """The runs of a plan (a pattern with ``*``), target, or state, the latest ones first."""
        query = select(*_RECORD).where(runs.c.started_at >= since)
        if target:
            query = query.where(runs.c.target == target)
        if states:
            query = query.where(runs.c.status.in_(states))
        query = query.order_by(runs.c.started_at.desc())
        with reachable(self.url), self.engine.connect() as connection:
            found = map(_record, connection.execute(query).mappings())
            chosen = (one for one in found if plan is None or fnmatchcase(one.plan, plan))
            return listing.lines(connection, list(islice(chosen, limit)))

    def glance(self, record: RunRecord) -> RunView:
        """Where a run stands, for a terminal."""
        with reachable(self.url), self.engine.connect() as connection:
            return views.glance(connection, record)

    def view(self, record: RunRecord) -> RunView:
        """All that a page shows of a run; the coverage is in `answers`."""
        with reachable(self.url), self.engine.connect() as connection:
            return replace(
                views.glance(connection, record), **views.timeline(connection, record.id)
            )

    def mark(self, record: RunRecord | None) -> str:
        """Changes whenever what there is to show of a run does, or (None) of the list of runs."""
        with reachable(self.url), self.engine.connect() as connection:
            return views.mark(connection, record)

    def answers(self, record: RunRecord) -> Mapping[str, Any]:
        """What the user's database has answered in a run, by name."""
        with reachable(self.url), self.engine.connect() as connection:
            return views.answers_of(connection, record.id)

    def story(self, record: RunRecord) -> tuple[list[Note], list[Waited]]:
        """What a run has noted, and what it was waiting for."""
        with reachable(self.url), self.engine.connect() as connection:
            return views.notes_of(connection, record.id), views.waits_of(connection, record.id)

    def events(
        self, record: RunRecord, stages: Collection[int] = (), outcome: Collection[str] = ()
    ) -> Iterator[EventRecord]:
        """Every event of a run; of `stages` alone, or with an `outcome` alone.

        Raises `UsageError` for a run of a backfill that did not keep its events.
        """
        plan = self.plan_of(record)
        if plan is None:
            raise UsageError(f"run {record.id} was made by a backfill that kept no events")
        with reachable(self.url), self.engine.connect() as connection:
            yield from listing.events(connection, record, plan, stages=stages, outcome=outcome)

    def failed_events(self, record: RunRecord, limit: int) -> list[EventRecord]:
        """The first events that did not take effect; without the ids that only their plan gives."""
        with reachable(self.url), self.engine.connect() as connection:
            return listing.failed(connection, record.id, limit)

    def ledger(self, plan: str, address: str) -> list[Applied]:
        """The runs of a plan on an address, the latest first; retries are part of theirs."""
        query = (
            select(*_RECORD)
            .where(runs.c.plan == plan, runs.c.address == address, runs.c.parent.is_(None))
            .order_by(runs.c.started_at.desc())
        )
        with reachable(self.url), self.engine.connect() as connection:
            return [
                Applied(
                    record.id,
                    record.status,
                    seal_of(inputs_in(record.head), record.variables) if record.head else "",
                    chains.is_done(connection, record),
                    record.started_at,
                )
                for record in map(_record, connection.execute(query).mappings())
            ]

    def known(self, run_id: str) -> RunRecord | None:
        """The run of exactly this id, if there is one."""
        with reachable(self.url), self.engine.connect() as connection:
            found = connection.execute(select(*_RECORD).where(runs.c.id == run_id)).mappings()
            record = found.first()
            return _record(record) if record else None

    def unfinished(self, plan: str, address: str) -> RunRecord | None:
        """The latest run of the plan there, where it has not come to its end."""
        query = (
            select(*_RECORD)
            .where(runs.c.plan == plan, runs.c.address == address)
            .order_by(runs.c.started_at.desc())
            .limit(1)
        )
        with reachable(self.url), self.engine.connect() as connection:
            found = connection.execute(query).mappings().first()
        record = _record(found) if found else None
        return record if record and record.status in ("running", "incomplete") else None

    def last_seen(self, event: str, address: str) -> tuple[str, bool] | None:
        """The latest run that followed the event there, and whether it has started a job."""
        with reachable(self.url), self.engine.connect() as connection:
            return last_seen(connection, event, address)

    def plan_of(self, record: RunRecord) -> ExecutionPlan | None:
        """What the run was started with; None for a run of a backfill that did not keep it."""
        if record.head is None:
            return None
        with reachable(self.url), self.engine.connect() as connection:
            return plans.read(connection, record.id, record.head)

    def failed_positions(
        self, record: RunRecord, kinds: Collection[Outcome], patterns: Collection[str]
    ) -> list[int]:
        """The events of a run that failed, but for what a later retry has taken care of."""
        with reachable(self.url), self.engine.connect() as connection:
            return chains.failed_positions(connection, record.id, kinds, patterns)

    def journal(self, record: RunRecord, lease: Lease) -> RunJournal:
        return RunJournal(self.engine, record.id, record.started_at, lease)

    def reading(self, record: RunRecord) -> RunJournal:
        """The journal of a run that this process does not carry out."""
        return self.journal(record, Lease(self.engine, "", ""))

    def reopen(self, record: RunRecord, lease: Lease, plan: ExecutionPlan) -> RunJournal:
        """The journal of a run that is carried on with `plan`, no longer paused."""
        with reachable(self.url), self.engine.begin() as connection:
            lease.renew(connection)
            values: dict[str, Any] = dict.fromkeys(("ended_at", "reason", "wanted"))
            values["status"] = "running"
            if plan.digest != record.digest or record.head is None:
                values |= {"digest": plan.digest, "planned": plan.events, "head": head_of(plan)}
                plans.write_events(connection, record.id, plan)
            connection.execute(update(runs).where(runs.c.id == record.id).values(**values))
            # A process that was killed has told no end: it was not waiting while it was dead.
            still = (waits.c.run_id == record.id) & waits.c.ended.is_(None)
            connection.execute(update(waits).where(still).values(ended=waits.c.began))
        journal = self.journal(record, lease)
        journal.reopen_timed_out()
        return journal

    def order(self, run_id: str, **orders: Any) -> None:
        """What a running process must do: `wanted`, `batch_size`, `delay`."""
        with reachable(self.url), self.engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(**orders))

    def end(self, run_id: str, status: RunStatus) -> None:
        """Close a run that no process carries out."""
        self.order(run_id, status=status, ended_at=time.time(), reason=None)

    def holder_of(self, run_id: str) -> str | None:
        """Who is carrying the run out just now."""
        with reachable(self.url), self.engine.connect() as connection:
            return leases.holder_of(connection, run_id)

    def park(self, lease: Lease, until: float, holder: str) -> Lease:
        """Leave a run to whoever carries it on at `until`; its lease, which is no longer ours."""
        return parking.park(lease, until, holder)

    def handed(self, run_id: str) -> Handed | None:
        """How it is with a run that is left to the workers."""
        with reachable(self.url), self.engine.connect() as connection:
            return leases.standing_of(connection, run_id)[1]

    def syncs(self) -> list[SyncRecord]:
        with reachable(self.url), self.engine.connect() as connection:
            return syncs.read(connection)

    def keep_sync(self, record: SyncRecord) -> None:
        with reachable(self.url), self.engine.begin() as connection:
            syncs.keep(connection, record)

    def close(self) -> None:
        self.engine.dispose()


def _record(row: Mapping[Any, Any]) -> RunRecord:
    return RunRecord(**{**row, "variables": json.loads(row["variables"])})
