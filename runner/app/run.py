"""The ways to begin a run, or to go on with one: prepare, refuse, ask, lock, record, send.

`run`, `resume` and `retry` drive it in this process; `submit` and `resubmit` leave it to the
workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from runner.adapters.inngest.target import Target
from runner.app.inputs import unchanged
from runner.app.notify import empty, link_of
from runner.app.policy import refuse_broken
from runner.app.preflight import (
    confirm,
    followed,
    preflight,
    refuse_another_address,
    refuse_own_files,
)
from runner.app.prepare import PlanResolver, build, past, remember, restored, source_of, warned
from runner.app.saved import load_saved, refuse_selectors, refuse_used, reviewed
from runner.app.session import Session
from runner.errors import LockHeld, PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.seeds import make_seed
from runner.model import (
    BackfillPlan,
    Database,
    ExecutionPlan,
    Function,
    Json,
    LiveDatabase,
    Outcome,
    PlannedEvent,
    Problem,
    RunRecord,
    RunState,
    Selectors,
    Skipped,
    Stage,
    Summary,
)
from runner.planning.compare import first_difference

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.execution.ports import Journal, JournalReads, Resolver

RETRIED: frozenset[Outcome] = frozenset({"failed", "cancelled", "timed_out", "no_job", "rejected"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that may begin: what it sends, and where to; `named` is its target as it was named,
    `environment` the one of the project file that it works in, if any.

    `files`: the plan as its files have it, by which deferred stages are resolved; those of a saved
    plan without such stages are not read again, however many rows they have. `parent`: the run that
    it sends events of once more; `origins`: what these stand for, by their positions.
    """

    run_id: str
    plan: ExecutionPlan
    target: Target
    named: str
    variables: dict[str, Json]
    environment: str = ""
    files: BackfillPlan | None = None
    parent: str | None = None
    origins: Mapping[int, int] = field(default_factory=dict)

    @property
    def shown(self) -> ExecutionPlan:
        """The plan with what is unwise about it on this target."""
        return warned(self.plan, self.target)

    def events(self) -> Iterator[PlannedEvent]:
        """Every event that would be sent, in sending order: its operation is that of the stage."""
        return (event for stage in self.plan.stages for event in stage.planned())

    @property
    def digest(self) -> str:
        return self.plan.digest

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.plan.stages

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return self.plan.skipped

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return self.plan.warnings


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run that is left to the workers, and the id of the event that asks for it."""

    run_id: str
    event_id: str


def prepare(
    session: Session,
    source: str | BackfillPlan,
    *,
    target: str | None = None,
    variables: dict[str, Json] | None = None,
    strict: bool = False,
    run_id: str | None = None,
    selectors: Selectors | None = None,
) -> Prepared:
    """What a run of a plan file would send now, or what a saved plan does.

    `source`: the path of either, or a plan file that was loaded with these variables. `selectors`:
    only a part of it.
    Raises `InvalidPlan`; `StalePlan` where a saved plan may no longer be run.
    """
    from ulid import ULID

    overrides = variables or {}
    saved = load_saved(source) if isinstance(source, str) else None
    if saved and isinstance(source, str):
        if overrides and overrides != saved.variables:
            hint = "it has its variables with it"
            raise UsageError("--var does nothing for a saved plan", hint=hint)
        refuse_selectors(selectors)
        found = reviewed(session, saved, source, target)
        kept = dict(saved.variables)
        return Prepared(
            saved.run_id,
            found.plan,
            found.target,
            saved.target,
            kept,
            saved.environment,
            found.files,
        )
    built = build(session, source, overrides, strict=strict, target=target, selectors=selectors)
    path = built.plan.path
    environment = session.environment(path)
    return Prepared(
        run_id or str(ULID()),
        built.execution_plan,
        session.target(target, path),
        session.named_target(target, path),
        overrides,
        environment.name if environment else "",
        built.plan,
    )


def run(
    session: Session,
    prepared: Prepared,
    options: RunOptions,
    *,
    once_locked: Callable[[], None] = lambda: None,
) -> Summary:
    """Send the plan's events from this process, and follow their jobs to the end.

    `once_locked` may still refuse, when nobody else can begin a run of the plan. Raises what ended
    the run early, after the session's reporter has heard how far it came.
    """
    from runner.app.drive import Drive, drive_here

    plan, target = prepared.plan, prepared.target
    session.reporter.planned(warned(plan, target), target)
    refuse_broken(plan)
    options, functions = preflight(session, plan, target, options)
    confirm(
        session, plan, target, options, lambda: _before_answer(session, plan, target, functions)
    )
    with _locked(session, prepared, options, once_locked) as lease:
        what = Drive(
            plan,
            target,
            lambda: _record(session, prepared, options, lease),
            options,
            database=session.databases(plan.path, prepared.environment),
            environment=prepared.environment,
            resolver=_resolver(session, prepared),
            notes=_notes(options),
        )
        return drive_here(session, what)


def submit(
    session: Session,
    prepared: Prepared,
    options: RunOptions,
    *,
    app: str | None = None,
    once_locked: Callable[[], None] = lambda: None,
) -> Submitted:
    """Leave the run to the workers: those of the state, or of one `app` of theirs; see `run`."""
    from runner.app.submit import enqueue, refuse_unheard

    plan, target = prepared.plan, prepared.target
    session.reporter.planned(warned(plan, target), target)
    refuse_broken(plan)
    refuse_unheard(session, target, app)
    options, functions = preflight(session, plan, target, options)
    confirm(
        session, plan, target, options, lambda: _before_answer(session, plan, target, functions)
    )
    with _locked(session, prepared, options, once_locked) as lease:
        journal = _record(session, prepared, options, lease)
        for note in _notes(options):
            journal.note(note)
        event = enqueue(session, lease, target, prepared.run_id, plan.name, options, app)
    return Submitted(prepared.run_id, event)


def resume(
    session: Session, run: str, options: RunOptions, *, from_journal: bool = False
) -> Summary | None:
    """Go on with a run in this process; None where there is nothing to do, which is reported.

    `from_journal`: send what it was started with, whatever its plan file says by now.
    """
    with _still_open(session, run, options, from_journal=from_journal) as found:
        if found is None:
            empty(session, session.store.find(run).id)
            return None
        record, target, plan, lease = found.record, found.target, found.plan, found.lease

        def reopen(options: RunOptions) -> Journal:
            journal = session.store.reopen(record, lease, plan, follow=options.follow)
            if target.kind == "embedded":
                random = SystemRandom()
                journal.requeue(lambda: make_seed(time.time(), random))
            return journal

        options = replace(options, follow=_follows(record))
        database = session.databases(record.path, record.environment)
        return _drive_more(session, record, plan, target, options, reopen, database, begun=True)


def _drive_more(
    session: Session,
    record: RunRecord,
    plan: ExecutionPlan,
    target: Target,
    options: RunOptions,
    journal: Callable[[RunOptions], Journal],
    database: LiveDatabase | None,
    *,
    begun: bool = False,
) -> Summary:
    """What is left of a run, or what has failed in it: no preflight, the run had its own."""
    from runner.app.drive import Drive, drive_here

    options = followed(plan, target, options)
    refuse_own_files(plan, options)
    confirm(session, plan, target, options)
    what = Drive(
        plan,
        target,
        lambda: journal(options),
        options,
        database=database,
        environment=record.environment,
        resolver=resolver_of(session, record, plan, database) if database else None,
        begun=begun,
    )
    return drive_here(session, what)


def resubmit(
    session: Session, run: str, options: RunOptions, *, from_journal: bool = False
) -> Submitted | None:
    """Leave the rest of a run to the workers; None where there is nothing to leave to them."""
    from runner.app.submit import enqueue, refuse_unheard

    with _still_open(session, run, options, from_journal=from_journal) as found:
        if found is None:
            return None
        record, target, plan, lease = found.record, found.target, found.plan, found.lease
        refuse_unheard(session, target)
        options = followed(plan, target, replace(options, follow=_follows(record)))
        confirm(session, plan, target, options)
        journal = session.store.reopen(record, lease, plan, follow=options.follow)
        # Asked for anew, it is another event, and what is still open has its time from now on.
        more: dict[str, Any] = {"asked_at": time.time(), "unanswered": options.unanswered}
        if options.past_failures or plan.max_failures:  # what has failed before does not count
            failed = sum(figures.lost for figures in journal.by_stage().values())
            ended = journal.next_position() - len(journal.unsettled())
            more |= {"failed": failed, "ended": ended, "past_failures": options.past_failures}
        event = enqueue(session, lease, target, record.id, plan.name, options, **more)
        return Submitted(record.id, event)


def retry(
    session: Session,
    run: str,
    options: RunOptions,
    *,
    outcomes: Collection[Outcome] = RETRIED,
    items: Sequence[str] = (),
) -> Summary:
    """Send the events of a run with these outcomes, and items like these patterns, once more.

    They are a run of their own, linked to it.
    """
    with _failed_events(session, run, options, outcomes, items) as (prepared, record, lease):
        plan, target = prepared.plan, prepared.target
        session.reporter.planned(warned(plan, target), target)
        database = session.databases(record.path, record.environment)
        return _drive_more(
            session,
            record,
            plan,
            target,
            replace(options, follow=record.follow),
            lambda options: _record(session, prepared, options, lease),
            database if plan.checks or plan.coverage else None,
        )


def plan_retry(
    session: Session,
    run: str,
    options: RunOptions,
    *,
    outcomes: Collection[Outcome] = RETRIED,
    items: Sequence[str] = (),
) -> Prepared:
    """What `retry` would send; nothing is sent."""
    with _failed_events(session, run, options, outcomes, items) as (prepared, _, _):
        return prepared


def resolver_of(
    session: Session, record: RunRecord, plan: ExecutionPlan, database: Database
) -> Resolver | None:
    """What is left to find out is found out by the plan's files, which must be as they were."""
    if not plan.deferred:
        return None
    if not unchanged(plan.inputs):
        hint = "restore it, or start a new run; `serve` looks in the folders that it is given"
        message = f"{plan.path} is not as it was, and stages of run {record.id} are resolved by it"
        raise StalePlan(message, hint=hint)
    from runner.app.plan_files import load

    loaded = load(session, plan.path, record.variables, environment=record.environment)
    return restored(session.store.reading(record), loaded, database, plan.partial)


