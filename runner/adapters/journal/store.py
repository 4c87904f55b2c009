"""The state: the journals of all runs, their locks, and what was asked of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Self

from runner.adapters.journal import (
    DEFAULT_STATE,
    answers,
    chains,
    control,
    leases,
    notices,
    plans,
    schema,
    views,
)
from runner.adapters.journal.database import Connection, Database, listed
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.reader import JournalReader
from runner.adapters.journal.writer import JournalWriter
from runner.errors import UsageError
from runner.model import (
    FAILURES,
    LOST,
    MAX_NAMED,
    Applied,
    EventFilter,
    EventRecord,
    ExecutionPlan,
    Hook,
    Note,
    Notice,
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
from runner.planning.ledger import PlanRun, inputs_digest
from runner.planning.serialize import dump_head, load_head
from runner.spec.document import did_you_mean

LATEST_OF = "latest:"  # before a plan's name: its last run
# Without `source`: the plan file's text is read where it is shown.
_COLUMNS = (
    *("id", "plan", "path", "digest", "target", "address", "variables", "planned", "follow"),
    *(
        "status",
        "started_at",
        "started_by",
        "ended_at",
        "head",
        "parent",
        "wanted",
        "batch_size",
        "delay",
    ),
    "max_in_flight",
    *("reason", "environment", "baseline", "partial"),
)
_RECORD = f"SELECT {', '.join(_COLUMNS)} FROM runs"
# With the run's lease, all of it NULL where there is none.
_STATE = f"""SELECT {", ".join(f"runs.{name}" for name in _COLUMNS)}, leases.token,
leases.holder, leases.machine, leases.pid, leases.taken_at, leases.expires_at, leases.workers,
{{now}} AS now FROM runs LEFT JOIN leases ON leases.run_id = runs.id"""


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
        if run == "latest":
            which, where, value = "yet", "TRUE", ""
        elif run.startswith(LATEST_OF):
            value = run.removeprefix(LATEST_OF)
            which, where = f"of the plan {value}", "runs.plan = :value"
        else:
            which, where, value = run, "substr(runs.id, 1, length(:value)) = :value", run.upper()
        query = f"{_STATE} WHERE {where} ORDER BY runs.started_at DESC LIMIT 2"
        with self._database.read() as connection:
            found = connection.rows(query, value=value)
        if not found:
            near = did_you_mean(value, self.plan_names()) if value else None
            hint = f"this state store is {self.where}; --state names another"
            hint = near.replace("`", f"`{LATEST_OF}", 1) if near else hint
            raise UsageError(f"there is no run {which}", hint=hint)
        if len(found) > 1 and not run.startswith("latest"):
            raise UsageError(f"more than one run begins with {run}", hint="give more of its id")
        return _state(found[0])

    def plan_names(self) -> list[str]:
        """The plans that were run."""
        with self._database.read() as connection:
            names: list[str] = connection.values("SELECT DISTINCT plan FROM runs")
        return sorted(names)

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
        query, given = f"{_STATE} WHERE runs.started_at >= :since", dict[str, Any](since=since)
        if target:
            query, given["target"] = f"{query} AND runs.target = :target", target
        if states:
            within, statuses = listed("status", states)
            query, given = f"{query} AND runs.status IN ({within})", given | statuses
        with self._database.read() as connection:
            found = iter(connection.rows(f"{query} ORDER BY runs.started_at DESC", **given))
            chosen = (row for row in found if plan is None or fnmatchcase(row.plan, plan))
            listed_ = [_state(row) for row in islice(chosen, limit)]
            return views.lines(connection, listed_, self._clock())

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
        query = f"""{_RECORD} WHERE plan = :plan AND address = :address AND parent IS NULL
        AND started_at < :before ORDER BY started_at DESC"""
        there = {"plan": record.plan, "address": record.address, "before": record.started_at}
        with self._database.read() as connection:
            for row in connection.rows(query, **there):
                one = _record(row)
                if not one.partial and chains.is_done(connection, one):
                    source = "SELECT source FROM runs WHERE id = :run"
                    return Applied(one.id, one.planned, connection.value(source, run=one.id))
        return None

    def ledger(
        self, plan: str, address: str | None = None, *, environment: str | None = None
    ) -> list[PlanRun]:
        """The runs of a plan on an address, or in an environment, the latest first; retries are
        part of theirs."""
        column, there = (
            ("address", address) if environment is None else ("environment", environment)
        )
        query = f"""{_RECORD} WHERE plan = :plan AND {column} = :there AND parent IS NULL
        ORDER BY started_at DESC"""
        with self._database.read() as connection:
            records = map(_record, connection.rows(query, plan=plan, there=there))
            return [
                PlanRun(
                    record.id,
                    record.status,
                    inputs_digest(load_head(record.head).inputs, record.variables),
                    chains.is_done(connection, record) and not record.partial,
                    record.started_at,
                    record.baseline,
                    record.partial,
                )
                for record in records
            ]

    def known(self, run_id: str) -> RunRecord | None:
        """The run of exactly this id, if there is one."""
        with self._database.read() as connection:
            found = connection.row(f"{_RECORD} WHERE id = :run", run=run_id)
        return _record(found) if found else None

    def unfinished(self, plan: str, address: str) -> RunState | None:
        """The latest run of the plan there, where it has not come to its end."""
        query = f"""{_STATE} WHERE runs.plan = :plan AND runs.address = :address
        ORDER BY runs.started_at DESC LIMIT 1"""
        with self._database.read() as connection:
            found = connection.row(query, plan=plan, address=address)
        state = _state(found) if found else None
        return state if state and state.record.status in ("running", "incomplete", "sent") else None

    def last_seen(self, event: str, address: str) -> tuple[str, bool] | None:
        """The latest run that followed the event there, and whether it has started a job."""
        with self._database.read() as connection:
            found = connection.row(
                """SELECT runs.id, EXISTS (
                  SELECT 1 FROM jobs WHERE jobs.run_id = chunks.run_id
                  AND jobs.position BETWEEN chunks.first AND chunks.last
                ) AS started
                FROM runs JOIN chunks ON chunks.run_id = runs.id
                WHERE runs.address = :address AND runs.follow AND chunks.event = :event
                ORDER BY runs.started_at DESC, started DESC LIMIT 1""",
                address=address,
                event=event,
            )
        return None if found is None else (found.id, bool(found.started))

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

    def unproved(self, record: RunRecord) -> frozenset[str]:
        """The checks that did not hold, or were not asked, in a run and its retries."""
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


class Store(StateReader):
    """A state that is written too; it is made where there is none."""

    def __init__(
        self,
        url: str = DEFAULT_STATE,
        clock: Callable[[], float] = time.time,
        who: str | None = None,
    ) -> None:
        """`who`: as journals, locks and holds name whoever uses it."""
        self._clock = clock
        self._who = who or leases.who({})
        self._open(Database(url))

    def _prepare(self) -> None:
        schema.make(self._database)

    def lock(self, plan: str, address: str, run_id: str, *, worker: bool = False) -> Lease:
        """The right to send this plan to this address. Raises `LockHeld`."""
        name = f"{plan} -> {address}"
        return leases.acquire(self._database, name, run_id, self._who, worker=worker)

    def park(self, lease: Lease, until: float, holder: str) -> Lease:
        """Leave a run to whoever continues it at `until`; its lease, which is no longer ours."""
        return leases.park(lease, until, holder)

    def start(self, run_id: str, plan: ExecutionPlan, lease: Lease, **record: Any) -> JournalWriter:
        """Write down a new run; `record` has target, address, environment, variables, follow,
        parent, source, baseline; `origins`: of a retry, what its events stand for, by position (see
        `retriable`); and `hooks` that are told of it, with the `link` where it can be looked at."""
        origins = record.pop("origins", {})
        hooks: Sequence[Hook] = record.pop("hooks", ())
        notify = notices.dump(hooks, record.pop("link", None))
        started_at = self._clock()
        values = {"parent": None, "source": None, "baseline": None, "environment": ""} | record
        values |= {
            "id": run_id,
            "plan": plan.name,
            "path": plan.path,
            "digest": plan.digest,
            "planned": plan.events,
            "status": "running",
            "variables": json.dumps(record["variables"]),
            "started_at": started_at,
            "started_by": self._who,
            "head": dump_head(plan),
            "partial": plan.partial.selectors.words if plan.partial else None,
            "notify": notify,
        }
        names, given = ", ".join(values), ", ".join(f":{name}" for name in values)
        with self._database.write() as connection:
            lease.renew(connection)
            connection.change(f"INSERT INTO runs ({names}) VALUES ({given})", **values)
            plans.write_events(connection, run_id, plan)
            answers.keep_origins(connection, run_id, origins)
            notices.add(connection, run_id, "started", "", started_at)
            if values["parent"]:
                control.note(connection, values["parent"], f"retried as run {run_id}", self._who)
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
        """The journal of a resumed run with `plan`, no longer paused; `follow`: from now
        on its jobs are followed, or not; None: as before."""
        with self._database.write() as connection:
            lease.renew(connection)
            follow = record.follow if follow is None else follow
            _reopen(connection, record, plan, self._clock(), follow=follow)
            control.note(connection, record.id, "resumed", self._who)
        journal = self.journal(record, lease)
        journal.reopen_undecided()
        return journal

    def request_pause(self, run_id: str) -> None:
        """Nothing is sent after the request in flight, until `withdraw_pause`."""
        with self._database.write() as connection:
            control.request(connection, run_id, "pause", self._who)

    def withdraw_pause(self, run_id: str) -> None:
        with self._database.write() as connection:
            control.withdraw_pause(connection, run_id, self._who)

    def request_cancel(self, run_id: str) -> None:
        """Nothing is sent after the request in flight, for good."""
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
        """From the next batch on; `delay` in seconds. What is not given stays as it is."""
        with self._database.write() as connection:
            control.set_pace(connection, run_id, batch_size, delay, max_in_flight, self._who)

    def hold(self, address: str, target: str, reason: str, seconds: float | None) -> None:
        """Nothing is sent to the address after the requests in flight, by whatever run."""
        with self._database.write() as connection:
            control.hold(connection, address, target, reason, seconds, self._who)

    def let_go(self, address: str) -> bool:
        """Runs may send there again; whether they might not before."""
        with self._database.write() as connection:
            return control.let_go(connection, address)

    def hooks(self, run_id: str) -> list[Hook]:
        """Who is told of the run."""
        with self._database.read() as connection:
            return notices.hooks_of(connection, run_id)

    def due_notices(self, run_id: str) -> list[Notice]:
        """What is to be delivered by whoever drives the run; that it is held for long is written
        down first."""
        with self._database.read() as connection:
            late = notices.late(connection, run_id, self._clock())
        if late:
            with self._database.write() as connection:
                notices.add_held(connection, run_id, self._clock(), late)
        with self._database.read() as connection:
            return notices.due(connection, run_id)

    def notices_left(self, run_id: str) -> list[Notice]:
        """Those of the run that are not delivered."""
        with self._database.read() as connection:
            return notices.left(connection, run_id)

    def claim_notice(self, notice: Notice) -> bool:
        """Whether nobody else is at it; for a while nobody is."""
        with self._database.write() as connection:
            return notices.claim(connection, notice)

    def settle_notice(self, notice: Notice, again: float | None = None) -> None:
        """It is delivered, or (`again`) to be tried once more after so many seconds."""
        with self._database.write() as connection:
            notices.settle(connection, notice, again)

    def keep_sync(self, record: SyncRecord) -> None:
        with self._database.write() as connection:
            control.keep_sync(connection, record)


def _reopen(
    connection: Connection, record: RunRecord, plan: ExecutionPlan, now: float, *, follow: bool
) -> None:
    connection.change(
        """UPDATE runs SET status = 'running', ended_at = NULL, reason = NULL, wanted = NULL,
        digest = :digest, planned = :planned, head = :head, follow = :follow WHERE id = :run""",
        run=record.id,
        digest=plan.digest,
        planned=plan.events,
        head=dump_head(plan),
        follow=follow,
    )
    if plan.digest != record.digest:
        plans.write_events(connection, record.id, plan)
    # A process that was killed has told no end: it waited while it lived.
    driven = leases.driven_until(connection, record.id, now, driven=False).intervals
    connection.change(
        """UPDATE waits SET ended = CASE WHEN began > :last THEN began ELSE :last END
        WHERE run_id = :run AND ended IS NULL""",
        run=record.id,
        last=driven[-1][1] if driven else 0.0,
    )


def _record(row: Any) -> RunRecord:
    values = row._asdict()
    found = {name: values[name] for name in _COLUMNS}
    found |= {"variables": json.loads(row.variables), "follow": bool(row.follow)}
    return RunRecord(**found)


def _state(row: Any) -> RunState:
    if row.token is None:
        return RunState(_record(row), None, None)
    state = RunState(_record(row), *leases.standing_of(row))
    return state if state.goes_on else replace(state, silent=leases.silent_since(row))
