"""Go on with a run that is not at its end, in this process or by the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from runner.adapters.inngest.target import Target
from runner.app.inputs import unchanged
from runner.app.notify import empty
from runner.app.preflight import confirm, followed, refuse_another_address, refuse_own_files
from runner.app.prepare import build, restored
from runner.app.run import Submitted
from runner.app.session import Session
from runner.errors import LockHeld, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.seeds import make_seed
from runner.model import Database, ExecutionPlan, LiveDatabase, RunRecord, RunState, Summary, frozen
from runner.planning.compare import first_difference

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.execution.ports import Journal, JournalReads, Resolver


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
        return drive_more(session, record, plan, target, options, reopen, database, begun=True)


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


def drive_more(
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


@frozen
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


def _follows(record: RunRecord) -> bool:
    """A run that was sent and not followed, and is resumed all the same, is followed now."""
    return record.follow or record.status in ("sent", "failed")
