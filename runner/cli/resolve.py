"""Deferred stages: the plan's questions asked again when a stage starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.execution.ports import Journal
from runner.model import BackfillPlan, Database, Stage

_REPOSITORIES = "repositories"


def remember(journal: Journal, plan: BackfillPlan) -> None:
    """Write down the repositories that a query gave, for a resume: the run may change them."""
    from runner.planning.facts import to_remember

    rows = to_remember(plan)
    if rows is not None:
        journal.remember(_REPOSITORIES, rows)


def restored(journal: Journal, loaded: BackfillPlan, database: Database) -> PlanResolver:
    """The resolver of a run that is carried on."""
    from runner.planning.facts import gather, remembered

    rows = journal.remembered(_REPOSITORIES)
    plan = loaded if rows is None else remembered(loaded, rows)
    return PlanResolver(gather(plan, database, datetime.now(UTC)), database)


@dataclass(frozen=True, slots=True)
class PlanResolver:
    """Meets `runner.execution.ports.Resolver`."""

    plan: BackfillPlan
    database: Database

    async def resolve(self, stage: Stage) -> Stage:
        return await asyncio.to_thread(self._resolve, stage)

    def _resolve(self, stage: Stage) -> Stage:
        from runner.planning.build import stage_as_of_now
        from runner.planning.facts import gather_again

        operation = next(o for o in self.plan.operations if o.name == stage.operation)
        return stage_as_of_now(gather_again(self.plan, operation, self.database), stage)
