"""From a plan file to what a run of it would send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from glob import escape
from hashlib import sha256
from typing import TYPE_CHECKING

from runner.app.session import Session
from runner.errors import BackfillError
from runner.model import (
    BackfillPlan,
    Database,
    ExecutionPlan,
    Json,
    Partial,
    Problem,
    Selectors,
    Stage,
    frozen,
)
from runner.spec.files import FileRefused, read_plan
from runner.spec.warnings import accepted

if TYPE_CHECKING:
    from runner.adapters.inngest.target import Target
    from runner.adapters.journal.state import StateReader
    from runner.app.plan_files import PlanFile
    from runner.execution.ports import Journal, JournalReads
    from runner.planning.estimate import Past

_MAX_SOURCE = 256 * 1024  # characters
_PAST_RUNS = 5
_ITEMS = "items"


@frozen
class Built:
    """A plan file with what the database says of it, and what a run of it would send."""

    plan: BackfillPlan
    execution_plan: ExecutionPlan


def build(
    session: Session,
    source: str | PlanFile | BackfillPlan,
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
    target: str | None = None,
    environment: str | None = None,
    selectors: Selectors | None = None,
    sure: bool = True,
    once_loaded: Callable[[BackfillPlan], None] = lambda _: None,
) -> Built:
    """Plan file -> facts -> execution plan. Raises `InvalidPlan` with all problems at once.

    `source`: a path, a file that was read, or a plan that was loaded with these variables. A plan
    that asks a database is asked for here, also in a dry run: nothing is sent by it. `target`:
    as it was named, for the policy. `environment`: see `Session.environment`. `selectors`, `sure`:
    see `runner.planning.parts.select`. `once_loaded` may refuse it before that.
    """
    from runner.app.plan_files import load
    from runner.app.policy import judged
    from runner.planning.build import build_execution_plan
    from runner.planning.facts import gather

    if isinstance(source, BackfillPlan):
        loaded = source
    else:
        loaded = load(session, source, variables, strict=strict, environment=environment)
    once_loaded(loaded)
    facts = session.facts
    now = datetime.fromisoformat(facts.recorded_at) if facts else datetime.now(UTC)
    known = gather(loaded, session.query_runner(loaded.path, environment), now)
    execution_plan = build_execution_plan(known, strict=strict)
    if selectors:
        from runner.planning.parts import select

        execution_plan = select(known, execution_plan, selectors, sure=sure, strict=strict)
    if facts and known.found.facts:
        execution_plan = replace(execution_plan, answered_at=facts.recorded_at)
    execution_plan = judged(session, execution_plan, target, environment, variables)
    return Built(known, execution_plan)


def source_of(plan: ExecutionPlan) -> str | None:
    """The plan file as it was reviewed; None where it is no longer what the plan was made of."""
    try:
        raw = read_plan(plan.path)
    except FileRefused:
        return None
    same = any(read.sha256 == sha256(raw).hexdigest() for read in plan.inputs)
    return raw.decode("utf-8", "replace")[:_MAX_SOURCE] if same else None


def past(store: StateReader, plan: ExecutionPlan) -> Mapping[str, Past]:
    """What the latest runs of the plan show of how long its jobs take."""
    from runner.planning.estimate import past_of

    lines = store.runs(plan=escape(plan.name), limit=_PAST_RUNS)
    return past_of(store.glance(line.record) for line in lines)


def local_past(session: Session, plan: ExecutionPlan) -> Mapping[str, Past]:
    """The same for a dry run, which reaches nothing: from a file that is there, if it is one."""
    if session.state_file is None or not session.state_file.is_file():
        return {}
    try:
        return past(session.reader, plan)
    except BackfillError:
        return {}  # a preview is no less true without it


def warned(plan: ExecutionPlan, target: Target) -> ExecutionPlan:
    """With what is unwise about the plan on this target."""
    return replace(plan, warnings=(*plan.warnings, *handler_warnings(plan, target)))


def handler_warnings(plan: ExecutionPlan, target: Target) -> list[Problem]:
    """On the embedded target an event without a handler starts no job, as on a real server."""
    silent = {event for stage in plan.stages for event in stage.event_names} - set(plan.handlers)
    if target.kind != "embedded" or not silent:
        return []
    names = ", ".join(f"`{event}`" for event in sorted(silent))
    warning = Problem(
        f"the embedded target has no handler for {names}: no job will start",
        plan.path,
        hint="name one in the plan's `handlers`, or choose a server with --target",
        severity="warning",
        rule="no-handler",
    )
    return list(accepted([warning], plan.accept))


def remember(journal: Journal, plan: BackfillPlan) -> None:
    """Write down what the plan runs for, for a resume: the run may change what a query gives."""
    from runner.planning.facts import to_remember

    journal.remember(_ITEMS, to_remember(plan))


def restored(
    journal: JournalReads, loaded: BackfillPlan, database: Database, partial: Partial | None
) -> PlanResolver:
    """The resolver of a run that is resumed."""
    from runner.planning.facts import gather, remembered

    items = journal.remembered(_ITEMS)
    plan = loaded if items is None else remembered(loaded, items)
    return PlanResolver(gather(plan, database, datetime.now(UTC)), database, partial)


@frozen
class PlanResolver:
    """Deferred stages: the plan's questions asked again when a stage starts.

    Meets `runner.execution.ports.Resolver`.
    """

    plan: BackfillPlan
    database: Database
    partial: Partial | None = None

    async def resolve(self, stage: Stage) -> Stage:
        import asyncio

        return await asyncio.to_thread(self._resolve, stage)

    def _resolve(self, stage: Stage) -> Stage:
        from runner.planning.build import stage_as_of_now
        from runner.planning.facts import gather_again
        from runner.planning.parts import Choice

        operation = next(o for o in self.plan.operations if o.name == stage.operation)
        known = gather_again(self.plan, operation, self.database)
        found = stage_as_of_now(known, stage)
        return Choice(self.partial, known).of(found) if self.partial else found
