"""What a run is handed, and how it can come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from runner.errors import PreflightRefused
from runner.execution.limits import RequestLimits
from runner.execution.ports import Clock, EventApi, Guard, JobsApi, Journal, Resolver
from runner.execution.recover import Decision
from runner.execution.waits import Portion
from runner.model import Database, ExecutionPlan, Observer

How = Literal["complete", "stopped", "cancelled", "limit", "failed"]


@dataclass(frozen=True, slots=True)
class Means:
    """What a run is handed; without `jobs` it sends and does not follow."""

    events: EventApi
    jobs: JobsApi | None
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    stop: asyncio.Event
    grace: float
    limits: RequestLimits
    guards: Sequence[Guard] = ()
    database: Database | None = None
    resolver: Resolver | None = None
    past_failures: bool = False  # go on although the plan stops on a failure and there were some
    decision: Decision = None  # about requests whose fate cannot be found out any more
    portion: Portion | None = None  # where the run is not carried out in one go


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run came to its end; `reason` says why it did not go further, where the plan did."""

    how: How
    reason: str | None = None


def preflight(plan: ExecutionPlan) -> None:
    """Refuse what cannot be what anybody wanted, before anything is sent."""
    if not plan.may_send:
        hint = "`backfill plan` shows what is skipped and why"
        raise PreflightRefused("there is nothing to send: the plan has no events", hint=hint)
