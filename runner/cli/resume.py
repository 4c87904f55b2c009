"""`backfill resume`."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

import click

from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import Store
from runner.cli.carry_out import carry_out, sending_options
from runner.cli.common import (
    build,
    format_option,
    open_databases,
    open_store,
    state_option,
    take_lock,
    timings_option,
)
from runner.cli.completion import complete_run
from runner.cli.resolve import restored
from runner.cli.summary_file import summary_writer
from runner.cli.wiring import Settings, check_keys, confirm
from runner.errors import StalePlan, UsageError
from runner.execution.chunks import RequestLimits
from runner.execution.ports import Journal, Resolver
from runner.execution.recover import Decision
from runner.execution.seeds import make_seed
from runner.model import ExecutionPlan, Input, RunRecord
from runner.planning.difference import first_difference


@click.command(
    "resume",
    short_help="Carry on a run that was stopped or paused.",
    epilog="\b\nExamples:\n  backfill resume latest\n  backfill resume 01KB3Q"
    "\n  backfill resume latest --from-journal    (whatever the plan file says by now)",
)
@click.argument("run", shell_complete=complete_run)
@state_option
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--from-journal",
    is_flag=True,
    help="Send what the run was started with, whatever its plan file says by now.",
)
@click.option(
    "--past-failures",
    is_flag=True,
    help="Go on although the plan stops on a failure and there were some.",
)
@click.option(
    "--unanswered",
    type=click.Choice(["send", "taken"]),
    help="What to do with requests whose answer was lost more than a day ago.",
)
@sending_options
@timings_option
@format_option("text", "json")
def resume_command(
    run: str,
    state: str | None,
    grace: float | None,
    wait_lock: float,
    pause_file: str | None,
    summary_file: str | None,
    request_events: int,
    request_bytes: int,
    unanswered: Decision,
    form: str,
    *,
    yes: bool,
    from_journal: bool,
    past_failures: bool,
) -> int:
    """Carry on RUN (its id, the beginning of it, or `latest`) where it ended.

    What was sent is not sent again; a request whose answer was lost is made again with the same
    ids, which the server takes once. What was sent must still be what the plan begins with. A run
    that is paused, in whatever terminal, goes on there.
    """
    store = open_store(state)
    record = store.find(run)
    if record.status == "completed":
        click.echo(f"run {record.id} has completed: there is nothing to resume", err=True)
        return 0
    if record.status == "cancelled":
        hint = "start a new run, or send some of its events again with `backfill retry`"
        raise UsageError(f"run {record.id} was cancelled, which is for good", hint=hint)
    holder = store.holder_of(record.id)
    if holder and record.wanted == "pause":
        store.order(record.id, wanted=None)
        click.echo(f"run {record.id} goes on: {holder} carries it out", err=True)
        return 0
    lease = take_lock(store, record.plan, record.address, record.id, wait_lock)
    record = store.find(record.id)
    target = resolve(record.target, os.environ)
    refuse_another_address(record, target)
    plan = _plan_to_send(store, record, from_journal=from_journal)
    follow = check_keys(plan, target, follow=record.follow)
    confirm(plan, target, yes=yes)

    def reopen() -> Journal:
        journal = store.reopen(record, lease, plan)
        if target.kind == "embedded":
            random = SystemRandom()
            journal.requeue(lambda: make_seed(time.time(), random))
        return journal

    settings = Settings(
        follow,
        grace,
        RequestLimits(request_events, request_bytes),
        past_failures=past_failures,
        pause_file=pause_file,
        summary=summary_writer(summary_file, lambda: store),
        decision=unanswered,
        database=open_databases(record.path),
        resolver=_resolver(store, record, plan),
    )
    return carry_out(plan, target, reopen, settings, form=form)


def _resolver(store: Store, record: RunRecord, plan: ExecutionPlan) -> Resolver | None:
    """What is left to find out is found out by the plan's files, which must be as they were."""
    if not plan.deferred:
        return None
    if not unchanged(plan.inputs):
        message = f"{record.path} has changed, and stages of run {record.id} are resolved by it"
        raise StalePlan(message, hint="restore it, or start a new run")
    from runner.spec.load import load_plan

    loaded = load_plan(record.path, overrides=dict(record.variables))
    return restored(store.reading(record), loaded, open_databases(record.path))


def _plan_to_send(store: Store, record: RunRecord, *, from_journal: bool) -> ExecutionPlan:
    """The plan that the run goes on with.

    Where the files are as they were, it is the one in the journal: planning gives the same again.
    Raises `StalePlan` where what was sent is no longer what the plan begins with.
    """
    kept = store.plan_of(record)
    if kept and (from_journal or record.parent or unchanged(kept.inputs)):
        return kept
    hint = "restore the plan, its catalog and its data files, or start a new run"
    if kept is None:  # a run of an older backfill, which kept only the digest
        built = build(record.path, dict(record.variables)).execution_plan
        if built.digest != record.digest:
            message = f"{record.path} no longer gives the plan that run {record.id} started with"
            raise StalePlan(message, hint=hint)
        return built
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


def unchanged(inputs: Sequence[Input]) -> bool:
    return not changed_inputs(inputs)


def changed_inputs(inputs: Sequence[Input]) -> list[str]:
    """The files that are not as they were read, or are gone."""
    return [path for path, sha256 in inputs if _digest(path) != sha256]


def _digest(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def refuse_another_address(record: RunRecord, target: Target) -> None:
    """`dev` and `cloud` mean what the environment says: the rest must not go elsewhere."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {record.address}, and `{record.target}` is now "
            f"{target.address}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )
