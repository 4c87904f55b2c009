"""What a run has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

from runner.model.asking import Moment
from runner.model.execution_plan import ExecutionPlan, RunHead

RunStatus = Literal["running", "completed", "failed", "cancelled", "incomplete", "sent"]
Outcome = Literal[
    "completed", "failed", "cancelled", "timed_out", "rejected", "dropped", "no_job", "unknown"
]

# What a job has come to its end with, in lower case (protocol page, section 3).
ENDED = frozenset({"completed", "failed", "cancelled", "overflowed", "skipped"})
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)  # in the order in which they are shown
FAILURES: frozenset[Outcome] = frozenset(OUTCOMES) - {"completed"}
# No verdict yet: a run that is carried on looks again.
UNDECIDED: frozenset[Outcome] = frozenset({"timed_out", "unknown"})


@dataclass(frozen=True, slots=True)
class Job:
    """An Inngest run that one of our events started; `original`: the job that it is a rerun of;
    `batch`: it has several events."""

    id: str
    function: str
    status: str
    ended: bool
    message: str | None = None
    url: str | None = None
    original: str | None = None
    batch: bool = False


class SentEvent(NamedTuple):
    """An event the server has accepted: `position` counts from 0 over the whole run."""

    position: int
    stage: int
    operation: str
    item: str
    name: str
    chunk: int
    internal_id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One event that did not take effect as planned."""

    operation: str
    item: str
    event: str
    outcome: Outcome
    message: str
    job: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of a check: `expected` and `seen` in words, `message` where it does not hold, and
    `note`, what to know of it where it does."""

    name: str
    moment: Moment
    operation: str | None
    ok: bool
    expected: str
    seen: str
    message: str | None = None
    note: str | None = None

    @property
    def words(self) -> str:
        if self.ok:
            return f"{self.seen}: {self.note}" if self.note else self.seen
        return self.message or self.seen


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a stage that is resolved when it starts, or sent until a goal is met.

    `first` counts the stage's events from 0; `left` is the backlog before the round.
    """

    stage: int
    number: int
    first: int
    events: int
    left: float | None
    at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Events, but for `jobs`: each that has ended stands under one outcome."""

    planned: int = 0
    accepted: int = 0
    deduplicated: int = 0
    rejected: int = 0
    jobs: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    dropped: int = 0
    no_job: int = 0
    unknown: int = 0

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """Those that there are."""
        found: dict[Outcome, int] = {name: getattr(self, name) for name in OUTCOMES}
        return {name: number for name, number in found.items() if number}


class StageFigures(NamedTuple):
    """How many events of a stage were sent, and what has come of them."""

    sent: int = 0
    outcomes: Mapping[Outcome, int] = {}

    @property
    def lost(self) -> int:
        """Those that did not take effect."""
        return sum(self.outcomes.values()) - self.outcomes.get("completed", 0)


@dataclass(frozen=True, slots=True)
class Chain:
    """A run and its retries: their figures added up, `planned` being the first one's.

    `outstanding`: events of the first run that have completed in none of them.
    """

    runs: tuple[str, ...]
    totals: Totals
    outstanding: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended; `duration` in seconds; `interrupted`: by ^C.

    `links` lead to the first jobs (their ids, where the target has no dashboard); `notes` say what
    a caller must know besides the figures; `option`: what a resume needs to go on.
    """

    run_id: str
    plan: str
    target: str
    status: RunStatus
    totals: Totals
    failures: tuple[Failure, ...]
    duration: float
    links: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    chain: Chain | None = None
    checks: tuple[CheckResult, ...] = ()
    option: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Where a stage stands; `rate` is events a second, times are in seconds.

    `sent` counts accepted and rejected events, `running` those that are followed and have no
    outcome yet. `waiting` says what the run is waiting for just now, if it is; `round`: where
    a drain is.
    """

    stage: int
    operation: str
    total: int
    sent: int = 0
    running: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    rate: float = 0.0
    left: float | None = None
    waiting: str | None = None
    round: Round | None = None
    ended: bool = False

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())


class Observer(Protocol):
    """Told what a run does, as it does it; decides nothing."""

    def started(self, run_id: str, plan: ExecutionPlan | RunHead, /) -> None: ...

    def progress(self, progress: StageProgress, /) -> None: ...

    def note(self, message: str, /) -> None: ...
