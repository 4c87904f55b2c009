"""What a run has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, get_args

from runner.model.execution_plan import ExecutionPlan, RunHead
from runner.model.question import Moment
from runner.model.value import frozen

RunStatus = Literal["running", "completed", "failed", "cancelled", "incomplete", "sent"]
OVER: frozenset[RunStatus] = frozenset({"completed", "failed", "cancelled"})  # nothing goes on
Outcome = Literal[
    "completed", "failed", "cancelled", "timed_out", "rejected", "dropped", "no_job", "unknown"
]

# What a job has come to its end with, in lower case (protocol page, section 3).
ENDED = frozenset({"completed", "failed", "cancelled", "overflowed", "skipped"})
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)  # in the order in which they are shown
FAILURES: frozenset[Outcome] = frozenset(OUTCOMES) - {"completed"}
# No verdict yet: a resumed run looks again.
UNDECIDED: frozenset[Outcome] = frozenset({"timed_out", "unknown"})
# Without a choice, a retry sends these: neither what was dropped on purpose nor what may have run.
RETRIED: frozenset[Outcome] = frozenset({"failed", "cancelled", "timed_out", "no_job", "rejected"})


@frozen
class Job:
    """An Inngest run that one of our events started; `original`: the job that it is a rerun of;
    `batch`: it has several events. `ran`: for how many seconds it had run when it was looked at, by
    the server's own times; None where it has not started, or the server does not tell. (Some tell
    when it was queued.) `since`: when the journal has seen it first with this status."""

    id: str
    function: str
    status: str
    ended: bool
    message: str | None = None
    url: str | None = None
    original: str | None = None
    batch: bool = False
    ran: float | None = None
    since: float | None = None

    @property
    def queued(self) -> bool:
        """Has it not started yet?"""
        return self.status.lower() == "scheduled"


class SentEvent(NamedTuple):
    """An event the server has accepted: `position` counts from 0 over the whole run. `sent_at`:
    since 1970; its jobs are waited for from then on. `starts`: when they are to, where it has a
    time of its own."""

    position: int
    stage: int
    operation: str
    item: str
    name: str
    chunk: int
    internal_id: str
    sent_at: float
    starts: float = 0.0

    @property
    def later(self) -> float:
        """How many seconds after the sending its jobs are to start."""
        return max(0.0, self.starts - self.sent_at)


@frozen
class Failure:
    """One event that did not take effect as planned."""

    operation: str
    item: str
    event: str
    outcome: Outcome
    message: str
    job: str | None = None
    url: str | None = None
    event_id: str | None = None


@frozen
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


@frozen
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


@frozen
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
    def sent(self) -> int:
        """What the server has answered."""
        return self.accepted + self.rejected

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """Those that there are."""
        found: dict[Outcome, int] = {name: getattr(self, name) for name in OUTCOMES}
        return {name: number for name, number in found.items() if number}


class StageFigures(NamedTuple):
    """How many events of a stage were sent, and what has come of them; `began`, `last_sent`: the
    first and the latest sending; `ended`: the latest end of one, where that was asked for."""

    sent: int = 0
    outcomes: Mapping[Outcome, int] = {}
    began: float | None = None
    last_sent: float | None = None
    ended: float | None = None

    @property
    def lost(self) -> int:
        """Those that did not take effect."""
        return sum(self.outcomes.values()) - self.outcomes.get("completed", 0)


@frozen
class Chain:
    """A run and its retries: their figures added up, `planned` being the first one's.

    `outstanding`: events of the first run that have completed in none of them.
    """

    runs: tuple[str, ...]
    totals: Totals
    outstanding: int


class JobLink(NamedTuple):
    """A job: where a dashboard shows it, else its id; and what it is for, once that has ended."""

    link: str
    operation: str | None = None
    item: str | None = None


@frozen
class Summary:
    """How a run ended; `duration` in seconds; `interrupted`: by ^C.

    `links` lead to the first jobs; `notes` say what
    a caller must know besides the figures; `option`: what a resume needs to go on; `partial`: see
    `runner.model.RunRecord`.
    """

    run_id: str
    plan: str
    target: str
    status: RunStatus
    totals: Totals
    failures: tuple[Failure, ...]
    duration: float
    links: tuple[JobLink, ...] = ()
    notes: tuple[str, ...] = ()
    chain: Chain | None = None
    checks: tuple[CheckResult, ...] = ()
    option: str | None = None
    interrupted: bool = False
    partial: str | None = None


WaitKind = Literal["pace", "jobs", "queued", "room", "held", "away"]


class Waiting(NamedTuple):
    """What a stage waits for. Times: seconds since 1970.

    `kind`: ``pace`` is foreseen by the plan, ``jobs`` ends with them (``queued``: the first of them
    has not started), ``room`` with some of them, ``away`` is a server that does not answer,
    ``held`` everything else. `item`: of the events that are waited for the one that was sent first,
    at `since`. `again`: when it is tried next, for the `tries`-th time; `until`: ... and given up.
    """

    reason: str
    kind: WaitKind = "held"
    item: str | None = None
    since: float | None = None
    again: float | None = None
    until: float | None = None
    tries: int | None = None


class StageRecord(NamedTuple):
    """Where a stage stands: what every display and report of it shows. Times: since 1970.

    `sent` counts accepted and rejected events; `followed`: their jobs are looked at. `ended`: when
    the latest event did; `took`: from the send of an event to its end, on average. `rate` and
    `ends`: events sent and ended a second; `left`: seconds until all have, None where nobody knows.
    """

    number: int
    operation: str
    total: int
    sent: int = 0
    outcomes: Mapping[Outcome, int] = {}
    batches: int = 0
    began: float | None = None
    last_sent: float | None = None
    ended: float | None = None
    took: float | None = None
    waiting: Waiting | None = None
    followed: bool = True
    rate: float = 0.0
    ends: float = 0.0
    left: float | None = None
    done: bool = False
    rounds: tuple[Round, ...] = ()

    @property
    def round(self) -> Round | None:
        """Where a drain is."""
        return self.rounds[-1] if self.rounds else None

    @property
    def running(self) -> int:
        """Events that are followed and have no outcome yet."""
        return self.open if self.followed else 0

    @property
    def open(self) -> int:
        """Events that were sent and have no outcome."""
        return self.sent - self.settled

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())

    @property
    def completed(self) -> int:
        return self.outcomes.get("completed", 0)

    @property
    def lost(self) -> int:
        """Events that did not take effect."""
        return self.settled - self.completed


class Observer(Protocol):
    """Told what a run does, as it does it; decides nothing."""

    def started(self, run_id: str, plan: ExecutionPlan | RunHead, /) -> None: ...

    def progress(self, progress: StageRecord, /) -> None: ...

    def note(self, message: str, /) -> None: ...
