"""The state for writers: runs, their locks, control requests, holds and notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from runner.adapters.journal import (
    DEFAULT_STATE,
    answers,
    control,
    leases,
    notices,
    records,
    schema,
)
from runner.adapters.journal.database import Database
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.state import StateReader
from runner.adapters.journal.writer import JournalWriter
from runner.model import ExecutionPlan, Hook, Notice, RunRecord, SyncRecord


class Store(StateReader):
    """A state that is also written; it is created if there is none."""

    def __init__(
        self,
        url: str = DEFAULT_STATE,
        clock: Callable[[], float] = time.time,
        who: str | None = None,
    ) -> None:
        """`who`: the name of the user in journals, locks and holds."""
        self._clock = clock
        self._who = who or leases.who({})
        self._open(Database(url))

    def _prepare(self) -> None:
        schema.make(self._database)

    def lock(self, plan: str, address: str, run_id: str, *, worker: bool = False) -> Lease:
        """Acquire the right to send this plan to this address. Raises `LockHeld`."""
        name = f"{plan} -> {address}"
        return leases.acquire(self._database, name, run_id, self._who, worker=worker)

    def park(self, lease: Lease, until: float, holder: str) -> Lease:
        """Leave a run to whoever continues it at `until`; return its lease, which is no longer
        ours."""
        return leases.park(lease, until, holder)

    def start(self, run_id: str, plan: ExecutionPlan, lease: Lease, **record: Any) -> JournalWriter:
        """Record a new run.

        `record` has target, address, environment, variables, follow, parent, source, baseline; for
        a retry, `origins`: the first attempts at its events' work, by position (see `retriable`),
        and `known`: values to remember; and the `hooks` to notify, with the `link` to the run's
        page.
        """
        origins, known = record.pop("origins", {}), record.pop("known", {})
        hooks: Sequence[Hook] = record.pop("hooks", ())
        notify = notices.dump(hooks, record.pop("link", None))
        started_at = self._clock()
        record |= {"started_at": started_at, "started_by": self._who, "notify": notify}
        with self._database.write() as connection:
            lease.renew(connection)
            records.begin(connection, run_id, plan, **record)
            answers.keep_origins(connection, run_id, origins)
            for name, value in known.items():
                answers.remember(connection, run_id, name, value)
            notices.add(connection, run_id, "started", "", started_at)
            if parent := record.get("parent"):
                control.note(connection, parent, f"retried as run {run_id}", self._who)
        return JournalWriter(lease, run_id, started_at, self._clock)

    def journal(self, record: RunRecord, lease: Lease) -> JournalWriter:
        return JournalWriter(lease, record.id, record.started_at, self._clock)

    def reopen(
        self,
        record: RunRecord,
        lease: Lease,
        plan: ExecutionPlan,
        *,
        follow: bool | None = None,
    ) -> JournalWriter:
        """Return the journal of a resumed run with `plan`, no longer paused; `follow`: whether its
        jobs are followed from now on; None: as before."""
        with self._database.write() as connection:
            lease.renew(connection)
            follow = record.follow if follow is None else follow
            records.reopen(connection, record, plan, self._clock(), follow=follow)
            control.note(connection, record.id, "resumed", self._who)
        journal = self.journal(record, lease)
        journal.reopen_undecided()
        return journal

    def request_pause(self, run_id: str) -> bool:
        """Pause after the request in flight, until `withdraw_pause`; False if the run is to be
        cancelled."""
        with self._database.write() as connection:
            return control.request(connection, run_id, "pause", self._who)

    def withdraw_pause(self, run_id: str) -> None:
        with self._database.write() as connection:
            control.withdraw_pause(connection, run_id, self._who)

    def request_cancel(self, run_id: str) -> None:
        """Stop for good after the request in flight."""
        with self._database.write() as connection:
            control.request(connection, run_id, "cancel", self._who)

    def set_pace(
        self,
        run_id: str,
        *,
        batch_size: int | None = None,
        delay: float | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        """Change the pace from the next batch on; `delay` in seconds. What is not given stays as it
        is."""
        with self._database.write() as connection:
            control.set_pace(connection, run_id, batch_size, delay, max_in_flight, self._who)

    def hold(self, address: str, target: str, reason: str, seconds: float | None) -> None:
        """Hold the address for all runs, after the requests in flight."""
        with self._database.write() as connection:
            control.hold(connection, address, target, reason, seconds, self._who)

    def let_go(self, address: str) -> bool:
        """Let runs send there again; return whether it was held."""
        with self._database.write() as connection:
            return control.let_go(connection, address)

    def hooks(self, run_id: str) -> list[Hook]:
        """Return the hooks of the run."""
        with self._database.read() as connection:
            return notices.hooks_of(connection, run_id)

    def due_notices(self, run_id: str) -> list[Notice]:
        """Return the notices that the driver of the run is to deliver; write those for long holds
        first."""
        with self._database.read() as connection:
            late = notices.late(connection, run_id, self._clock())
        if late:
            with self._database.write() as connection:
                notices.add_held(connection, run_id, self._clock(), late)
        with self._database.read() as connection:
            return notices.due(connection, run_id)

    def notices_left(self, run_id: str) -> list[Notice]:
        """Return the undelivered notices of the run."""
        with self._database.read() as connection:
            return notices.left(connection, run_id)

    def claim_notice(self, notice: Notice) -> bool:
        """Claim a notice for a while; False if another process has it."""
        with self._database.write() as connection:
            return notices.claim(connection, notice)

    def settle_notice(self, notice: Notice, again: float | None = None) -> None:
        """Mark a notice as delivered, or (`again`) to be tried again after so many seconds."""
        with self._database.write() as connection:
            notices.settle(connection, notice, again)

    def keep_sync(self, record: SyncRecord) -> None:
        with self._database.write() as connection:
            control.keep_sync(connection, record)
