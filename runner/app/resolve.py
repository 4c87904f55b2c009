"""Stages that are known when they begin: the plan's files then tell what they run for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.app.plan_files import load, unchanged
from runner.app.session import Session
from runner.errors import StalePlan
from runner.execution.ports import Resolved
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
from runner.planning.build import stage_as_of_now
from runner.planning.facts import gather, gather_again
from runner.planning.items import remembered, to_remember
from runner.planning.parts import Choice, item_names

if TYPE_CHECKING:
    from runner.execution.ports import Journal

_ITEMS = "items"


@frozen
class PlanResolver:
    """Deferred stages: the plan's questions asked again when a stage starts.

    Meets `runner.execution.ports.Resolver`.
    """

    plan: BackfillPlan
    database: Database
    partial: Partial | None = None

    async def resolve(self, stage: Stage) -> Resolved:
        return await asyncio.to_thread(self._resolve, stage)

    def _resolve(self, stage: Stage) -> Resolved:
        operation = next(o for o in self.plan.operations if o.name == stage.operation)
        known = gather_again(self.plan, operation, self.database)
        found = stage_as_of_now(known, stage)
        asked = {check.question.of for check in self.plan.checks}
        asked |= {measure.question.of for measure in self.plan.coverage}
        names = item_names(known, found) if stage.for_each in asked else []
        if self.partial is None:
            return Resolved(found, names)
        choice = Choice(self.partial, known)
        left_out = {one.item for one in choice.left_out(found)}
        return Resolved(choice.of(found), [name for name in names if name not in left_out])


def remember(journal: Journal, plan: BackfillPlan) -> None:
    """Write down what the plan runs for, for a resume: the run may change what a query gives."""
    journal.remember(_ITEMS, to_remember(plan))


def resolver_of(
    session: Session, record: RunRecord, plan: ExecutionPlan, database: Database
) -> PlanResolver | None:
    """Of a run that was begun: its files must be as they were."""
    if not plan.deferred:
        return None
    if not unchanged(plan.inputs):
        hint = "restore it, or start a new run; `serve` looks in the folders that it is given"
        message = f"{plan.path} is not as it was, and stages of run {record.id} are resolved by it"
        raise StalePlan(message, hint=hint)
    items = session.store.reading(record).remembered(_ITEMS)
    variables, environment = record.variables, record.environment
    known = as_known(session, plan.path, variables, environment, items, database)
    return PlanResolver(known, database, plan.partial)


def as_known(
    session: Session,
    path: str,
    variables: Mapping[str, Json],
    environment: str,
    items: Json,
    database: Database,
) -> BackfillPlan:
    """The plan file, with the items that were remembered of it, if any, and what the database says
    now."""
    loaded = load(session, path, variables, environment=environment)
    plan = loaded if items is None else remembered(loaded, items)
    return gather(plan, database, datetime.now(UTC))