@contextmanager
def _locked(
    session: Session, prepared: Prepared, options: RunOptions, once_locked: Callable[[], None]
) -> Iterator[Lease]:
    """The right to begin the run, once nobody else is at it."""
    plan, address = prepared.plan.name, prepared.target.address
    with session.lock(plan, address, prepared.run_id, options.wait_lock) as lease:
        refuse_used(session, prepared.run_id)
        once_locked()
        yield lease


def _record(session: Session, prepared: Prepared, options: RunOptions, lease: Lease) -> Journal:
    """Write the run down, before anything is sent."""
    plan = replace(prepared.plan, path=str(Path(prepared.plan.path).resolve()))
    journal = session.store.start(
        prepared.run_id,
        plan,
        lease,
        target=prepared.named,
        address=prepared.target.address,
        environment=prepared.environment,
        variables=prepared.variables,
        follow=options.follow,
        parent=prepared.parent,
        origins=prepared.origins,
        source=None if prepared.parent else source_of(plan),
        hooks=session.project(prepared.plan.path).notify,
        link=link_of(session.environ, prepared.target),
    )
    if plan.deferred and prepared.files:
        remember(journal, prepared.files)
    return journal


def _resolver(session: Session, prepared: Prepared) -> PlanResolver | None:
    if prepared.files is None:
        return None
    database = session.databases(prepared.plan.path, prepared.environment)
    return PlanResolver(prepared.files, database, prepared.plan.partial)


