"""What the state knows: runs, held targets, branches synced from git, and notifications. Times are
in seconds since 1970."""

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
_SILENT = 3  # missed intervals after which a sync counts as silent
_SHORTEST = 30.0  # seconds


@frozen
class RunRecord:
    """What a run was started with. `reason`: why it ended before its plan did, if known.
    `environment`: the one of the project file, empty for none. `baseline`: why it counts as applied
    though nothing was sent; None for a run that sends. `partial`: the selectors of a run for a part
    of its plan."""

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
    """What a stage waited for, as in `Waiting`; `ended` is None while it still waits."""

    stage: int
    kind: WaitKind
    reason: str
    began: float
    ended: float | None


class SentBatch(NamedTuple):
    """A batch that was sent, and the outcomes of its events. `round`: the round of its stage, 0 if
    the stage has none."""

    stage: int
    round: int
    batch: int
    sent_at: float
    events: int
    completed: int
    lost: int


ITEM = "{item}"  # stands for the item's name in a message that several events share


# Ids and numbers, which vary from event to event; codes do not, for they say what went wrong.
_VARIES = re.compile(
    r"(?P<code>\b(?i:https?|status(?:[ _]code)?|code|errno|sqlstate|exit|error)[ :=(#]{1,3}\d\w*"
    r"|\b[1-5]\d\d(?= [A-Z][a-z]))"
    r"|\b(?=[\w-]*\d)[\w-]{16,}"
    r"|\b(?=[a-fA-F]*\d)[\da-fA-F]{6,}\b"
    r"|\d+"
)


def of_item(message: str, item: str) -> str:
    """Replace the item's name in the message by `ITEM` wherever it is a word of its own."""
    parts, at = [], 0
    while item and (found := message.find(item, at)) >= 0:
        end = found + len(item)
        inside = message[found - 1 : found].isalnum() or message[end : end + 1].isalnum()
        parts += [message[at:found], item if inside else ITEM]
        at = end
    return "".join([*parts, message[at:]])


def kind_of_failure(message: str | None, item: str) -> str:
    """Hash a message so that only item names, ids and numbers may differ within a kind."""
    said = message or ""
    if _VARIES.sub("", item):  # a name that is only a number is replaced like any other number
        said = of_item(said, item)
    alike = _VARIES.sub(lambda found: found["code"] or "#", said)
    return hashlib.blake2b(alike.encode("utf-8", "replace"), digest_size=8).hexdigest()


class FailureGroup(NamedTuple):
    """Events that failed in the same way. `items` are the first of them; `message` and `url` are
    from the first."""

    operation: str
    outcome: Outcome
    message: str
    events: int
    items: tuple[str, ...]
    job: str | None
    url: str | None


class Bucket(NamedTuple):
    """What happened in the seconds from `at` until the next bucket."""

    at: float
    sent: int
    completed: int
    lost: int


class Applied(NamedTuple):
    """The last run of the same plan and target that had ended before another one began; `source`:
    the plan file as it was then."""

    run_id: str
    planned: int
    source: str | None


LOST = "lost"  # every outcome except `completed`


class EventFilter(NamedTuple):
    """Which events of a run to show. `outcome`: one of `EventRecord`, or `LOST`; `text`: a part of
    the item's name or of the message, ignoring case."""

    text: str = ""
    stage: int | None = None
    outcome: str | None = None


class Note(NamedTuple):
    """A note on a run. `who`: the person who did or requested something; None: the run itself."""

    at: float
    message: str
    who: str | None = None


# States of an event without an outcome; the last one: nobody follows its jobs (any more).
OPEN_OUTCOMES = ("unsent", "sending", "running", "unfollowed")


class EventRecord(NamedTuple):
    """One event; `outcome`: one of `OUTCOMES` or of `OPEN_OUTCOMES`."""

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
    """A page of the events of a run that match `wanted`. `number` counts pages from 1; `first` is
    the number of its first event; `more`: another page follows."""

    events: Sequence[EventRecord]
    wanted: EventFilter = EventFilter()
    number: int = 1
    first: int = 1
    more: bool = False


@frozen
class Driven:
    """The intervals in which a process drove a run; only they count as work."""

    intervals: tuple[tuple[float, float], ...] = ()

    @property
    def seconds(self) -> float:
        return sum(until - since for since, until in self.intervals)

    def until(self, now: float) -> Driven:
        """Extend the last interval to `now`; a clock that was set back takes nothing away."""
        last = ((since, max(since, now)) for since, _ in self.intervals[-1:])
        return Driven((*self.intervals[:-1], *last))

    def between(self, start: float | None, end: float | None) -> float:
        """Return the driven seconds between two times; 0 if either is None."""
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
    """The state of a run that is left to the workers. `waits`: no worker drives it right now;
    `late`: ... and has not for some time; `due`: when one will, for people, in brackets."""

    waits: bool
    late: bool
    due: str


