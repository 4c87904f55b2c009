"""What begins a new run, whoever carries it out: `run`, `apply` and `submit` share it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.adapters.inngest.target import Target, resolve
from runner.cli.approval import check_keys, confirm, refuse_unapproved
from runner.cli.common import build, open_databases, open_store, past, source_of, take_lock
from runner.cli.examine import examine_plan, examine_server, refuse
from runner.cli.plan import DEFAULT_EVENTS, say_estimate, show
from runner.cli.resolve import PlanResolver, remember
from runner.cli.saved import Reviewed, load_saved, reviewed
from runner.cli.sending import Sending
from runner.cli.streams import outcome_decides
from runner.cli.summary_file import summary_writer
from runner.errors import UsageError
from runner.execution.means import preflight
from runner.model import BackfillPlan, ExecutionPlan, Json

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.adapters.journal.store import Store
    from runner.execution.ports import Journal

DEFAULT_TARGET = "embedded"


@dataclass(frozen=True)
class Start:
    """What was asked for; a `target` of None was not said. `events`: how many to show a stage."""

    plan: str
    overrides: dict[str, Json]
    target: str | None
    state: str | None
    sending: Sending
    form: str = "text"
    events: int | None = DEFAULT_EVENTS
    strict: bool = False
    yes: bool = False
    follow: bool = True
    skip_preflight: bool = False
    run_id: str | None = None  # what asked for it may know it already
    once_locked: Callable[[Store], None] = lambda _: None

    @cached_property
    def store(self) -> Store:
        """Opened when it is first asked for: a run that is refused leaves no state behind."""
        return open_store(self.state)


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that may begin: `named` is its target as it was named.

    `files`: the plan as its files have it, by which deferred stages are resolved; those of a saved
    plan without such stages are not read again, however many rows they have.
    """

    run_id: str
    plan: ExecutionPlan
    files: BackfillPlan | None
    target: Target
    named: str
    variables: dict[str, Json]
    follow: bool
    review: Reviewed | None = None


def start(asked: Start, *, dry_run: bool = False) -> int:
    """Send the plan's events from this process; the exit status."""
    if not dry_run:
        outcome_decides()
    ready = plan_and_show(asked, dry_run=dry_run)
    if dry_run:
        return 0
    from runner.cli.carry_out import carry_out
    from runner.cli.wiring import Settings

    ready = look_first(asked, ready)
    settings = Settings(
        ready.follow,
        asked.sending.grace,
        asked.sending.limits,
        pause_file=asked.sending.pause_file,
        summary=summary_writer(asked.sending.summary_file, lambda: asked.store, ready.plan),
        notes=preflight_notes(asked),
        database=open_databases(ready.plan.path),
        resolver=_resolver(ready),
    )
    lease = locked(asked, ready)
    return carry_out(
        ready.plan, ready.target, lambda: write_down(asked, ready, lease), settings, form=asked.form
    )


def submit(asked: Start) -> tuple[str, str]:
    """Hand the run over to the workers; its id, and that of the event that asks for it."""
    from runner.cli.handing import hand_over, refuse_unheard

    ready = plan_and_show(asked, dry_run=False)
    refuse_unheard(ready.target)
    ready = look_first(asked, ready)
    lease = locked(asked, ready)
    journal = write_down(asked, ready, lease)
    for note in preflight_notes(asked):
        journal.note(note)
    limits = asked.sending.limits
    event = hand_over(asked.store, lease, ready.target, ready.run_id, ready.plan.name, limits)
    return ready.run_id, event


def plan_and_show(asked: Start, *, dry_run: bool) -> Ready:
    """The plan of now, or the one that was saved; shown as `backfill plan` does."""
    review = _reviewed(asked)
    ready = _as_reviewed(asked, review) if review else _as_of_now(asked)
    if dry_run or asked.form == "text":
        show(ready.plan, ready.target, form=asked.form, events=asked.events)
    return ready


def _as_of_now(asked: Start) -> Ready:
    from ulid import ULID

    built = build(asked.plan, asked.overrides, strict=asked.strict)
    named = asked.target or DEFAULT_TARGET
    return Ready(
        asked.run_id or str(ULID()),
        built.execution_plan,
        built.plan,
        resolve(named, os.environ),
        named,
        asked.overrides,
        asked.follow,
    )


def _as_reviewed(asked: Start, review: Reviewed) -> Ready:
    saved = review.saved
    return Ready(
        saved.run_id,
        review.plan,
        review.files,
        review.target,
        saved.target,
        dict(saved.variables),
        asked.follow,
        review,
    )


def look_first(asked: Start, ready: Ready) -> Ready:
    """Everything that may refuse a run, and the question whether to send."""
    preflight(ready.plan)
    refuse_unapproved(ready.plan)
    follow = check_keys(ready.plan, ready.target, follow=ready.follow)
    if not asked.skip_preflight:
        findings = examine_server(ready.plan, ready.target, lambda _: None, thorough=False)
        refuse(findings + examine_plan(ready.plan.path, ready.plan, thorough=False))
    confirm(
        ready.plan,
        ready.target,
        yes=asked.yes,
        warn=lambda: _warn(asked.store, ready.plan, ready.target),
    )
    return replace(ready, follow=follow)


def locked(asked: Start, ready: Ready) -> Lease:
    """The right to begin the run, once nobody else is at it."""
    lease = take_lock(
        asked.store, ready.plan.name, ready.target.address, ready.run_id, asked.sending.wait_lock
    )
    if ready.review:
        ready.review.refuse_used(asked.store)
    asked.once_locked(asked.store)
    return lease


def write_down(asked: Start, ready: Ready, lease: Lease) -> Journal:
    record = replace(ready.plan, path=str(Path(ready.plan.path).resolve()))
    journal = asked.store.start(
        ready.run_id,
        record,
        lease,
        target=ready.named,
        address=ready.target.address,
        variables=ready.variables,
        follow=ready.follow,
        source=source_of(record),
    )
    if record.deferred and ready.files:
        remember(journal, ready.files)
    return journal


def _resolver(ready: Ready) -> PlanResolver | None:
    return PlanResolver(ready.files, open_databases(ready.plan.path)) if ready.files else None


def preflight_notes(asked: Start) -> tuple[str, ...]:
    """What the journal should know of how the run was asked for."""
    return ("the preflight was skipped (--skip-preflight)",) if asked.skip_preflight else ()


def _reviewed(asked: Start) -> Reviewed | None:
    """What PLAN holds, where it is a saved plan that may still be run; None where it is not one."""
    saved = load_saved(asked.plan)
    if saved is None:
        return None
    if asked.overrides and asked.overrides != saved.variables:
        raise UsageError("--var does nothing for a saved plan", hint="it has its variables with it")
    return reviewed(saved, asked.plan, asked.target)


def _warn(store: Store, plan: ExecutionPlan, target: Target) -> None:
    """How long it will take; and that a new run has new event ids: what an unfinished one has sent
    would be sent once more."""
    say_estimate(plan, past(plan, store))
    before = store.unfinished(plan.name, target.address)
    if before and not before.holder:
        click.echo(
            f"note: run {before.record.id} of this plan has not come to its end: `backfill resume "
            f"{before.record.id}` carries it on; this is a new run, which sends everything again",
            err=True,
        )
