"""Resolve deferred stages: find out their items when they begin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.app.plan_files import changes_of, load
from runner.app.session import Session
from runner.errors import InvalidPlan, StalePlan
from runner.execution.ports import NOTHING, About, Resolved
from runner.model import (
    BackfillPlan,
    Database,
    ExecutionPlan,
    Json,
    Partial,
    RunRecord,
    Stage,
    frozen,
)
from runner.planning.binding import Binder, Keeps, keep_all
from runner.planning.build import stage_as_of_now
from runner.planning.facts import gather, gather_again
from runner.planning.items import remembered, to_remember
from runner.planning.parts import Choice, item_names, parts_of
from runner.spec.document import ranked

if TYPE_CHECKING:
    from runner.adapters.database.open import Databases
    from runner.execution.ports import Journal

_ITEMS = "items"


@frozen
class PlanResolver:
    """Resolves a deferred stage by asking the plan's questions again when it starts.

    Meets `runner.execution.ports.Resolver`.
    """

    plan: BackfillPlan
    database: Database
    partial: Partial | None = None

    async def resolve(self, stage: Stage, about: About = NOTHING) -> Resolved:
        return await asyncio.to_thread(self._resolve, stage, about)

    def _resolve(self, stage: Stage, about: About) -> Resolved:
        operation = next(o for o in self.plan.operations if o.name == stage.operation)
        known = gather_again(self.plan, operation, self.database, datetime.now(UTC))
        found = whole = stage_as_of_now(known, stage)
        keeps: Keeps = keep_all
        left_out: frozenset[str | None] = frozenset()
        if self.partial is not None:
            choice = Choice(self.partial, known)
            keeps, left_out = choice.keeps, frozenset(one.item for one in choice.left_out(whole))
            found = choice.of(whole)
        if not (stage.goal_finds_out or any(about)):
            return Resolved(found)
        sent = frozenset(item_names(known, whole)) - left_out
        only = {stage.for_each: sent}
        if self.partial is not None:
            parts = parts_of(known, [stage], {stage.for_each: tuple(sent)})
            only |= {of: frozenset(names) for of, names in parts.items()}
        binder = Binder(known, lambda of, name: name in only[of] if of in only else keeps(of, name))
        goal = None
        if operation.until and stage.goal_finds_out:
            goal = binder.until(operation.until, operation.name).question
        checks = binder.checks([one for one in self.plan.checks if one.name in about.checks])
        measures = [one for one in self.plan.coverage if one.name in about.coverage]
        coverage = dict(binder.coverage(measures))
        if binder.problems:
            raise InvalidPlan(ranked(binder.problems))
        return Resolved(found, goal, {one.name: one.question for one in checks}, coverage)


def remember(journal: Journal, plan: BackfillPlan) -> None:
    """Write the plan's items into the journal for a resume: the run may change query results."""
    journal.remember(_ITEMS, to_remember(plan))


def resolver_of(
    session: Session, record: RunRecord, plan: ExecutionPlan, database: Databases
) -> PlanResolver | None:
    """Return the resolver of a started run. Raises `StalePlan` if its files have changed."""
    if not plan.deferred:
        return None
    if changed := changes_of(plan.inputs):
        hint = (
            "restore the file, or start a new run; `backfill serve` needs the file in the "
            "folders that it is given"
        )
        message = f"{'; '.join(changed)}: run {record.id} needs it to resolve its stages"
        raise StalePlan(message, hint=hint)
    items = session.store.reading(record).remembered(_ITEMS)
    variables, environment = record.variables, record.environment
    known = as_known(session, plan.path, variables, environment, items, database)
    return PlanResolver(known, database.for_a_run(), plan.partial)


def as_known(
    session: Session,
    path: str,
    variables: Mapping[str, Json],
    environment: str,
    items: Json,
    database: Database,
) -> BackfillPlan:
    """Load the plan file, with its remembered items, if any, and the database's answers of now."""
    loaded = load(session, path, variables, environment=environment)
    plan = loaded if items is None else remembered(loaded, items)
    return gather(plan, database, datetime.now(UTC))
