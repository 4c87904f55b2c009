"""What a run needs of the world; `runner.adapters` provides it, `runner.cli` hands it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from runner.model import (
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
    """What the Event API made of one request.

    `ids` are the internal ids of what it took, in order. `refused` is its word on the event after
    them, where it took no more (it publishes in order and ends at the first bad one: protocol
    page, section 1). `resent`: an earlier try of the same request may have been taken already.
    `trouble`: why it took more than one try.
    """

    ids: tuple[str, ...]
    refused: str | None = None
    resent: bool = False
    trouble: str | None = None


class RequestTooLarge(Exception):
    """413: send fewer at once. `maybe_taken`: an earlier try of it may have had its effect."""

    def __init__(self, why: str, *, maybe_taken: bool = False) -> None:
        super().__init__(why)
        self.maybe_taken = maybe_taken


class EventApi(Protocol):
    async def send(
        self, body: bytes, count: int, seed: str, meanwhile: Callable[[], object] | None, /
    ) -> Answer:
        """Post a JSON array of `count` events under an internal-id seed, with retries.

        `meanwhile` may be called while the server is at work. Raises `RequestTooLarge`,
        `KeyRefused` (stop at once) and `TargetError`.
        """


class Listed(NamedTuple):
    """A job as a list of jobs has it, with the internal id of the event that it names: one of them,
    where the job has a batch of events."""

    event: str
    job: Job


class ListsTooLong(Exception):
    """Reading on would take more requests than asking about each event by itself."""


class JobsApi(Protocol):
    async def probe(self) -> None:
        """Raise `TargetError` or `KeyRefused` unless jobs can be asked for."""

    async def jobs(self, internal_id: str, /) -> Sequence[Job]:
        """The jobs that an event has started so far, past any cache."""

    async def functions(self) -> Sequence[Function] | None:
        """Those of the server; None where it does not tell. Raises `TargetDown`."""

    async def listed(
        self, since: float, of: Sequence[Function] | None, most: Callable[[], float], /
    ) -> Sequence[Listed] | None:
        """The jobs that were queued since then (seconds since 1970), also those of others; `of`:
        only the jobs of these functions are needed.

        None where the server keeps no lists. `most` requests, as it says before each: lists grow
        while events are sent. Raises `ListsTooLong`.
        """

    async def batch(self, job_id: str, /) -> Sequence[str]:
        """The internal ids of all events of a job that has a batch; none where the server does not
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
    """Why nothing may be sent just now, and after how many seconds to ask again."""

    reason: str
    seconds: float


class GuardUnanswered(Exception):
    """A guard that could not be asked, and why; it never means that sending is fine."""


class Guard(Protocol):
    @property
    def name(self) -> str:
        """What it is called in messages, such as ``github`` or ``file hold.flag``."""

    async def ask(self) -> Hold | None:
        """None where the next batch may go out. Raises `GuardUnanswered`."""


class Resolved(NamedTuple):
    """A deferred stage with the items of now; `items`: their names, each by itself also where an
    event is for several, if a check or a coverage is for them."""

    stage: Stage
    items: Sequence[str] = ()


class Resolver(Protocol):
    async def resolve(self, stage: Stage, /) -> Resolved:
        """Raises `InvalidPlan` and `TargetError`."""


class Hello(NamedTuple):
    """What a server says of itself; `skew`: seconds that its clock is ahead."""

    version: str | None
    skew: float | None


class LastSent(NamedTuple):
    """What came of an event when it was last sent there."""

    run_id: str
    jobs: bool


class Probe(Protocol):
    async def hello(self) -> Hello:
        """Raises `TargetError`."""

    async def accept(self) -> None:
        """Raises `KeyRefused` or `TargetError` unless events would be taken."""

    async def follow(self) -> None:
        """Raises `KeyRefused` or `TargetError` unless jobs can be asked for."""

    async def api_key(self) -> bool | None:
        """Whether the server has what API keys are for; None where there is no such key. Raises
        `KeyRefused` or `TargetError`."""

    async def functions(self) -> Sequence[Function] | None:
        """Those of the server; None where it does not tell."""


class CancelApi(Protocol):
    """Ends jobs that were started already."""

    async def cancel(self, job_id: str, /) -> str | None:
        """None where the job is cancelled; else the server's refusal, in a word: look again."""


@frozen
class Chunk:
    """One request, written down before it is made, so that it can be made again byte for byte.
    `positions` count the events from 0 over the run, in order; `lines` go with them, as
    `EventBlocks.lines` gives them."""

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
    base: float  # ... and what the times of its events count from, where they have any

    @property
    def items(self) -> list[str]:
        return cells_of(self.lines)[0]


class Latest(NamedTuple):
    """The latest request of a run: its stage, when it was made, since 1970, and its base."""

    stage: int
    sent_at: float
    base: float


