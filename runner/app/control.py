"""Control a run from any terminal or machine: pause, tune, cancel."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from runner.app.notify import empty
from runner.app.preflight import refuse_another_address
from runner.app.session import Session, blocking
from runner.errors import Incomplete, PreflightRefused, TargetDown, UsageError
from runner.execution.context import CANCELLED
from runner.model import OVER, RunRecord, RunState, Totals
from runner.planning.serialize import load_head
from runner.spec.given import refuse_count, refuse_seconds

if TYPE_CHECKING:
    from runner.adapters.inngest.target import Target
    from runner.adapters.journal.leases import Lease
    from runner.execution.cancel import Cancelled

_PATIENCE = 60.0  # seconds to wait for the request in flight
_OPEN = ("running", "incomplete")


def pause(session: Session, run: str) -> RunState:
    """Pause a run; return its state and who drives it."""
    state = session.existing.run_state(run)
    record = state.record
    if record.status != "running":
        raise _not_under_way(record)
    if state.holder is None:
        hint = f"`backfill resume {record.id}` continues it"
        raise UsageError(f"run {record.id} is not under way: no process drives it", hint=hint)
    if not session.store.request_pause(record.id):
        raise _to_be_cancelled(record)
    return state


def _to_be_cancelled(record: RunRecord) -> UsageError:
    hint = f"`backfill logs {record.id}` shows who requested it"
    return UsageError(f"run {record.id} is being cancelled, which cannot be undone", hint=hint)


def _not_under_way(record: RunRecord) -> UsageError:
    hint = f"`backfill status {record.id}` shows how it ended, `backfill runs` lists the others"
    if record.status not in OVER:
        hint = f"`backfill resume {record.id}` continues it"
    return UsageError(f"run {record.id} is not under way: it is {record.status}", hint=hint)


def hold(session: Session, target: str, reason: str, seconds: float | None = None) -> str:
    """Hold a target: no run of this state sends to it for `seconds`, or until `let_go`. Return the
    target's name."""
    if not reason.strip():
        raise UsageError(
            "--reason is empty", hint="give a reason: it is shown with every run that waits"
        )
    refuse_seconds("seconds", seconds)
    if seconds == 0:
        raise UsageError("a hold of 0s holds nothing", hint="leave --for out, or write it like 4h")
    found = _target(session, target)
    for known in session.store.holds():
        if known.address == found.address:
            session.reporter.say(f"this replaces the hold by {known.holder}: {known.reason}")
    session.store.hold(found.address, found.name, reason, seconds)
    return found.name


def let_go(session: Session, target: str) -> str:
    """Let runs send to a held target again; return its name. Raises `UsageError` if not held."""
    found = _target(session, target)
    if not session.existing.let_go(found.address):
        raise UsageError(f"{found.name} is not held", hint="--state names another state")
    return found.name


def _target(session: Session, target: str) -> Target:
    """Return the target of that name; none is the default here: it would hold another."""
    if not target:
        raise UsageError("the target is empty", hint="is the variable that it comes from set?")
    return session.target(target)


def tune(
    session: Session,
    run: str,
    *,
    batch_size: int | None = None,
    delay: float | None = None,
    max_in_flight: int | None = None,
) -> RunRecord:
    """Change the pace of a run from its next batch on; `delay` in seconds."""
    if batch_size is None and delay is None and max_in_flight is None:
        hint = "give --batch-size, --delay, --max-in-flight, or several of them"
        raise UsageError("nothing to change", hint=hint)
    refuse_count("batch_size", batch_size)
    refuse_seconds("delay", delay)
    refuse_count("max_in_flight", max_in_flight)
    record = session.existing.find(run)
    if record.status in OVER:
        raise _not_under_way(record)
    if record.wanted == "cancel":
        raise _to_be_cancelled(record)
    if batch_size is not None or delay is not None:
        _refuse_scheduled(record)
    if max_in_flight is not None:
        _refuse_uncounted(record)
    _refuse_sent(session, record)
    session.store.set_pace(
        record.id, batch_size=batch_size, delay=delay, max_in_flight=max_in_flight
    )
    return record


def _refuse_scheduled(record: RunRecord) -> None:
    """Raise `UsageError` if the run has no batches whose pace could change."""
    if all(stage.begins is not None for stage in load_head(record.head).stages):
        hint = "its events carry their own start times: `pacing: scheduled`"
        raise UsageError(f"run {record.id} has no pauses to change", hint=hint)