def _notes(options: RunOptions) -> tuple[str, ...]:
    """What the journal should say of how the run was asked for."""
    return ("the preflight was skipped (--skip-preflight)",) if options.skip_preflight else ()


def _before_answer(
    session: Session, plan: ExecutionPlan, target: Target, functions: Sequence[Function] | None
) -> None:
    """How long it will take; and that a new run has new event ids: what an unfinished one has sent
    would be sent once more."""
    from runner.planning.estimate import before

    estimate = before(plan, past(session.store, plan), session.clock.time(), functions or ())
    if estimate.telling:
        session.reporter.say(f"time: {estimate.words}")
    unfinished = session.store.unfinished(plan.name, target.address)
    if unfinished and not unfinished.holder:
        run_id = unfinished.record.id
        session.reporter.note(
            f"run {run_id} of this plan has not come to its end: `backfill resume {run_id}` "
            "continues it; this is a new run, which sends everything again"
        )


@dataclass(frozen=True, slots=True)
class _Open:
    """A run that is not at its end, locked, and what is left of it."""

    record: RunRecord
    target: Target
    plan: ExecutionPlan
    lease: Lease


@contextmanager
def _still_open(
    session: Session, run: str, options: RunOptions, *, from_journal: bool
) -> Iterator[_Open | None]:
    """None where there is nothing to do, which is reported."""
    state = session.store.run_state(run)
    record = state.record
    if not _may_go_on(session, state):
        yield None
        return
    with session.lock(record.plan, record.address, record.id, options.wait_lock) as lease:
        record = session.store.find(record.id)
        target = session.target(record.target, record.path, record.environment)
        refuse_another_address(record, target)
        plan = _plan_to_send(session, record, from_journal=from_journal)
        plan = _raised(plan, options)
        yield _Open(record, target, plan, lease)


def _may_go_on(session: Session, state: RunState) -> bool:
    """Is it left to this process? A run that is paused elsewhere goes on there."""
    record, holder, submission = state.record, state.holder, state.submission
    store, say = session.store, session.reporter.say
    if record.status == "completed":
        say(f"run {record.id} has completed: there is nothing to resume")
        return False
    if record.status == "cancelled":
        hint = "start a new run, or send some of its events again with `backfill retry`"
        raise UsageError(f"run {record.id} was cancelled, which is for good", hint=hint)
    left = f"it is left to the workers ({submission.due})" if submission and state.parked else None
    if holder and record.wanted == "pause":
        store.withdraw_pause(record.id)
        say(f"run {record.id} goes on: {left or f'{holder} drives it'}")
        return False
    if left and submission and not submission.late:
        hint = f"`backfill status {record.id} --watch` follows it, `backfill cancel` ends it"
        raise LockHeld(f"run {record.id} goes on by itself: {left}", hint=hint)
    return True


