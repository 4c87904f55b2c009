"""How a run is driven, beside what its plan says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

MAX_EVENTS = 5_000  # the Event API's own limit (protocol page, section 1)
MAX_BYTES = 450_000  # one documentation page says a request may be "up to 512kb" in all


Decision: TypeAlias = Literal["send", "taken"] | None


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request may hold: events, and bytes of its body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is driven, beside what its plan says. Times are in seconds.

    `follow`: follow the jobs that its events start. `grace`: how long a job may take to appear;
    None: the target's own. `wait_lock`: how long to wait for the lock of the plan. `summary_file`:
    what the caller adds summaries to, which no plan may be made of. `yes`: nobody is
    asked before events leave this machine. `past_failures`: go on although the plan stops on a
    failure and there were some. `unanswered`: what to do with requests whose fate cannot be found
    out any more. `max_rounds`, `max_time`: more for the drains of a run that is resumed.
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
