"""What a run needs from the outside; `runner.adapters` implements it, `runner.cli` passes it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from runner.model import (
    BoundQuestion,
    Chain,
    CheckResult,
    Driven,
    ExecutionPlan,
    Failure,
    Function,
    Job,
    JobLink,
    Json,
    Outcome,
    Round,
    RunStatus,
    SentEvent,
    Stage,
    StageFigures,
    Totals,
    Waiting,
    frozen,
)
from runner.planning.event_blocks import cells_of

if TYPE_CHECKING:
    import asyncio


@frozen
class Answer:
    """The Event API's answer to one request.

    `ids` are the internal ids of the accepted events, in order. `refused` is the message for the
    event after them, if it was rejected (the server publishes in order and ends at the first bad
    event: protocol page, section 1). `resent`: an earlier try of the same request may have been
    accepted already. `trouble`: why it took more than one try.
    """

    ids: tuple[str, ...]
    refused: str | None = None
    resent: bool = False
    trouble: str | None = None


class RequestTooLarge(Exception):
    """413: send fewer at once. `maybe_taken`: an earlier try may have been accepted."""

    def __init__(self, why: str, *, maybe_taken: bool = False) -> None:
        super().__init__(why)
        self.maybe_taken = maybe_taken


class EventApi(Protocol):
    async def send(
        self, body: bytes, count: int, seed: str, meanwhile: Callable[[], object] | None, /
    ) -> Answer:
        """Post a JSON array of `count` events under an internal-id seed, with retries.

        `meanwhile` may be called while the server is busy. Raises `RequestTooLarge`, `KeyRefused`
        (stop at once) and `TargetError`.
        """


class Listed(NamedTuple):
    """A job in a list of jobs, with the internal id of the event that it names: one of several, if
    the job has a batch of events."""

    event: str
    job: Job


class ListsTooLong(Exception):
    """Reading on would take more requests than polling each event by itself."""


class JobsApi(Protocol):
    async def probe(self) -> str | None:
        """Raise `TargetError` or `KeyRefused` unless jobs can be read; return what is doubtful."""

    async def jobs(self, internal_id: str, /) -> Sequence[Job]:
        """Return the jobs that an event has started so far, bypassing any cache."""

    async def functions(self) -> Sequence[Function] | None:
        """Return the server's functions; None if it does not list them. Raises `TargetDown`."""

    async def listed(
        self, since: float, of: Sequence[Function] | None, most: Callable[[], float], /
    ) -> Sequence[Listed] | None:
        """Return the jobs queued since then (seconds since 1970), including those of others.

        `of`: only jobs of these functions are needed. `most`: the limit of requests, called before
        each one, since lists grow while events are sent. None if the server has no lists. Raises
        `ListsTooLong`.
        """

    async def batch(self, job_id: str, /) -> Sequence[str]:
        """Return the internal ids of all events of a batch's job; empty if the server does not
        tell."""


class Clock(Protocol):
    def time(self) -> float:
        """Seconds since 1970; for records."""

    def monotonic(self) -> float:
        """Seconds from some start; for durations."""

    async def sleep(self, seconds: float, until: asyncio.Event, /) -> None:
        """Sleep, or return as soon as `until` is set."""


@frozen
class Hold:
    """Why nothing may be sent now, and after how many seconds to ask again."""

    reason: str
    seconds: float


class GuardUnanswered(Exception):
    """A guard could not be asked, and why; this never permits sending."""


class Guard(Protocol):
    @property
    def name(self) -> str:
        """Its name in messages, such as ``github`` or ``file hold.flag``."""

    async def ask(self) -> Hold | None:
        """Return None if the next batch may go out. Raises `GuardUnanswered`."""


class Resolved(NamedTuple):
    """A deferred stage with its current items, and the questions about these: its goal's, and those
    of the checks and coverage that were asked for, by name."""

    stage: Stage
    goal: BoundQuestion | None = None
    checks: Mapping[str, BoundQuestion] = MappingProxyType({})
    coverage: Mapping[str, BoundQuestion] = MappingProxyType({})


class About(NamedTuple):
    """The names of checks and coverage whose items a stage resolves."""

    checks: Collection[str] = ()
    coverage: Collection[str] = ()


NOTHING = About()


class Resolver(Protocol):
    async def resolve(self, stage: Stage, about: About = NOTHING, /) -> Resolved:
        """Resolve the items of a deferred stage, and bind its goal, and what is `about` them, to
        them. Raises `InvalidPlan` and `TargetError`."""


class Hello(NamedTuple):
    """What a server says about itself; `skew`: seconds that its clock is ahead."""

    version: str | None
    skew: float | None


class LastSent(NamedTuple):
    """What happened when an event was last sent there."""

    run_id: str
    jobs: bool


class Probe(Protocol):
    async def hello(self) -> Hello:
        """Ask the server for its version and time. Raises `TargetError`."""

    async def accept(self) -> None:
        """Raise `KeyRefused` or `TargetError` unless events would be accepted."""

    async def follow(self) -> str | None:
        """Raise `KeyRefused` or `TargetError` unless jobs can be read; return what is doubtful."""

    async def api_key(self) -> bool | None:
        """Whether the server has the routes for API keys; None if there is no API key. Raises
        `KeyRefused` or `TargetError`."""

    async def functions(self) -> Sequence[Function] | None:
        """Return the server's functions; None if it does not list them."""


class CancelApi(Protocol):
    """Cancels jobs that have already started."""

    async def cancel(self, job_id: str, /) -> str | None:
        """Cancel a job; return None, or the server's refusal: then look again."""


