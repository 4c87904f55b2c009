"""What the state tells those who did not drive a run: of runs, targets that are held, what is
synced from git, and who is told. Times: seconds since 1970."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import islice
from operator import itemgetter
from typing import Any, Literal, NamedTuple, get_args

from runner.model.execution_plan import RunHead
from runner.model.question import Covered
from runner.model.run import (
    CheckResult,
    Job,
    Outcome,
    RunStatus,
    StageRecord,
    Waiting,
    WaitKind,
)
from runner.model.value import Json, frozen

HookKind = Literal["slack", "webhook"]
Occasion = Literal["started", "held", "failed", "ended"]
OCCASIONS: tuple[Occasion, ...] = get_args(Occasion)
SyncOutcome = Literal["starting", "applying", "applied", "failed", "refused", "unreachable"]
Health = Literal["healthy", "failed", "refused", "unreachable", "silent", "ended"]
_SILENT = 3  # times the interval between two looks, without any
_SHORTEST = 30.0  # seconds


@frozen
class RunRecord:
    """What a run was started with; `reason`: why it ended before its plan did, where known;
    `environment`: the one of the project file that it works in, empty for none. `baseline`: why it
    counts as applied though nothing was sent; None for a run that sends. `partial`: the selectors
    of a run that is not for all of its plan."""

    id: str
    plan: str
    path: str
    digest: str
    target: str
    address: str
    variables: Mapping[str, Json]
    planned: int
    follow: bool
    status: RunStatus
    started_at: float
    started_by: str
    ended_at: float | None
    head: str
    parent: str | None
    wanted: Literal["pause", "cancel"] | None
    batch_size: int | None
    delay: float | None
    max_in_flight: int | None = None
    reason: str | None = None
    environment: str = ""
    baseline: str | None = None
    partial: str | None = None

    @property
    def place(self) -> str:
        """Where its events go, for people."""
        return f"{self.environment}: {self.target}" if self.environment else self.target


class Waited(NamedTuple):
    """What a stage was waiting for, as in `Waiting`; `ended` is None while it still is."""

    stage: int
    kind: WaitKind
    reason: str
    began: float
    ended: float | None


class SentBatch(NamedTuple):
    """A batch as it was sent: its events, and what has come of them. `round`: the one of its stage
    in which it was, 0 where the stage has none."""

    stage: int
    round: int
    batch: int
    sent_at: float
    events: int
    completed: int
    lost: int


ITEM = "{item}"  # stands for the item's name in a message that several events have


# What differs from event to event, ids and numbers; but for codes, which say what went wrong.
_VARIES = re.compile(
    r"(?P<code>\b(?i:https?|status(?:[ _]code)?|code|errno|sqlstate|exit|error)[ :=(#]{1,3}\d\w*"
    r"|\b[1-5]\d\d(?= [A-Z][a-z]))"
    r"|\b(?=[\w-]*\d)[\w-]{16,}"
    r"|\b(?=[a-fA-F]*\d)[\da-fA-F]{6,}\b"
    r"|\d+"
)


def of_item(message: str, item: str) -> str:
    """The message with `ITEM` wherever it names the item, as a word of its own."""
    parts, at = [], 0
    while item and (found := message.find(item, at)) >= 0:
        end = found + len(item)
        inside = message[found - 1 : found].isalnum() or message[end : end + 1].isalnum()
        parts += [message[at:found], item if inside else ITEM]
        at = end
    return "".join([*parts, message[at:]])


def kind_of_failure(message: str | None, item: str) -> str:
    """The same for messages that differ in the item's name, in ids and in numbers alone."""
    said = message or ""
    if _VARIES.sub("", item):  # else it is but a number as others are
        said = of_item(said, item)
    alike = _VARIES.sub(lambda found: found["code"] or "#", said)
    return hashlib.blake2b(alike.encode("utf-8", "replace"), digest_size=8).hexdigest()


class FailureGroup(NamedTuple):
    """Events that failed in the same way; `items` are the first of them; `message` and `url` are
    the first one's."""

    operation: str
    outcome: Outcome
    message: str
    events: int
    items: tuple[str, ...]
    job: str | None
    url: str | None


class Bucket(NamedTuple):
    """What happened in the seconds from `at` on, as many as there are to the next bucket."""

    at: float
    sent: int
    completed: int
    lost: int


class Applied(NamedTuple):
    """The last run of the same plan there that was done before another one began; `source`: the
    plan file as it was read then."""

    run_id: str
    planned: int
    source: str | None


