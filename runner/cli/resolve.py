"""Deferred stages: the plan's questions asked again when a stage starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from runner.model import BackfillPlan, Database, Stage


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