def _refuse_sent(session: Session, record: RunRecord) -> None:
    """Raise `UsageError` if nothing is left to send."""
    stages = load_head(record.head).stages
    if record.target == "embedded" or any(stage.deferred for stage in stages):
        return  # a resume sends unfinished events again; a drain may have more rounds
    sent = session.store.reading(record).next_position()
    if sent >= sum(stage.total for stage in stages):
        hint = f"`backfill status {record.id}` shows what is still running"
        raise UsageError(f"run {record.id} has sent all of its events", hint=hint)


def _refuse_uncounted(record: RunRecord) -> None:
    """Raise `UsageError` if `max_in_flight` would have no effect."""
    if not record.follow:
        hint = (
            "it limits events whose jobs are running, and only a run that follows its jobs "
            "knows them"
        )
        raise UsageError(f"--max-in-flight: run {record.id} follows no jobs", hint=hint)
    if not any(stage.waits for stage in load_head(record.head).stages):
        hint = "it is for operations that wait for their jobs: `wait: completed`"
        raise UsageError(f"--max-in-flight: run {record.id} waits for no jobs", hint=hint)


def cancel(
    session: Session, run: str, *, jobs: bool = False
) -> tuple[RunRecord, Totals, int, Cancelled | None]:
    """End a run for good, and with `jobs` cancel the jobs it started.

    Return its record, its totals, the number of further events that may have been accepted (their
    answer was lost), and what came of its jobs. The process that drives the run ends it; if there
    is none, this one takes the lock and does. Raises `Incomplete` if the run does not end.
    """
    store = session.existing
    record = store.find(run)
    if record.status not in _OPEN and not jobs:
        raise UsageError(f"run {record.id} has ended: it is {record.status}")
    target = _with_jobs(session, record) if jobs else None
    with ExitStack() as stack:
        lease = _end(session, record, stack) if record.status in _OPEN else None
        cancelled = _cancel_jobs(session, record, target, lease, stack) if target else None
        journal = store.reading(record)
        totals = journal.totals()
        unanswered = sum(len(chunk.positions) for chunk in journal.unanswered())
    empty(session, record.id)
    return store.find(record.id), totals, unanswered, cancelled


def _end(session: Session, record: RunRecord, stack: ExitStack) -> Lease | None:
    """End the run and return its lock; None if its driver has ended it. Raises `LockHeld` if
    another run of its plan is under way; then nothing is requested."""
    store = session.store
    state = store.run_state(record.id)

    def locked(seconds: float) -> Lease:
        return stack.enter_context(session.lock(record.plan, record.address, record.id, seconds))

    lease = None if state.holder else locked(0.0)
    store.request_cancel(record.id)
    if lease is None:
        if not state.parked:
            session.reporter.say(f"waiting for the request in flight ({state.holder})")
        until = time.monotonic() + _PATIENCE
        # A worker may leave the run to its next step before it sees the request, or may die.
        while state.holder and not state.parked:
            if time.monotonic() > until:
                message = (
                    f"run {record.id} is requested to end, but its process has not done so yet"
                )
                raise Incomplete(message, hint=f"look at that process: {state.holder}")
            time.sleep(0.2)
            state = store.run_state(record.id)
        if state.record.status not in _OPEN:
            return None
        lease = locked(_PATIENCE)  # a worker may come first, and ends it
    if store.find(record.id).status in _OPEN:
        store.journal(record, lease).end("cancelled", CANCELLED)
    return lease


def _with_jobs(session: Session, record: RunRecord) -> Target:
    """Return the target whose jobs to cancel; raise `PreflightRefused` before anything is done."""
    target = session.target(record.target, record.path, record.environment)
    refuse_another_address(record, target)
    if target.kind == "embedded":
        hint = f"`backfill cancel {record.id}` ends the run" if record.status in _OPEN else None
        message = "the jobs of the embedded target end with its process"
        raise PreflightRefused(message, hint=hint)
    return target


def _cancel_jobs(
    session: Session, record: RunRecord, target: Target, lease: Lease | None, stack: ExitStack
) -> Cancelled:
    from runner.execution.cancel import cancel_jobs

    store = session.store
    plan = store.plan_of(record)
    if lease is None:
        lease = stack.enter_context(session.lock(record.plan, record.address, record.id))
    journal = store.journal(record, lease)

    async def ask() -> Cancelled:
        async with session.connect(target, note=session.reporter.say) as server:
            return await cancel_jobs(plan, journal, server.jobs, server.cancel, time.time())

    try:
        return blocking(ask())
    except TargetDown as error:
        hint = f"once it answers again, run `backfill cancel {record.id} --jobs` again"
        raise TargetDown(str(error), hint=hint) from None