LOST = "lost"  # all outcomes but `completed`


class EventFilter(NamedTuple):
    """Which events of a run to show. `outcome`: one of `EventRecord`, or `LOST`; `text`: a part of
    the item's name or of the message, in whatever case."""

    text: str = ""
    stage: int | None = None
    outcome: str | None = None


class Note(NamedTuple):
    """`who`: of what somebody has done to the run, or requests of it; None: the run notes it."""

    at: float
    message: str
    who: str | None = None


# Of an event that has no outcome: the last where nobody looks at its jobs (any more).
OPEN_OUTCOMES = ("unsent", "sending", "running", "unfollowed")


class EventRecord(NamedTuple):
    """One event; `outcome`: one of `OUTCOMES`, or of `OPEN_OUTCOMES`."""

    position: int
    stage: int
    operation: str
    batch: int
    item: str
    event: str
    event_id: str | None
    internal_id: str | None
    sent_at: float | None
    ended_at: float | None
    outcome: str | None
    message: str | None
    jobs: tuple[Job, ...]


class EventPage(NamedTuple):
    """Some of the events of a run that are `wanted`: the page `number`, from 1, that begins with
    the event number `first`; `more`: are there any after them?"""

    events: Sequence[EventRecord]
    wanted: EventFilter = EventFilter()
    number: int = 1
    first: int = 1
    more: bool = False


@frozen
class Driven:
    """When somebody drove a run, in intervals one after the other: only that counts as work."""

    intervals: tuple[tuple[float, float], ...] = ()

    @property
    def seconds(self) -> float:
        return sum(until - since for since, until in self.intervals)

    def until(self, now: float) -> Driven:
        """The same where somebody is at it; a clock that was put back takes nothing away."""
        last = ((since, max(since, now)) for since, _ in self.intervals[-1:])
        return Driven((*self.intervals[:-1], *last))

    def between(self, start: float | None, end: float | None) -> float:
        """How many seconds of these; none where it has not begun, or not ended."""
        if start is None or end is None:
            return 0.0
        intervals = self.intervals
        first = max(0, bisect_right(intervals, start, key=itemgetter(0)) - 1)
        found = 0.0
        for since, until in islice(intervals, first, None):
            if since >= end:
                break
            found += max(0.0, min(until, end) - max(since, start))
        return found


class Submission(NamedTuple):
    """How it is with a run that is left to the workers. `waits`: none of them is at it just now;
    `late`: ... although it has been for a while; `due`: when they are, for people, in brackets."""

    waits: bool
    late: bool
    due: str


@frozen
class RunState:
    """A run, `holder`: who drives it, None where nobody does; `submission`: None where it is
    not left to the workers; `silent`: see `RunView`."""

    record: RunRecord
    holder: str | None
    submission: Submission | None
    silent: float | None = None

    @property
    def goes_on(self) -> bool:
        """Is it under way, and somebody drives it or is to?"""
        return self.record.status == "running" and self.holder is not None

    @property
    def with_workers(self) -> bool:
        """Is it left to the workers, and one of them is at it or is to be?"""
        return bool(self.holder and self.submission)

    @property
    def parked(self) -> bool:
        """Is it left to the workers, with none of them at it just now?"""
        return bool(self.with_workers and self.submission and self.submission.waits)


STATES = (
    *("running", "paused", "dead", "completed", "sent", "failed", "incomplete", "cancelled"),
    "baseline",
)


def state_of(record: RunRecord, holder: str | None) -> str:
    """The run's status, but ``dead`` where it should be under way and no process drives it,
    and ``baseline`` where none was needed."""
    if record.baseline:
        return "baseline"
    if record.status != "running":
        return record.status
    if holder is None:
        return "dead"
    return "paused" if record.wanted == "pause" else "running"


@frozen
class RunLine:
    """A run in a list of runs: how many of its events were sent, what came of them, the runs that
    retry it, and what the stage that it is at waits for. The others are as in `RunView`."""

    record: RunRecord
    holder: str | None
    sent: int
    outcomes: Mapping[Outcome, int]
    retries: tuple[str, ...] = ()
    waiting: Waiting | None = None
    submission: Submission | None = None
    silent: float | None = None
    now: float = 0.0

    @property
    def state(self) -> str:
        return state_of(self.record, self.holder)

    @property
    def completed(self) -> int:
        return self.outcomes.get("completed", 0)

    @property
    def lost(self) -> int:
        """Events that did not take effect."""
        return sum(self.outcomes.values()) - self.completed