def _plan_to_send(session: Session, record: RunRecord, *, from_journal: bool) -> ExecutionPlan:
    """The plan that the run goes on with.

    Where the files are as they were, it is the one in the journal: planning gives the same again.
    Raises `StalePlan` where what was sent is no longer what the plan begins with.
    """
    store = session.store
    kept = store.plan_of(record)
    if from_journal or record.parent or unchanged(kept.inputs):
        return kept
    hint = (
        "restore it, or send what the run was started with: "
        f"`backfill resume {record.id} --from-journal`"
    )
    if not Path(record.path).exists():
        raise StalePlan(f"the plan of run {record.id}, {record.path}, is gone", hint=hint)
    built = build(
        session,
        record.path,
        dict(record.variables),
        environment=record.environment,
        selectors=kept.partial.selectors if kept.partial else None,
    ).execution_plan
    journal = store.reading(record)
    built, sent = _with_rounds(built, kept, journal), journal.next_position()
    if difference := first_difference(kept, built, sent):
        raise StalePlan(
            f"{record.path} no longer begins with what run {record.id} has sent: {difference}",
            hint=hint,
        )
    if built.digest != kept.digest:
        session.reporter.note(
            f"the plan has changed after what was sent: {built.events - sent:,} events are left to "
            f"send now, {kept.events - sent:,} were before"
        )
    return built


def _with_rounds(built: ExecutionPlan, kept: ExecutionPlan, journal: JournalReads) -> ExecutionPlan:
    """The plan as its files have it now, with the events of the rounds that were begun: those were
    resolved when they were, and are not what the files give today."""
    known = {
        stage.number: stage.items
        for stage in kept.stages
        if stage.deferred and journal.rounds(stage.number)
    }
    stages = tuple(
        replace(stage, items=known[stage.number])
        if stage.deferred and stage.number in known
        else stage
        for stage in built.stages
    )
    return replace(built, stages=stages)


def _raised(plan: ExecutionPlan, options: RunOptions) -> ExecutionPlan:
    """The plan with more rounds and time for its drains."""
    given: dict[str, Any] = {
        name: value
        for name, value in (("max_rounds", options.max_rounds), ("max_time", options.max_time))
        if value is not None
    }
    if not given:
        return plan
    if not any(stage.until for stage in plan.stages):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        hint = "they are for operations that are sent in rounds `until` a goal is met"
        raise UsageError(f"{named}: this run has no drain", hint=hint)
    stages = tuple(
        replace(stage, until=stage.until and replace(stage.until, **given)) for stage in plan.stages
    )
    return replace(plan, stages=stages)


@contextmanager
def _failed_events(
    session: Session,
    run: str,
    options: RunOptions,
    outcomes: Collection[Outcome],
    items: Sequence[str],
) -> Iterator[tuple[Prepared, RunRecord, Lease]]:
    """A run of the events that are to be retried, whose lock is held."""
    from ulid import ULID

    from runner.planning.parts import subset

    record = session.store.find(run)
    plan = session.store.plan_of(record)
    target = session.target(record.target, record.path, record.environment)
    refuse_another_address(record, target)
    run_id = str(ULID())
    with session.lock(record.plan, record.address, run_id, options.wait_lock) as lease:
        found = session.store.retriable(record, outcomes, items)
        if not found:
            raise _nothing_to_retry(record)
        prepared = Prepared(
            run_id,
            subset(plan, found, session.store.unproved(record)),
            target,
            record.target,
            dict(record.variables),
            record.environment,
            parent=record.id,
            origins=dict(enumerate(found.values())),
        )
        yield (
            prepared,
            record,
            lease,
        )


def _follows(record: RunRecord) -> bool:
    """A run that was sent and not followed, and is resumed all the same, is followed now."""
    return record.follow or record.status in ("sent", "failed")


def _nothing_to_retry(record: RunRecord) -> PreflightRefused:
    message = f"nothing of run {record.id} is there to retry"
    if record.status == "sent":
        hint = f"`backfill resume {record.id}` follows its jobs: then it is known what failed"
    elif record.status == "incomplete":
        hint = f"`backfill resume {record.id}` sends what was not sent"
    else:
        hint = f"`backfill status {record.id}` shows what came of it, and which runs retry it"
    return PreflightRefused(message, hint=hint)
