"""Start a run: prepare, refuse, confirm, lock, record, send.

`run` drives it in this process; `submit` leaves it to the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from runner.app.preflight import confirm, preflight
from runner.app.prepare import Prepared, record_run
from runner.app.reviewed import refuse_used
from runner.app.session import Session
from runner.execution.context import OF_A_DRIVER, OF_A_RESUME, RunOptions, refuse_options
from runner.model import Function, Summary

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.app.resolve import PlanResolver
    from runner.app.submit import Submitted


def run(
    session: Session,
    prepared: Prepared,
    options: RunOptions,
    *,
    once_locked: Callable[[], None] = lambda: None,
) -> Summary:
    """Send the plan's events from this process, and follow their jobs to the end.

    `once_locked` may still refuse, after nobody else can start a run of the plan. Raises the error
    that ended the run early, after the session's reporter got the summary.
    """
    from runner.app.drive import Drive, drive_here

    plan, target = prepared.plan, prepared.target
    refuse_options(options, "a run that begins", OF_A_RESUME)
    session.reporter.planned(prepared.shown, target.name)
    options = _cleared(session, prepared, options)
    with _locked(session, prepared, options, once_locked) as lease:
        what = Drive(
            plan,
            target,
            lambda: record_run(session, prepared, options, lease),
            options,
            database=session.databases(plan.path, prepared.environment).for_a_run(),
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
    """Leave the run to the workers: those of the state, or those of one `app`; see `run`."""
    from runner.app.submit import Submitted, enqueue, refuse_unheard

    plan, target = prepared.plan, prepared.target
    refuse_options(options, "a run that is left to the workers", (*OF_A_RESUME, *OF_A_DRIVER))
    session.reporter.planned(prepared.shown, target.name)
    unheard = partial(refuse_unheard, session, target, app)
    options = _cleared(session, prepared, options, before_asking=unheard)
    with _locked(session, prepared, options, once_locked) as lease:
        journal = record_run(session, prepared, options, lease)
        for note in _notes(options):
            journal.note(note)
        event = enqueue(session, lease, target, prepared.run_id, plan.name, options, app)
    return Submitted(prepared.run_id, event)


def _cleared(
    session: Session,
    prepared: Prepared,
    options: RunOptions,
    *,
    before_asking: Callable[[], None] = lambda: None,
) -> RunOptions:
    """Run the preflight and ask for confirmation; return the options that the run can have."""
    plan, target = prepared.plan, prepared.target
    options, functions = preflight(session, plan, target, options, before_asking=before_asking)
    confirm(session, plan, target, options, lambda: _before_answer(session, prepared, functions))
    return options


@contextmanager
def _locked(
    session: Session, prepared: Prepared, options: RunOptions, once_locked: Callable[[], None]
) -> Iterator[Lease]:
    """Take the plan's lock, and refuse a run that was sent already."""
    plan, address = prepared.plan.name, prepared.target.address
    with session.lock(plan, address, prepared.run_id, options.wait_lock) as lease:
        refuse_used(session, prepared.run_id)
        once_locked()
        yield lease


def _resolver(session: Session, prepared: Prepared) -> PlanResolver | None:
    if prepared.files is None:
        return None
    from runner.app.resolve import PlanResolver

    database = session.databases(prepared.plan.path, prepared.environment)
    return PlanResolver(prepared.files, database.for_a_run(), prepared.plan.partial)


def _notes(options: RunOptions) -> tuple[str, ...]:
    """Return what the journal should record of the request."""
    return ("the preflight was skipped (--skip-preflight)",) if options.skip_preflight else ()


def _before_answer(
    session: Session, prepared: Prepared, functions: Sequence[Function] | None
) -> None:
    """Report how long the run will take, and warn of an unfinished one: a new run has new event
    ids, so everything is sent again."""
    from runner.app.estimates import expected, tell
    from runner.app.queries import how_to_go_on

    tell(session, expected(session, prepared.plan, functions))
    unfinished = session.store.unfinished(
        prepared.plan.name, prepared.target.address, prepared.environment
    )
    if unfinished and not unfinished.holder:
        record = unfinished.record
        session.reporter.note(
            f"run {record.id} of this plan has not ended: "
            f"{how_to_go_on(session.store, record, 'continues it')}; this is a new run, "
            "which sends everything again"
        )
