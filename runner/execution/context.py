"""What a run is given, how it is driven, and how it can end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from runner.errors import UsageError
from runner.model import frozen
from runner.spec.given import refuse_count, refuse_empty, refuse_others, refuse_seconds

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
MAX_BYTES = 450_000  # one documentation page gives "up to 512kb" as the limit of a request


Decision: TypeAlias = Literal["send", "taken"] | None


class RequestLimits(NamedTuple):
    """The most that one request may hold: events, and bytes of its body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


@frozen
class RunOptions:
    """How a run is driven, besides what its plan says. Times are in seconds.

    `follow`: follow the jobs that its events start. `grace`: how long a job may take to appear;
    None: the target's default. `wait_lock`: how long to wait for the lock of the plan.
    `summary_file`: the file to which the caller appends summaries; it must not be an input of the
    plan. `yes`: do not ask before events leave this machine. `past_failures`: continue despite
    failures although the plan stops on them. `unanswered`: what to do with requests whose fate can
    no longer be found out. `max_rounds`, `max_time`: higher limits for the drains of a resumed run.
    `give_up_after`: how long to retry what does not answer; None: as the plan says. Raises
    `UsageError` for a value that the command's options would refuse.
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
        refuse_empty(pause_file=self.pause_file, summary_file=self.summary_file)
        refuse_others("unanswered", self.unanswered, ("send", "taken"))
        refuse_count("max_rounds", self.max_rounds)
        refuse_count("limits.events", self.limits.events, most=MAX_EVENTS)
        refuse_count("limits.bytes", self.limits.bytes)


# Options that only apply where a run begins; where a run is resumed; where this process drives the
# run.
OF_A_START = ("follow", "skip_preflight")
OF_A_RESUME = ("past_failures", "unanswered", "max_rounds", "max_time")
OF_A_DRIVER = ("summary_file", "pause_file", "grace", "give_up_after")


def refuse_options(options: RunOptions, what: str, names: Sequence[str]) -> None:
    """Raise `UsageError` for options that were given but have no effect here."""
    given = [one for one in names if getattr(options, one) != getattr(RunOptions(), one)]
    if given:
        which = ", ".join(f"`{one}`" for one in given)
        raise UsageError(f"{what} has no effect with {which}", hint="leave it out")


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
    step: Step | None = None  # if a worker drives the run, step by step
    patiently: Patiently | None = None  # retries what is away; None: no retries


CANCELLED = "cancelled by an operator"  # reason for a run and for its jobs, whoever ends them


@frozen
class Ending:
    """How a run ended. `reason`: why it did not finish its plan; `option`: what a resume needs to
    continue."""

    how: How
    reason: str | None = None
    option: str | None = None
