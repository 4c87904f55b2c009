"""An unfinished run: whether it may continue, and with which plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.adapters.inngest.target import Target
from runner.app.build import build
from runner.app.plan_files import unchanged
from runner.app.preflight import as_begun, refuse_forbidden
from runner.app.session import Session
from runner.errors import LockHeld, PreflightRefused, StalePlan, UsageError
from runner.execution.context import CANCELLED, RunOptions
from runner.model import ExecutionPlan, RunRecord, RunState, frozen
from runner.planning.compare import first_difference
from runner.spec.units import counted

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease


@frozen
class Begun:
    """An unfinished run, locked, and the plan it continues with."""

    record: RunRecord
    target: Target
    plan: ExecutionPlan
    lease: Lease


@contextmanager
def still_open(
    session: Session, run: str, options: RunOptions, *, from_journal: bool, path: str | None = None
) -> Iterator[Begun | None]:
    """Lock an unfinished run; yield None if there is nothing to do, which is reported.

    `path`: see `as_begun`."""
    state = session.existing.run_state(run)
    record = state.record
    if not _may_go_on(session, state):
        yield None
        return
    with session.lock(record.plan, record.address, record.id, options.wait_lock) as lease:
        record = session.store.find(record.id)
        if record.wanted != "cancel":
            kept, target = as_begun(session, record, path)
            plan = _plan_to_send(session, record, kept, target, from_journal=from_journal)
            plan = _raised(plan, options)
            yield Begun(record, target, plan, lease)
            return
        # The process that was to end the run died before it did.
        session.store.journal(record, lease).end("cancelled", CANCELLED)
    raise _cancelled(record)


def _may_go_on(session: Session, state: RunState) -> bool:
    """Tell whether this process may continue the run: one paused elsewhere goes on there."""
    record, holder, submission = state.record, state.holder, state.submission
    store, say = session.store, session.reporter.say
    if record.status == "completed":
        say(f"run {record.id} has completed: there is nothing to resume")
        return False
    if record.status == "cancelled":
        raise _cancelled(record)
    left = f"it is left to the workers ({submission.due})" if submission and state.parked else None
    if holder and record.wanted == "pause":
        store.withdraw_pause(record.id)
        say(f"run {record.id} continues: {left or f'{holder} drives it'}")
        return False
    if left and submission and not submission.late:
        follow = f"`backfill status {record.id} --watch` follows it"
        hint = f"{follow}, `backfill cancel {record.id}` ends it"
        raise LockHeld(f"run {record.id} is under way: {left}", hint=hint)
    return True


def _cancelled(record: RunRecord) -> UsageError:
    hint = f"start a new run; `backfill status {record.id}` shows what can be retried"
    return UsageError(f"run {record.id} was cancelled and cannot be resumed", hint=hint)


def _plan_to_send(
    session: Session,
    record: RunRecord,
    kept: ExecutionPlan,
    target: Target,
    *,
    from_journal: bool,
) -> ExecutionPlan:
    """Return the plan that the run continues with; `kept`: the journal's.

    If the files are unchanged this is the journal's: planning would give the same. Raises
    `StalePlan` if the plan no longer begins with what was sent, and `PreflightRefused` if a new run
    of it would be refused for the policy or a missing approval.
    """
    from runner.execution.rounds import with_rounds

    store = session.store
    if from_journal or record.parent or unchanged(kept.inputs):
        return kept
    as_started = (
        f"continue with the plan as the run started: `backfill resume {record.id} --from-journal`"
    )
    hint = f"restore the file, or {as_started}"
    if not Path(kept.path).exists():
        raise StalePlan(f"the plan of run {record.id}, {kept.path}, no longer exists", hint=hint)
    built = build(
        session,
        kept.path,
        dict(record.variables),
        target=record.target,
        environment=record.environment,
        selectors=kept.partial.selectors if kept.partial else None,
    ).execution_plan
    as_reviewed, journal = built, store.reading(record)
    built, sent = with_rounds(built, kept, journal), journal.next_position()
    if difference := first_difference(kept, built, sent):
        raise StalePlan(
            f"{kept.path} no longer begins with what run {record.id} has sent: {difference}",
            hint=hint,
        )
    if as_reviewed.digest != kept.digest:
        try:
            refuse_forbidden(as_reviewed, target)
        except PreflightRefused as refused:
            message = f"{kept.path} has changed since run {record.id} began: {refused}"
            raise PreflightRefused(message, hint=f"{refused.hint}; or {as_started}") from None
    if built.digest != kept.digest:
        session.reporter.note(
            f"the plan has changed after what was sent: "
            f"{counted(built.events - sent, 'event', 'are')} left to send now, "
            f"{kept.events - sent:,} before"
        )
    return built


def _raised(plan: ExecutionPlan, options: RunOptions) -> ExecutionPlan:
    """Return the plan with the drain limits (rounds, time) that the options give."""
    given: dict[str, Any] = {
        name: value
        for name, value in (("max_rounds", options.max_rounds), ("max_time", options.max_time))
        if value is not None
    }
    if not given:
        return plan
    if not any(stage.until for stage in plan.stages):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        hint = (
            "leave them out: they are for operations that are sent in rounds `until` a goal is met"
        )
        raise UsageError(f"{named}: this run has no drain", hint=hint)
    stages = tuple(
        replace(stage, until=stage.until and replace(stage.until, **given)) for stage in plan.stages
    )
    return replace(plan, stages=stages)