@frozen
class Chunk:
    """One request, recorded before it is made so that it can be repeated byte for byte.

    `positions` count the events from 0 over the run, in order; `lines` are theirs, in the form of
    `EventBlocks.lines`.
    """

    number: int
    stage: int
    batch: int
    operation: str
    event: str
    seed: str
    body: bytes
    positions: Sequence[int]
    lines: Sequence[bytes]
    sent_at: float  # since 1970
    base: float  # the time from which scheduled events count, since 1970

    @property
    def items(self) -> list[str]:
        return cells_of(self.lines)[0]


class Latest(NamedTuple):
    """The latest request of a run: its stage, its time (since 1970), and its base."""

    stage: int
    sent_at: float
    base: float


class Unanswered(NamedTuple):
    """A chunk without an answer. `sent_at`: since 1970. `started_again`: it was answered, but its
    jobs died with an embedded target."""

    number: int
    stage: int
    batch: int
    seed: str
    positions: Sequence[int]
    sent_at: float
    base: float
    started_again: bool


class Ended(NamedTuple):
    """The place of an event that has ended."""

    position: int
    chunk: int
    item: str


class Unsettled(NamedTuple):
    """An accepted event without an outcome."""

    position: int
    chunk: int
    internal_id: str
    sent_at: float  # since 1970


class Control(NamedTuple):
    """What operators have requested, from any terminal; None where they have not. `hold`: why
    nothing is sent to the run's target."""

    wanted: Literal["pause", "cancel"] | None = None
    batch_size: int | None = None
    delay: float | None = None
    max_in_flight: int | None = None
    hold: str | None = None


@frozen
class Observation:
    """The result of one look at an event's jobs; `outcome` is None while they run."""

    event: SentEvent
    jobs: tuple[Job, ...]
    outcome: Outcome | None = None
    message: str | None = None


class Patiently(Protocol):
    async def __call__(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None, /
    ) -> Any:
        """Await `attempt`; repeat it while it raises `TargetDown`, within the run's patience and
        `most` seconds."""


class JournalReads(Protocol):
    """The record of one run, read only. Every method raises `TargetError` if the state cannot be
    used."""

    run_id: str
    started_at: float

    def control(self) -> Control: ...

    def next_position(self) -> int:
        """Return how many events have been decided, which is the position of the next one."""

    def next_chunk(self) -> int: ...

    def driven(self) -> Driven:
        """Return when the run was driven, up to now."""

    def latest(self) -> Latest | None:
        """Return the latest request; None before the first."""

    def unanswered(self) -> Sequence[Unanswered]:
        """Return chunks whose answer never arrived."""

    def unsettled(self) -> Sequence[Unsettled]: ...

    def going_on(self) -> Mapping[int, tuple[Job, ...]]:
        """Return the known jobs of events without an outcome, by position."""

    def by_stage(self) -> Mapping[int, StageFigures]:
        """Return the figures of each stage that has begun."""

    def last_end(self, stage: int, /) -> float | None:
        """Return when the latest event of a stage ended; None if none has."""

    def remembered(self, name: str, /) -> Json: ...

    def checks(self) -> Sequence[CheckResult]: ...

    def rounds(self, stage: int, /) -> Sequence[Round]: ...

    def totals(self) -> Totals: ...

    def failures(self) -> Sequence[Failure]:
        """Return events that did not take effect, except those that a later attempt made good."""

    def made_good(self) -> Mapping[int, int]:
        """Return how many failed events a later attempt has made good, by stage."""

    def reached(self) -> frozenset[int]:
        """Return the stages that have reached their goal."""

    def chain(self) -> Chain | None:
        """Return the run and its retries together; None if it has none."""

    def links(self, limit: int, /) -> Sequence[JobLink]:
        """Return links to the first jobs."""


class Journal(JournalReads, Protocol):
    """The record of one run, written ahead of every send.

    Every method that writes raises `LeaseLost`, and writes nothing, if another process has taken
    over the run.
    """

    def begin_chunk(self, chunk: Chunk, seen: Control, /) -> bool:
        """Record a request; return False, and record nothing, if control requests differ from
        `seen`."""

    def accept(self, chunk: Chunk, answer: Answer, /) -> None:
        """Record what was accepted and what was rejected; drop the events after that.

        A request that was accepted completely is written by `settle`, or with the next write.
        """

    def settle(self) -> None: ...

    def withdraw(self, chunk: Chunk, /) -> None:
        """Remove a chunk of which nothing was accepted; its events will be sent in other chunks."""

    def record(self, observations: Sequence[Observation], /) -> None: ...

    def complete(self, events: Sequence[Ended], /) -> None:
        """Record that events that are done when they are sent have completed."""

    def note(self, message: str, /) -> None: ...

    def waiting(self, stage: int, wait: Waiting | None, /) -> None: ...

    def keep_lease(self) -> None: ...

    def drive(self) -> None:
        """Mark the run as driven until `rest`; each write confirms it."""

    def rest(self) -> None: ...

    def end(self, status: RunStatus, reason: str | None = None, /) -> None: ...

    def remember(self, name: str, value: Json, /) -> None:
        """Store a value under a name, such as a database answer; a later one replaces it."""

    def keep_check(self, result: CheckResult, /) -> None: ...

    def begin_round(self, plan: ExecutionPlan, begun: Round, origins: Mapping[int, int], /) -> None:
        """Record a round and its events, which are the last of its stage in `plan`. `origins`:
        which of them repeat earlier work, by position, with the position of the first attempt."""

    def reach(self, stage: int, left: float | None, plan: ExecutionPlan | None = None, /) -> None:
        """Record that a stage has reached its goal, with its backlog. `plan`: given if that was
        before any round; the stage has no events in it."""
