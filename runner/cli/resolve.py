"""Deferred stages: the plan's questions asked again when a stage starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.execution.ports import Journal, JournalReads
from runner.model import BackfillPlan, Database, Stage

_ITEMS = "items"


def remember(journal: Journal, plan: BackfillPlan) -> None:
    """Write down what the plan runs for, for a resume: the run may change what a query gives."""
    from runner.planning.facts import to_remember

    journal.remember(_ITEMS, to_remember(plan))


def restored(journal: JournalReads, loaded: BackfillPlan, database: Database) -> PlanResolver:
    """The resolver of a run that is carried on."""
    from runner.planning.facts import gather, remembered

    items = journal.remembered(_ITEMS)
    plan = loaded if items is None else remembered(loaded, items)
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
