"""What a run is given, how it is driven, and how it can come to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from runner.errors import UsageError
from runner.model import frozen
from runner.spec.given import refuse_count, refuse_seconds

if TYPE_CHECKING:
    import asyncio
    from random import Random

    from runner.execution.pacing import Step
    from runner.execution.ports import (
        Clock,
        EventApi,
        Guard,
        JobsApi,
        Journal,
        Patiently,
        Resolver,
    )
    from runner.model import LiveDatabase, Observer

MAX_EVENTS = 5_000  # the Event API's own limit (protocol page, section 1)
MAX_BYTES = 450_000  # one documentation page says a request may be "up to 512kb" in all


Decision: TypeAlias = Literal["send", "taken"] | None


class RequestLimits(NamedTuple):
    """The most that one request may hold: events, and bytes of its body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


@frozen
class RunOptions:
    """How a run is driven, beside what its plan says. Times are in seconds.

    `follow`: follow the jobs that its events start. `grace`: how long a job may take to appear;
    None: the target's own. `wait_lock`: how long to wait for the lock of the plan. `summary_file`:
    what the caller adds summaries to, which no plan may be made of. `yes`: nobody is
    asked before events leave this machine. `past_failures`: go on although the plan stops on a
    failure and there were some. `unanswered`: what to do with requests whose fate cannot be found
    out any more. `max_rounds`, `max_time`: more for the drains of a run that is resumed.
    `give_up_after`: for how long what does not answer is tried again; None: as the plan says.
    Raises `UsageError` for a number or a length of time that there is not.
    """

    follow: bool = True
    grace: float | None = None
    limits: RequestLimits = field(default_factory=RequestLimits)
    wait_lock: float = 0.0
    pause_file: str | None = None
    summary_file: str | None = None
    yes: bool = False
    skip_preflight: bool = False
    past_failures: bool = False
    unanswered: Decision = None
    max_rounds: int | None = None
    max_time: float | None = None
    give_up_after: float | None = None

    def __post_init__(self) -> None:
        for name in ("grace", "wait_lock", "max_time", "give_up_after"):
            refuse_seconds(name, getattr(self, name))
        refuse_count("max_rounds", self.max_rounds)
        refuse_count("limits.events", self.limits.events, most=MAX_EVENTS)
        refuse_count("limits.bytes", self.limits.bytes)


# What counts only where a run begins; where there is something to go on with; where this process
# drives the run.
OF_A_START = ("follow", "skip_preflight")
OF_A_RESUME = ("past_failures", "unanswered", "max_rounds", "max_time")
OF_A_DRIVER = ("summary_file", "pause_file", "grace", "give_up_after")


def refuse_options(options: RunOptions, what: str, names: Sequence[str]) -> None:
    """Raises `UsageError` for those that were given where they change nothing."""
    given = [one for one in names if getattr(options, one) != getattr(RunOptions(), one)]
    if given:
        which = ", ".join(f"`{one}`" for one in given)
        raise UsageError(f"{what} makes nothing of {which}", hint="leave that out")


How = Literal["complete", "stopped", "cancelled", "limit", "failed"]


@frozen
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
    patiently: Patiently | None = None  # asks again what is away; None: nothing is


CANCELLED = "cancelled by an operator"  # a run, or a job of it: whoever ends it


@frozen
class Ending:
    """How a run came to its end; `reason` says why it did not go further, where the plan did, and
    `option` what a resume needs to go on."""

    how: How
    reason: str | None = None
    option: str | None = None
