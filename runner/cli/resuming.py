"""What carries a run on in this process: `resume` and `apply --resume` share it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

import click

from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.store import Store
from runner.cli.approval import check_keys, confirm, refuse_another_address
from runner.cli.carry_out import carry_out
from runner.cli.common import (
    build,
    open_databases,
    open_store,
    take_lock,
)
from runner.cli.handing import hand_over, refuse_unheard
from runner.cli.inputs import unchanged
from runner.cli.resolve import restored
from runner.cli.sending import Sending
from runner.cli.summary_file import summary_writer
from runner.cli.wiring import Settings
from runner.errors import LockHeld, StalePlan, UsageError
from runner.execution.ports import Journal, Resolver
from runner.execution.recover import Decision
from runner.execution.seeds import make_seed
from runner.model import Database, ExecutionPlan, RunRecord
from runner.planning.difference import first_difference


@dataclass(frozen=True, slots=True)
class Resume:
    """What was asked for: see `backfill resume --help`."""

    run: str
    state: str | None
    sending: Sending
    form: str = "text"
    yes: bool = False
    from_journal: bool = False
    past_failures: bool = False
    unanswered: Decision = None


def resume(asked: Resume) -> int:
    """Carry the run on in this process; the exit status."""
    store = open_store(asked.state)
    still_open = _still_open(asked, store)
    if still_open is None:
        return 0
    record, lease, target, plan = still_open
    follow = check_keys(plan, target, follow=record.follow)
    confirm(plan, target, yes=asked.yes)

    def reopen() -> Journal:
        journal = store.reopen(record, lease, plan)
        if target.kind == "embedded":
            random = SystemRandom()
            journal.requeue(lambda: make_seed(time.time(), random))
        return journal

    settings = Settings(
        follow,
        asked.sending.grace,
        asked.sending.limits,
        past_failures=asked.past_failures,
        pause_file=asked.sending.pause_file,
        summary=summary_writer(asked.sending.summary_file, lambda: store, plan),
        decision=asked.unanswered,
        database=open_databases(record.path),
        resolver=resolver_of(store, record, plan, open_databases(record.path)),
    )
    return carry_out(plan, target, reopen, settings, form=asked.form)


def resubmit(asked: Resume) -> str | None:
    """Hand the run over to the workers; its id, None where there is nothing to hand over."""
    store = open_store(asked.state)
    still_open = _still_open(asked, store)
    if still_open is None:
        return None
    record, lease, target, plan = still_open
    refuse_unheard(target)
    check_keys(plan, target, follow=record.follow)
    confirm(plan, target, yes=asked.yes)
    journal = store.reopen(record, lease, plan)
    # Asked for anew, it is another event, and what is still open has its time from now on.
    options: dict[str, Any] = {"asked_at": time.time(), "unanswered": asked.unanswered}
    if asked.past_failures or plan.max_failures:  # what has failed before does not count
        failed = len(journal.failures())
        ended = journal.next_position() - len(journal.unsettled())
        options |= {"failed": failed, "ended": ended, "past_failures": asked.past_failures}
    hand_over(store, lease, target, record.id, plan.name, asked.sending.limits, **options)
    return record.id


def _still_open(
    asked: Resume, store: Store
) -> tuple[RunRecord, Lease, Target, ExecutionPlan] | None:
    """The run, locked, and what is left of it; None where there is nothing to do, which is said."""
    state = store.run_state(asked.run)
    record, holder, submission = state.record, state.holder, state.submission
    if record.status == "completed":
        click.echo(f"run {record.id} has completed: there is nothing to resume", err=True)
        return None
    if record.status == "cancelled":
        hint = "start a new run, or send some of its events again with `backfill retry`"
        raise UsageError(f"run {record.id} was cancelled, which is for good", hint=hint)
    left = f"it is left to the workers ({submission.due})" if submission and state.parked else None
    if holder and record.wanted == "pause":
        if left:  # the next portion says what it waits for; until then nothing holds it back
            store.go_on(record.id)
        else:
            store.order(record.id, wanted=None)
        click.echo(f"run {record.id} goes on: {left or f'{holder} carries it out'}", err=True)
        return None
    if left and submission and not submission.late:
        hint = f"`backfill status {record.id} --watch` follows it, `backfill cancel` ends it"
        raise LockHeld(f"run {record.id} goes on by itself: {left}", hint=hint)
    lease = take_lock(store, record.plan, record.address, record.id, asked.sending.wait_lock)
    record = store.find(record.id)
    target = resolve(record.target, os.environ)
    refuse_another_address(record, target)
    plan = _plan_to_send(store, record, from_journal=asked.from_journal)
    return record, lease, target, plan


def resolver_of(
    store: Store, record: RunRecord, plan: ExecutionPlan, database: Database
) -> Resolver | None:
    """What is left to find out is found out by the plan's files, which must be as they were."""
    if not plan.deferred:
        return None
    if not unchanged(plan.inputs):
        hint = "restore it, or start a new run; `serve` looks in the folders that it is given"
        message = f"{plan.path} is not as it was, and stages of run {record.id} are resolved by it"
        raise StalePlan(message, hint=hint)
    from runner.spec.load import load_plan

    loaded = load_plan(plan.path, overrides=dict(record.variables))
    return restored(store.reading(record), loaded, database)


def _plan_to_send(store: Store, record: RunRecord, *, from_journal: bool) -> ExecutionPlan:
    """The plan that the run goes on with.

    Where the files are as they were, it is the one in the journal: planning gives the same again.
    Raises `StalePlan` where what was sent is no longer what the plan begins with.
    """
    kept = store.plan_of(record)
    if from_journal or record.parent or unchanged(kept.inputs):
        return kept
    hint = (
        "restore it, or send what the run was started with: "
        f"`backfill resume {record.id} --from-journal`"
    )
    if not Path(record.path).exists():
        raise StalePlan(f"the plan of run {record.id}, {record.path}, is gone", hint=hint)
    built = build(record.path, dict(record.variables)).execution_plan
    sent = store.reading(record).next_position()
    if difference := first_difference(kept, built, sent):
        raise StalePlan(
            f"{record.path} no longer begins with what run {record.id} has sent: {difference}",
            hint=hint,
        )
    if built.digest != kept.digest:
        click.echo(
            f"note: the plan has changed after what was sent: {built.events - sent:,} events are "
            f"left to send now, {kept.events - sent:,} were before",
            err=True,
        )
    return built
