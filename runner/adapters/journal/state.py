"""Read a state: the journals of all runs, holds and syncs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from runner.adapters.journal import (
    DEFAULT_STATE,
    answers,
    chains,
    control,
    plans,
    records,
    schema,
    views,
)
from runner.adapters.journal.database import Database
from runner.adapters.journal.reader import JournalReader
from runner.model import (
    FAILURES,
    LOST,
    MAX_NAMED,
    Applied,
    EventFilter,
    EventRecord,
    ExecutionPlan,
    Note,
    Outcome,
    Patience,
    RunLine,
    RunRecord,
    RunState,
    RunView,
    Story,
    SyncRecord,
    TargetHold,
)

if TYPE_CHECKING:
    from runner.planning.ledger import PlanRun


class StateReader:
    """Reads a state; nothing is written, even if nothing may be written.

    Raises `TargetError` if it cannot be reached or read, and `NoState` if there is none.
    """

    def __init__(self, url: str = DEFAULT_STATE, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._open(Database(url, only_reads=True))

    def _open(self, database: Database) -> None:
        self._database, self.where = database, database.where
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        schema.expect(self._database)

    def patient(
        self, patience: Patience, note: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Retry a state that is away, until the block ends."""
        return self._database.patient(patience, note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def identity(self) -> str:
        """What distinguishes this state from others: its workers take no runs of another."""
        with self._database.read() as connection:
            return str(connection.value("SELECT identity FROM backfill_version"))

    def find(self, run: str) -> RunRecord:
        """Find a run by its id, a unique beginning of it, ``latest``, or ``latest:NAME`` for the
        last run of that plan; else raise `UsageError`."""
        return self.run_state(run).record

    def run_state(self, run: str) -> RunState:
        """Find a run, with who drives it, and its state if it is left to the workers."""
        with self._database.read() as connection:
            return records.find(connection, run, self.where)

    def plan_names(self) -> list[str]:
        """Return the names of all plans that were run."""
        with self._database.read() as connection:
            return records.plan_names(connection)

    def runs(
        self,
        *,
        plan: str | None = None,
        target: str | None = None,
        states: Collection[str] = (),
        since: float = 0.0,
        limit: int | None = None,
    ) -> list[RunLine]:
        """Return runs, latest first, by plan (a pattern with ``*``), target and state."""
        with self._database.read() as connection:
            found = records.latest(connection, plan=plan, target=target, states=states, since=since)
            return views.lines(connection, list(islice(found, limit)), self._clock())

    def glance(self, record: RunRecord) -> RunView:
        """Return where a run stands, for a terminal."""
        with self._database.read() as connection:
            return views.glance(connection, record, self._clock())

    def view(self, record: RunRecord) -> RunView:
        """Return everything that a page shows of a run, except the coverage, which is in
        `answers`."""
        with self._database.read() as connection:
            view = views.glance(connection, record, self._clock())
            return replace(view, **views.timeline(connection, record.id))

    def mark(self, record: RunRecord | None) -> str:
        """Return a value that changes whenever the display of a run does, or (None) that of the
        list of runs."""
        with self._database.read() as connection:
            return views.mark(connection, record, self._clock())

    def answers(self, record: RunRecord) -> Mapping[str, Any]:
        """Return the answers of the user's database in a run, by name."""
        with self._database.read() as connection:
            return answers.all_of(connection, record.id)

    def notes(self, record: RunRecord) -> list[Note]:
        with self._database.read() as connection:
            return views.notes_of(connection, record.id)

    def story(self, record: RunRecord) -> Story:
        with self._database.read() as connection:
            return Story(
                views.glance(connection, record, self._clock()),
                views.notes_of(connection, record.id),
                views.waits_of(connection, record.id),
                views.batches_of(connection, record.id),
                views.lost(connection, record.id, MAX_NAMED),
            )

    def events(
        self, record: RunRecord, stages: Collection[int] = (), outcome: Collection[str] = ()
    ) -> Iterator[EventRecord]:
        """Yield every event of a run; only of `stages`, or with an `outcome`, if given."""
        with self._database.read() as connection:
            plan = plans.read(connection, record.id, record.head)
            yield from views.events(connection, record, plan, stages=stages, outcome=outcome)

    def find_events(
        self, record: RunRecord, wanted: EventFilter, limit: int, skip: int = 0
    ) -> list[EventRecord]:
        """Return the events of a page; some lack the ids that only their plan gives."""
        with self._database.read() as connection:
            if wanted.outcome in FAILURES or wanted.outcome == LOST:
                return views.lost(connection, record.id, limit, wanted=wanted, skip=skip)
            plan = plans.read(connection, record.id, record.head)
            found = views.events(
                connection,
                record,
                plan,
                stages=() if wanted.stage is None else {wanted.stage},
                outcome=() if wanted.outcome is None else {wanted.outcome},
                text=wanted.text,
                skip=skip,
            )
            return list(islice(found, limit))

    def applied_before(self, record: RunRecord) -> Applied | None:
        """Return the last run of the same plan that was applied there before this run."""
        with self._database.read() as connection:
            return records.applied_before(connection, record)

    def ledger(
        self, plan: str, address: str | None = None, *, environment: str = ""
    ) -> list[PlanRun]:
        """Return the runs of a plan on an address, without those of other environments, or all in
        an environment; latest first. Retries count with their runs."""
        with self._database.read() as connection:
            return records.ledger(connection, plan, address, environment)

    def known(self, run_id: str) -> RunRecord | None:
        """Return the run with exactly this id, or None."""
        with self._database.read() as connection:
            return records.known(connection, run_id)

    def unfinished(self, plan: str, address: str, environment: str = "") -> RunState | None:
        """Return the latest run of the plan there, if it has not ended."""
        with self._database.read() as connection:
            return records.unfinished(connection, plan, address, environment)

    def last_seen(self, event: str, address: str) -> tuple[str, bool] | None:
        """Return the latest run that followed the event there, and whether it started a job."""
        with self._database.read() as connection:
            return records.last_seen(connection, event, address)

    def plan_of(self, record: RunRecord) -> ExecutionPlan:
        """Return the plan that the run was started with."""
        with self._database.read() as connection:
            return plans.read(connection, record.id, record.head)

    def retriable(
        self, record: RunRecord, kinds: Collection[Outcome], patterns: Collection[str]
    ) -> dict[int, int]:
        """Return the failed events of a run by position, with the position of the first attempt in
        the first run. Excludes what another attempt has made good or still has to do."""
        with self._database.read() as connection:
            return chains.retriable(connection, record.id, kinds, patterns)

    def unproved(self, record: RunRecord) -> Mapping[str, bool]:
        """Return the checks that do not hold, or were not asked, in a run and its retries: by name,
        whether they were asked."""
        with self._database.read() as connection:
            return chains.unproved(connection, record.id)

    def reading(self, record: RunRecord) -> JournalReader:
        return JournalReader(self._database, record.id, record.started_at, self._clock)

    def holds(self) -> list[TargetHold]:
        """Return the held targets."""
        with self._database.read() as connection:
            return control.holds(connection)

    def syncs(self) -> list[SyncRecord]:
        with self._database.read() as connection:
            return control.syncs(connection)
