"""Resume an unfinished run, in this process or on the workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from runner.adapters.inngest.target import Target
from runner.app.begun import still_open
from runner.app.notify import empty
from runner.app.preflight import confirm, followed, refuse_own_files
from runner.app.session import Session
from runner.execution.context import RunOptions
from runner.execution.seeds import make_seed
from runner.model import ExecutionPlan, RunRecord, Summary

if TYPE_CHECKING:
    from runner.app.submit import Submitted
    from runner.execution.ports import Journal


def resume(
    session: Session,
    run: str,
    options: RunOptions,
    *,
    from_journal: bool = False,
    path: str | None = None,
) -> Summary | None:
    """Resume a run in this process; None if there is nothing to do, which is reported.

    `from_journal`: send what it was started with, even if its plan file has changed. `path`: see
    `as_begun`.
    """
    with still_open(session, run, options, from_journal=from_journal, path=path) as found:
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
        return drive_more(session, record, plan, target, options, reopen, begun=True)


def resubmit(
    session: Session,
    run: str,
    options: RunOptions,
    *,
    from_journal: bool = False,
    path: str | None = None,
) -> Submitted | None:
    """Submit the rest of a run to the workers; None if there is nothing to submit."""
    from runner.app.submit import Submitted, enqueue, refuse_unheard

    with still_open(session, run, options, from_journal=from_journal, path=path) as found:
        if found is None:
            return None
        record, target, plan, lease = found.record, found.target, found.plan, found.lease
        refuse_unheard(session, target)
        options = followed(plan, target, replace(options, follow=_follows(record)), begun=True)
        confirm(session, plan, target, options)
        journal = session.store.reopen(record, lease, plan, follow=options.follow)
        # The request is a new event, and the jobs still open are timed from now on.
        more: dict[str, Any] = {"submitted_at": time.time(), "unanswered": options.unanswered}
        if options.past_failures or plan.max_failures:  # earlier failures do not count
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
    *,
    asks: bool = True,
    begun: bool = False,
) -> Summary:
    """Drive the rest of a run, or a retry of it; `asks`: it has something to ask a database. No
    preflight: the run had its own."""
    from runner.app.drive import Drive, drive_here
    from runner.app.resolve import resolver_of

    options = followed(plan, target, options, begun=begun)
    refuse_own_files(session, plan, options)
    confirm(session, plan, target, options)
    database = session.databases(plan.path, record.environment) if asks else None
    what = Drive(
        plan,
        target,
        lambda: journal(options),
        options,
        database=database and database.for_a_run(),
        environment=record.environment,
        resolver=resolver_of(session, record, plan, database) if database else None,
        begun=begun,
    )
    return drive_here(session, what)


def _follows(record: RunRecord) -> bool:
    """Tell whether to follow: resuming a run that was sent and not followed follows it now."""
    return record.follow or record.status in ("sent", "failed")
