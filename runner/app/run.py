"""Begin a run: prepare, refuse, ask, lock, record, send.

`run` drives it in this process; `submit` leaves it to the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.adapters.inngest.target import Target
from runner.app.notify import link_of
from runner.app.policy import refuse_broken
from runner.app.preflight import confirm, preflight
from runner.app.prepare import PlanResolver, build, past, remember, source_of, warned
from runner.app.saved import load_saved, refuse_selectors, refuse_used, reviewed
from runner.app.session import Session
from runner.errors import UsageError
from runner.execution.context import RunOptions
from runner.model import (
    BackfillPlan,
    ExecutionPlan,
    Function,
    Json,
    PlannedEvent,
    Problem,
    Selectors,
    Skipped,
    Stage,
    Summary,
    frozen,
)

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.execution.ports import Journal


@frozen
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


@frozen
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
            lambda: record_run(session, prepared, options, lease),
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
        journal = record_run(session, prepared, options, lease)
        for note in _notes(options):
            journal.note(note)
        event = enqueue(session, lease, target, prepared.run_id, plan.name, options, app)
    return Submitted(prepared.run_id, event)


def record_run(session: Session, prepared: Prepared, options: RunOptions, lease: Lease) -> Journal:
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