@frozen
class RunView:
    """A run as its journal has it; `holder` and `submission` as in `RunState`. `made_good`: the
    events, by position, that failed and whose work a later attempt has done; `going_on`: or still
    has to do, and the run that it is in. `silent`: since when
    nobody drives a run that is not at its end, as far as that is known."""

    record: RunRecord
    holder: str | None
    plan: RunHead
    now: float
    stages: tuple[StageRecord, ...]
    outcomes: Mapping[Outcome, int]
    failures: tuple[FailureGroup, ...]
    checks: tuple[CheckResult, ...]
    waits: tuple[Waited, ...] = ()
    rates: tuple[Bucket, ...] = ()
    notes: tuple[Note, ...] = ()
    coverage: Mapping[str, tuple[Covered, ...]] = field(default_factory=dict)
    source: str | None = None
    applied: Applied | None = None
    retries: tuple[str, ...] = ()
    submission: Submission | None = None
    silent: float | None = None
    made_good: Mapping[int, Outcome] = field(default_factory=dict)
    going_on: Mapping[int, tuple[Outcome, str]] = field(default_factory=dict)
    driven: Driven = field(default_factory=Driven)

    @property
    def state(self) -> str:
        return state_of(self.record, self.holder)

    @property
    def follows(self) -> bool:
        """Does somebody look at the jobs of what it has sent?"""
        record = self.record
        return record.follow and record.status == "running" and self.holder is not None

    @property
    def unsent(self) -> int:
        return sum(max(0, stage.total - stage.sent) for stage in self.stages)

    @property
    def outstanding(self) -> int:
        """How many events failed whose work no other attempt has done."""
        return sum(self.left.values())

    @property
    def left(self) -> Mapping[Outcome, int]:
        """... and how many of each outcome."""
        return Counter(self.outcomes) - Counter(self.made_good.values())

    @property
    def to_retry(self) -> Mapping[Outcome, int]:
        """... which no attempt still has to do."""
        return Counter(self.left) - Counter(outcome for outcome, _ in self.going_on.values())

    def took(self, event: EventRecord) -> float | None:
        """Seconds from the event's sending to its end in which somebody drove the run; None where
        it has no end."""
        if event.sent_at is None or event.ended_at is None:
            return None
        return self.driven.between(event.sent_at, event.ended_at)

    def worked(self, stage: StageRecord) -> float:
        """Seconds from the stage's first event to the latest end of one."""
        return self.driven.between(stage.began, stage.ended)


class Story(NamedTuple):
    """What a run has done, noted, and waited for; its batches, and its first failures."""

    view: RunView
    notes: Sequence[Note]
    waits: Sequence[Waited]
    batches: Sequence[SentBatch]
    failures: Sequence[EventRecord]


class TargetHold(NamedTuple):
    """Why, by whom, since when and until when (seconds since 1970): None until it is taken back.
    `address`: what the target meant, see `Target.address`."""

    target: str
    address: str
    reason: str
    holder: str
    since: float
    until: float | None


@frozen
class Hook:
    """`variable`: the environment variable that holds its URL; the URL itself is in no value of
    ours. `held_after`: how many seconds a run must be held until that is worth a word."""

    kind: HookKind
    variable: str
    on: tuple[Occasion, ...] = OCCASIONS
    held_after: float = 600.0


class Notice(NamedTuple):
    """What a hook is to be told: `body` is the document, by its published schema; `tries`: how
    often that was tried."""

    number: int
    hook: Hook
    body: dict[str, Any]
    tries: int


@frozen
class SyncRecord:
    """What a `backfill sync` does, and what came of its last look.

    `seen` is the commit that the branch was at, `applied` the last one all of whose plans are
    applied; `ended_at` is None while the process has not said its end.
    """

    id: str
    repository: str
    branch: str
    path: str
    target: str
    every: float
    holder: str
    checked_at: float
    outcome: SyncOutcome = "starting"
    message: str | None = None
    seen: str | None = None
    applied: str | None = None
    applied_at: float | None = None
    ended_at: float | None = None

    def health(self, now: float) -> Health:
        """``silent``: it has not looked for so long that its process must be gone."""
        if self.ended_at is not None and self.outcome in ("starting", "applying", "applied"):
            return "ended"
        if self.ended_at is None and now - self.checked_at > max(_SHORTEST, _SILENT * self.every):
            return "silent"
        match self.outcome:
            case "starting" | "applying" | "applied":
                return "healthy"
            case "failed" | "refused" | "unreachable":
                return self.outcome
