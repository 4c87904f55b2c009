"""What may be asked of a state: the journals of all runs, and what was asked of them."""

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
    """What may be asked of a state; nothing is written, also where nothing may be.

    Raises `TargetError` where it cannot be reached or read, and `NoState` where there is none.
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
        """Until the block ends, a state that is away is tried again."""
        return self._database.patient(patience, note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def identity(self) -> str:
        """What tells this state from every other: its workers take no run of another."""
        with self._database.read() as connection:
            return str(connection.value("SELECT identity FROM backfill_version"))

    def find(self, run: str) -> RunRecord:
        """A run by its id, a unique beginning of it, ``latest``, or ``latest:NAME``, the last one
        of the plan of that name; else a `UsageError`."""
        return self.run_state(run).record

    def run_state(self, run: str) -> RunState:
        """The same, with who drives it, and how it is where it is left to the workers."""
        with self._database.read() as connection:
            return records.find(connection, run, self.where)

    def plan_names(self) -> list[str]:
        """The plans that were run."""
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
        """The runs of a plan (a pattern with ``*``), target, or state, the latest ones first."""
        with self._database.read() as connection:
            found = records.latest(connection, plan=plan, target=target, states=states, since=since)
            return views.lines(connection, list(islice(found, limit)), self._clock())

    def glance(self, record: RunRecord) -> RunView:
        """Where a run stands, for a terminal."""
        with self._database.read() as connection:
            return views.glance(connection, record, self._clock())

    def view(self, record: RunRecord) -> RunView:
        """All that a page shows of a run; the coverage is in `answers`."""
        with self._database.read() as connection:
            view = views.glance(connection, record, self._clock())
            return replace(view, **views.timeline(connection, record.id))

    def mark(self, record: RunRecord | None) -> str:
        """Changes whenever what there is to show of a run does, or (None) of the list of runs."""
        with self._database.read() as connection:
            return views.mark(connection, record, self._clock())

    def answers(self, record: RunRecord) -> Mapping[str, Any]:
        """What the user's database has answered in a run, by name."""
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
        """Every event of a run; of `stages` alone, or with an `outcome` alone."""
        with self._database.read() as connection:
            plan = plans.read(connection, record.id, record.head)
            yield from views.events(connection, record, plan, stages=stages, outcome=outcome)

    def find_events(
        self, record: RunRecord, wanted: EventFilter, limit: int, skip: int = 0
    ) -> list[EventRecord]:
        """The events of a page, without the ids that only their plan gives."""
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
        """What a run's plan was when it was applied there last, before the run."""
        with self._database.read() as connection:
            return records.applied_before(connection, record)

    def ledger(
        self, plan: str, address: str | None = None, *, environment: str = ""
    ) -> list[PlanRun]:
        """The runs of a plan on an address, without those of other environments, or all in an
        environment; the latest first. Retries are part of theirs."""
        with self._database.read() as connection:
            return records.ledger(connection, plan, address, environment)

    def known(self, run_id: str) -> RunRecord | None:
        """The run of exactly this id, if there is one."""
        with self._database.read() as connection:
            return records.known(connection, run_id)

    def unfinished(self, plan: str, address: str, environment: str = "") -> RunState | None:
        """The latest run of the plan there, where it has not come to its end."""
        with self._database.read() as connection:
            return records.unfinished(connection, plan, address, environment)

    def last_seen(self, event: str, address: str) -> tuple[str, bool] | None:
        """The latest run that followed the event there, and whether it has started a job."""
        with self._database.read() as connection:
            return records.last_seen(connection, event, address)

    def plan_of(self, record: RunRecord) -> ExecutionPlan:
        """What the run was started with."""
        with self._database.read() as connection:
            return plans.read(connection, record.id, record.head)

    def retriable(
        self, record: RunRecord, kinds: Collection[Outcome], patterns: Collection[str]
    ) -> dict[int, int]:
        """The events of a run that failed so, by position, and what they stand for: the position of
        the first attempt in the first run. What another attempt has made good, or still has to do,
        is left out."""
        with self._database.read() as connection:
            return chains.retriable(connection, record.id, kinds, patterns)

    def unproved(self, record: RunRecord) -> Mapping[str, bool]:
        """The checks that did not hold, or were not asked, in a run and its retries: by name,
        whether they were."""
        with self._database.read() as connection:
            return chains.unproved(connection, record.id)

    def reading(self, record: RunRecord) -> JournalReader:
        return JournalReader(self._database, record.id, record.started_at, self._clock)

    def holds(self) -> list[TargetHold]:
        """The targets that are held."""
        with self._database.read() as connection:
            return control.holds(connection)

    def syncs(self) -> list[SyncRecord]:
        with self._database.read() as connection:
            return control.syncs(connection)
