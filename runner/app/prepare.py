"""Prepare a run: what it would send, from a plan file or a saved plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from runner.adapters.inngest.target import Target
from runner.app.build import build, warned
from runner.app.notify import link_of
from runner.app.reviewed import reviewed
from runner.app.session import Session
from runner.execution.context import RunOptions
from runner.model import (
    BackfillPlan,
    ExecutionPlan,
    Json,
    PlannedEvent,
    Problem,
    Selectors,
    Skipped,
    Stage,
    frozen,
)
from runner.spec.files import FileRefused, read_plan

if TYPE_CHECKING:
    from runner.adapters.journal.leases import Lease
    from runner.execution.ports import Journal

_MAX_SOURCE = 256 * 1024  # characters


@frozen
class Prepared:
    """A run that may start: what it sends, and where to.

    `named`: the target as the user named it. `environment`: the project file's environment, if any.
    `files`: the plan as loaded from its files, to resolve deferred stages; None for a saved plan
    without such stages, whose files need not be read again. `parent`: the run whose events a retry
    sends again; `origins`: the unit of work that each of its events repeats, by position; `known`:
    what its checks remember.
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
    known: Mapping[str, Json] = field(default_factory=dict)

    @property
    def shown(self) -> ExecutionPlan:
        """The plan with its warnings on this target."""
        return warned(self.plan, self.target)

    def events(self) -> Iterator[PlannedEvent]:
        """Yield every event that would be sent, in sending order."""
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
    """Return what a run of a plan file would send now, or what a saved plan sends.

    `source`: the path of either, or a plan that was loaded with these variables. `selectors`: send
    only a part. Raises `InvalidPlan`, and `StalePlan` for a saved plan that may no longer be run.
    """
    from ulid import ULID

    overrides = variables or {}
    if isinstance(source, str) and (
        found := reviewed(session, source, target, overrides, selectors, strict=strict)
    ):
        saved = found.saved
        return Prepared(
            saved.run_id,
            found.plan,
            found.target,
            saved.target,
            dict(saved.variables),
            saved.environment,
            found.files,
        )
    built = build(session, source, overrides, strict=strict, target=target, selectors=selectors)
    path = built.plan.path
    environment = session.environment(path)
    resolved = session.target(target, path)
    warned(built.execution_plan, resolved, strict=strict)
    return Prepared(
        run_id or str(ULID()),
        built.execution_plan,
        resolved,
        session.named_target(target, path),
        overrides,
        environment.name if environment else "",
        built.plan,
    )


def record_run(session: Session, prepared: Prepared, options: RunOptions, lease: Lease) -> Journal:
    """Record the run in the state, before anything is sent."""
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
        known=prepared.known,
        source=None if prepared.parent else _source_of(plan),
        hooks=session.project(prepared.plan.path).notify,
        link=link_of(session.environ, prepared.target),
    )
    if plan.deferred and prepared.files:
        from runner.app.resolve import remember

        remember(journal, prepared.files)
    return journal


def _source_of(plan: ExecutionPlan) -> str | None:
    """Return the text of the plan file; None if it has changed since the plan was made."""
    try:
        raw = read_plan(plan.path)
    except FileRefused:
        return None
    same = any(read.sha256 == sha256(raw).hexdigest() for read in plan.inputs)
    return raw.decode("utf-8", "replace")[:_MAX_SOURCE] if same else None
