"""What a run is given, and how it can come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from runner.execution.options import RunOptions
from runner.execution.ports import Clock, EventApi, Guard, JobsApi, Journal, Resolver
from runner.execution.waits import Step
from runner.model import LiveDatabase, Observer

How = Literal["complete", "stopped", "cancelled", "limit", "failed"]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is given; without `jobs` it sends and does not follow."""

    events: EventApi
    jobs: JobsApi | None
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    stop: asyncio.Event
    grace: float
    options: RunOptions = field(default_factory=RunOptions)
    guards: Sequence[Guard] = ()
    database: LiveDatabase | None = None
    resolver: Resolver | None = None
    step: Step | None = None  # where a worker drives the run, step by step


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run came to its end; `reason` says why it did not go further, where the plan did, and
    `option` what a resume needs to go on."""

    how: How
    reason: str | None = None
    option: str | None = None