class Unanswered(NamedTuple):
    """A chunk whose answer is missing. `sent_at`: since 1970. `started_again`: it was answered, and
    what it started has died with an embedded target."""

    number: int
    stage: int
    batch: int
    seed: str
    positions: Sequence[int]
    sent_at: float
    base: float
    started_again: bool


class Unsettled(NamedTuple):
    """An accepted event without an outcome."""

    position: int
    chunk: int
    internal_id: str
    sent_at: float  # since 1970


class Control(NamedTuple):
    """What operators have requested, from whatever terminal; None where they have not. `hold`: why
    nothing is sent to the run's target."""

    wanted: Literal["pause", "cancel"] | None = None
    batch_size: int | None = None
    delay: float | None = None
    max_in_flight: int | None = None
    hold: str | None = None


@frozen
class Observation:
    """What one look at an event's jobs has shown; `outcome` is None while they go on."""

    event: SentEvent
    jobs: tuple[Job, ...]
    outcome: Outcome | None = None
    message: str | None = None


class Patiently(Protocol):
    async def __call__(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None, /
    ) -> Any:
        """`attempt`, again while it raises `TargetDown`, for as long as the run is patient, and
        `most` seconds."""


class JournalReads(Protocol):
    """What the record of one run tells. Every method raises `TargetError` where the state cannot be
    used."""

    run_id: str
    started_at: float

    def control(self) -> Control: ...

    def next_position(self) -> int:
        """How many events have been decided; the next one to send."""

    def next_chunk(self) -> int: ...

    def driven(self) -> Driven:
        """When somebody drove the run, up to now."""

    def latest(self) -> Latest | None:
        """None before the first request."""

    def unanswered(self) -> Sequence[Unanswered]:
        """Chunks whose answer never arrived."""

    def unsettled(self) -> Sequence[Unsettled]: ...

    def going_on(self) -> Mapping[int, tuple[Job, ...]]:
        """What is known of the jobs of events without an outcome, by position."""

    def by_stage(self) -> Mapping[int, StageFigures]:
        """The figures of each stage that was begun."""

    def with_ends(self) -> Mapping[int, StageFigures]:
        """The same, with when the latest event of each ended."""

    def remembered(self, name: str, /) -> Json: ...

    def checks(self) -> Sequence[CheckResult]: ...

    def rounds(self, stage: int, /) -> Sequence[Round]: ...

    def totals(self) -> Totals: ...

    def failures(self) -> Sequence[Failure]:
        """The events that did not take effect, but for those that a later attempt made good."""

    def made_good(self) -> Mapping[int, int]:
        """How many events failed whose work a later attempt has done, by stage."""

    def reached(self) -> frozenset[int]:
        """The stages that have reached their goal."""

    def chain(self) -> Chain | None:
        """The run and its retries together; None where it is alone."""

    def links(self, limit: int, /) -> Sequence[JobLink]:
        """The first jobs."""


class Journal(JournalReads, Protocol):
    """The record of one run, written ahead of every send.

    Every method that writes raises `LeaseLost`, and writes nothing, where another process has
    taken the run over.
    """

    def begin_chunk(self, chunk: Chunk, seen: Control, /) -> bool:
        """Write down a request; False, and nothing is, where others have come than `control`."""

    def accept(self, chunk: Chunk, answer: Answer, /) -> None:
        """Keep what was taken and what was refused; forget the events after that.

        What was taken whole is written by `settle`, or with what comes next.
        """

    def settle(self) -> None: ...

    def withdraw(self, chunk: Chunk, /) -> None:
        """Nothing of the chunk was taken, and it will be cut differently."""

    def record(self, observations: Sequence[Observation], /) -> None: ...

    def note(self, message: str, /) -> None: ...

    def waiting(self, stage: int, wait: Waiting | None, /) -> None: ...

    def keep_lease(self) -> None: ...

    def drive(self) -> None:
        """From now on somebody drives the run: what is written says so too, until `rest`."""

    def rest(self) -> None: ...

    def end(self, status: RunStatus, reason: str | None = None, /) -> None: ...

    def remember(self, name: str, value: Json, /) -> None:
        """Keep an answer of the user's database; a later one of that name goes over it."""

    def keep_check(self, result: CheckResult, /) -> None: ...

    def begin_round(self, plan: ExecutionPlan, begun: Round, origins: Mapping[int, int], /) -> None:
        """Write down a round and its events, which are the last ones of its stage in `plan`, and
        which of them were sent for before: by position, that of the first attempt."""

    def reach(self, stage: int, left: float | None, plan: ExecutionPlan | None = None, /) -> None:
        """The stage has reached its goal, with so much left; before any round where there is a
        `plan`, in which it has no events."""
