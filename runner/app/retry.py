"""Send failed events of a run again, as a run of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from runner.app.preflight import as_begun, tell_of_functions
from runner.app.prepare import Prepared, record_run
from runner.app.queries import how_to_go_on, how_to_make_good
from runner.app.resume import drive_more
from runner.app.session import Session
from runner.errors import PreflightRefused
from runner.execution.context import OF_A_RESUME, OF_A_START, RunOptions, refuse_options
from runner.model import RETRIED, ExecutionPlan, Outcome, RunRecord, Summary, frozen
from runner.spec.given import refuse_outcomes, refuse_unlisted

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease

_SHOWN = 3  # items of a hint


@frozen
class FailedEvents:
    """The events of a run with these outcomes, of items like these patterns (default: all)."""

    run: str
    outcomes: Collection[Outcome] = RETRIED
    items: Sequence[str] = ()


def retry(session: Session, failed: FailedEvents, options: RunOptions) -> Summary:
    """Send these events again, as a run of their own that is linked to theirs."""
    with _prepared(session, failed, options) as (prepared, record, lease):
        session.reporter.planned(prepared.shown, prepared.target.name)
        plan = prepared.plan
        tell_of_functions(session, plan, prepared.target)
        return drive_more(
            session,
            record,
            plan,
            prepared.target,
            replace(options, follow=record.follow),
            lambda options: record_run(session, prepared, options, lease),
            asks=bool(plan.checks or plan.coverage),
        )


def plan_retry(session: Session, failed: FailedEvents, options: RunOptions) -> Prepared:
    """Return what `retry` would send; send nothing."""
    with _prepared(session, failed, options) as (prepared, _, _):
        return prepared


@contextmanager
def _prepared(
    session: Session, failed: FailedEvents, options: RunOptions
) -> Iterator[tuple[Prepared, RunRecord, Lease]]:
    """Lock and prepare a run of the events to retry."""
    from ulid import ULID

    refuse_outcomes(failed.outcomes)
    refuse_unlisted("items", failed.items)
    refuse_options(options, "a retry", (*OF_A_RESUME, *OF_A_START))

    from runner.execution.check import begun_with
    from runner.planning.parts import items_sent, subset

    record = session.existing.find(failed.run)
    plan, target = as_begun(session, record)
    run_id = str(ULID())
    with session.lock(record.plan, record.address, run_id, options.wait_lock) as lease:
        found = session.store.retriable(record, failed.outcomes, failed.items)
        if not found:
            if failed.items:
                _refuse_patterns(session, record, plan, failed)
            raise _nothing_to_retry(session, record)
        unproved = session.store.unproved(record)
        part = subset(plan, found, unproved)
        first = session.store.reading(_first_of(session, record))
        whole = [one for one in part.checks if not items_sent(one, part.stages)]
        remaining = [one for one in part.checks if one.name in unproved]
        prepared = Prepared(
            run_id,
            part,
            target,
            record.target,
            dict(record.variables),
            record.environment,
            parent=record.id,
            origins=dict(enumerate(found.values())),
            known=begun_with([*whole, *remaining], first),
        )
        yield prepared, record, lease


def _first_of(session: Session, record: RunRecord) -> RunRecord:
    while record.parent:
        record = session.store.find(record.parent)
    return record


def _refuse_patterns(
    session: Session, record: RunRecord, plan: ExecutionPlan, failed: FailedEvents
) -> None:
    """Raise `PreflightRefused` if there are items to retry, but none that the patterns match."""
    others = session.store.retriable(record, failed.outcomes, ())
    if not others:
        return
    names = (item for stage in plan.stages for item, _ in stage.items.raw())
    some = islice((name for position, name in enumerate(names) if position in others), _SHOWN)
    hint = f"its items are named like {', '.join(some)}"
    if any(stage.grouped for stage in plan.stages):
        hint += (
            "; an event for several items is named after the first: select `a +2` with "
            "`--item 'a +*'`"
        )
    given = " ".join(f"--item {pattern}" for pattern in failed.items)
    message = f"run {record.id} has nothing to retry that matches {given}"
    raise PreflightRefused(message, hint=hint)


def _nothing_to_retry(session: Session, record: RunRecord) -> PreflightRefused:
    message = f"run {record.id} has nothing to retry"
    if record.status == "sent":
        hint = f"`backfill resume {record.id}` follows its jobs, to find out what failed"
    elif record.status in ("incomplete", "running"):  # no process drives it: we hold the lock
        hint = how_to_go_on(session.store, record, "sends what was not sent")
    elif ways := how_to_make_good(session.store, record):
        hint = "; ".join(ways)
    else:
        hint = f"`backfill status {record.id}` shows how it ended, and which runs retry it"
    return PreflightRefused(message, hint=hint)
