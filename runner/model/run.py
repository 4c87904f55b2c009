"""What happens in a run: jobs, outcomes, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, get_args

from runner.model.execution_plan import ExecutionPlan, RunHead
from runner.model.question import Moment
from runner.model.value import frozen

RunStatus = Literal["running", "completed", "failed", "cancelled", "incomplete", "sent"]
OVER: frozenset[RunStatus] = frozenset({"completed", "failed", "cancelled"})  # cannot be resumed
Outcome = Literal[
    "completed", "failed", "cancelled", "timed_out", "rejected", "dropped", "no_job", "unknown"
]

# The statuses of an ended job, in lower case (protocol page, section 3).
ENDED = frozenset({"completed", "failed", "cancelled", "overflowed", "skipped"})
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)  # in display order
IN_WORDS: Mapping[Outcome, str] = {
    name: {"timed_out": "timed out", "no_job": "started no job"}.get(name, name)
    for name in OUTCOMES
}
FAILURES: frozenset[Outcome] = frozenset(OUTCOMES) - {"completed"}
# Not final: a resumed run looks again.
UNDECIDED: frozenset[Outcome] = frozenset({"timed_out", "unknown"})
# What a retry sends by default: not what was dropped on purpose, nor what may have run.
RETRIED: frozenset[Outcome] = frozenset({"failed", "cancelled", "timed_out", "no_job", "rejected"})


@frozen
class Job:
    """An Inngest run that one of our events started.

    `original`: the job that it is a rerun of. `batch`: it took several events. `ran`: how many
    seconds it had run when it was last looked at, by the server's times; None if it has not started
    or the server does not tell (some report when it was queued). `since`: when the journal first
    saw it with this status.
    """

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
        """Whether it has not started yet."""
        return self.status.lower() == "scheduled"


class SentEvent(NamedTuple):
    """An event that the server has accepted. `position` counts from 0 over the whole run.
    `sent_at`: since 1970; its jobs are waited for from then on. `starts`: when they are due, if the
    event has a time of its own."""

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
        """Seconds between sending the event and the start of its jobs."""
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
    """The result of a check: `expected` and `seen` in words, `message` if it does not hold, and
    `note` for a remark if it does."""

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
    """Counts of events, except `jobs`; each ended event counts under one outcome."""

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
        """Events that the server has answered."""
        return self.accepted + self.rejected

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """The outcomes that occurred."""
        found: dict[Outcome, int] = {name: getattr(self, name) for name in OUTCOMES}
        return {name: number for name, number in found.items() if number}


class StageFigures(NamedTuple):
    """How many events of a stage were sent, and their outcomes. `began`, `last_sent`: the times of
    the first and the latest event; `ended`: the latest end of one, if queried."""

    sent: int = 0
    outcomes: Mapping[Outcome, int] = {}
    began: float | None = None
    last_sent: float | None = None
    ended: float | None = None

    @property
    def lost(self) -> int:
        """Events that did not take effect."""
        return sum(self.outcomes.values()) - self.outcomes.get("completed", 0)


@frozen
class Chain:
    """A run and its retries with their figures added up; `planned` is that of the first run.

    `outstanding`: events of the first run that have completed in none of them.
    """

    runs: tuple[str, ...]
    totals: Totals
    outstanding: int


class JobLink(NamedTuple):
    """A job: its dashboard link, else its id; and what it was for, once it has ended."""

    link: str
    operation: str | None = None
    item: str | None = None


@frozen
class Summary:
    """How a run ended; `duration` in seconds; `interrupted`: by ^C.

    `links` lead to the first jobs; `notes` are what a caller must know besides the figures;
    `option`: what a resume needs to continue; `partial`: see `runner.model.RunRecord`.
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
    """What a stage waits for. Times are in seconds since 1970.

    `kind`: ``pace``: the plan's delay; ``jobs``: jobs to end (``queued``: the first one has not
    started); ``room``: some jobs to end; ``away``: a server that does not answer; ``held``:
    anything else. `item`: the item of the oldest event waited for, sent at `since`. `again`: when
    the next try, number `tries`, comes; `until`: when to give up.
    """

    reason: str
    kind: WaitKind = "held"
    item: str | None = None
    since: float | None = None
    again: float | None = None
    until: float | None = None
    tries: int | None = None

    @property
    def for_jobs(self) -> bool:
        return self.kind in ("jobs", "queued", "room")


class StageRecord(NamedTuple):
    """Where a stage stands, as every display and report shows it. Times are since 1970.

    `sent` counts accepted and rejected events; `followed`: their jobs are followed. `ended`: when
    the latest event did; `took`: the average time from sending an event to its end. `rate` and
    `ends`: events sent and ended per second; `left`: seconds until all have ended, None if unknown.
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
        """The current round of a drain."""
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
    """Receives the progress of a run, which waits for it; decides nothing. It is called in the
    caller's thread, or in another one if an event loop runs there; an error that it raises ends the
    run as a crash would."""

    def started(self, run_id: str, plan: ExecutionPlan | RunHead, /) -> None:
        """The run has its id, and sends next."""

    def progress(self, progress: StageRecord, /) -> None:
        """A stage has moved, or waits: `operation`, `total`, `sent`, `completed`, `lost`, `settled`
        (ended), `running`, `waiting`, `left` (seconds)."""

    def note(self, message: str, /) -> None:
        """Something that the user should know."""