@frozen
class RunState:
    """A run. `holder`: who drives it, or None; `submission`: None if it is not left to the workers;
    `silent`: see `RunView`."""

    record: RunRecord
    holder: str | None
    submission: Submission | None
    silent: float | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it is running and somebody drives it or will."""
        return self.record.status == "running" and self.holder is not None

    @property
    def with_workers(self) -> bool:
        """Whether it is left to the workers and one of them drives it or will."""
        return bool(self.holder and self.submission)

    @property
    def parked(self) -> bool:
        """Whether it is left to the workers and none of them drives it right now."""
        return bool(self.with_workers and self.submission and self.submission.waits)


STATES = (
    *("running", "paused", "dead", "completed", "sent", "failed", "incomplete", "cancelled"),
    "baseline",
)


def state_of(record: RunRecord, holder: str | None) -> str:
    """The run's status, but ``dead`` if it should be running and no process drives it, and
    ``baseline`` if it only marks its plan as applied."""
    if record.baseline:
        return "baseline"
    if record.status != "running":
        return record.status
    if holder is None:
        return "dead"
    return "paused" if record.wanted == "pause" else "running"


@frozen
class RunLine:
    """A run in a list of runs: how many events were sent, their outcomes, the runs that retry it,
    and what its current stage waits for. The other fields are as in `RunView`."""

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
    """A run as its journal records it; `holder` and `submission` as in `RunState`.

    `stages` have the figures; `outcomes` counts only events that did not take effect. `made_good`:
    the failed events, by position, whose work a later attempt has done. `going_on`: those whose
    work a later attempt still has to do, with its run. `silent`: since when nobody drives an
    unfinished run, as far as that is known. `target_held`: an operator holds its target.
    """

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
    target_held: bool = False

    @property
    def state(self) -> str:
        return state_of(self.record, self.holder)

    @property
    def follows(self) -> bool:
        """Whether somebody follows the jobs of its events."""
        record = self.record
        return record.follow and record.status == "running" and self.holder is not None

    @property
    def unsent(self) -> int:
        return sum(max(0, stage.total - stage.sent) for stage in self.stages)

    @property
    def outstanding(self) -> int:
        """How many failed events no other attempt has made good."""
        return sum(self.left.values())

    @property
    def left(self) -> Mapping[Outcome, int]:
        """The same by outcome."""
        return Counter(self.outcomes) - Counter(self.made_good.values())

    @property
    def to_retry(self) -> Mapping[Outcome, int]:
        """The same without those that an attempt still has to do."""
        return Counter(self.left) - Counter(outcome for outcome, _ in self.going_on.values())

    def took(self, event: EventRecord) -> float | None:
        """Return the seconds from sending to end during which the run was driven; None without an
        end."""
        if event.sent_at is None or event.ended_at is None:
            return None
        return self.driven.between(event.sent_at, event.ended_at)

    def worked(self, stage: StageRecord) -> float:
        """Return the driven seconds from the stage's first event to the latest end of one."""
        return self.driven.between(stage.began, stage.ended)


class Story(NamedTuple):
    """A run's history: its notes, waits and batches, and its first failures."""

    view: RunView
    notes: Sequence[Note]
    waits: Sequence[Waited]
    batches: Sequence[SentBatch]
    failures: Sequence[EventRecord]


class TargetHold(NamedTuple):
    """A held target: why, by whom, since when and until when (seconds since 1970; None: until it is
    let go). `address`: what the target stood for, see `Target.address`."""

    target: str
    address: str
    reason: str
    holder: str
    since: float
    until: float | None


@frozen
class Hook:
    """A receiver of notifications. `variable`: the environment variable with its URL; no value of
    ours holds the URL itself. `held_after`: how many seconds a run must be held before that is
    reported."""

    kind: HookKind
    variable: str
    on: tuple[Occasion, ...] = OCCASIONS
    held_after: float = 600.0


class Notice(NamedTuple):
    """A message for a hook: `body` is the document, by its published schema; `tries`: how often
    sending it was tried."""

    number: int
    hook: Hook
    body: dict[str, Any]
    tries: int


@frozen
class SyncRecord:
    """A `backfill sync` and the result of its last look.

    `seen` is the commit of the branch, `applied` the last commit all of whose plans are applied;
    `ended_at` is None until the process reports its end.
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
        """Judge its health; ``silent``: the process has not looked for so long that it must be
        gone."""
        if self.ended_at is not None and self.outcome in ("starting", "applying", "applied"):
            return "ended"
        if self.ended_at is None and now - self.checked_at > max(_SHORTEST, _SILENT * self.every):
            return "silent"
        match self.outcome:
            case "starting" | "applying" | "applied":
                return "healthy"
            case "failed" | "refused" | "unreachable":
                return self.outcome
