"""What is wanted, and what would be sent.

What there may be a million of is a NamedTuple, which is made four times as fast as a frozen
dataclass; everything else is a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from runner.model.guard import GuardSpec
from runner.model.json import Data, Json

Severity = Literal["error", "warning"]
ForEach = Literal["repo", "workspace", "once"]
Wait = Literal["sent", "completed"]
Load = Literal["internal", "external", "heavy"]
OnFailure = Literal["stop", "continue"]


class Input(NamedTuple):
    """A file that a plan was read from; with the same bytes it gives the same plan."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many events may fail: a number of them, or a ratio of those that have ended."""

    count: int | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (or unwise) in a file: what, where (1-based), and what to do."""

    message: str
    path: str
    line: int | None = None
    column: int | None = None
    source: str | None = None
    hint: str | None = None
    severity: Severity = "error"
    rule: str = "plan"


@dataclass(frozen=True, slots=True)
class Pacing:
    """`batch_size` events, then `delay` seconds."""

    batch_size: int
    delay: float


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a plan: its catalog entry with the plan's own words applied.

    `payload` and `when` are compiled templates: functions of the rendering context.
    """

    name: str
    event: str
    for_each: ForEach
    payload: Payload
    contract: Contract
    after: tuple[str, ...]
    pacing: Pacing
    load: Load
    wait: Wait
    timeout: float
    when: Condition | None = None
    description: str = ""


class Payload(Protocol):
    def __call__(self, context: Mapping[str, Json], /) -> Data:
        """The event's data; a ValueError where a template cannot be rendered."""

    def explain(self, context: Mapping[str, Json], item: str, /) -> tuple[Problem, ...]:
        """Why rendering failed: each template that does not render, and its line."""

    def problem(self, message: str, /) -> Problem:
        """A problem at the place where the payload is written."""


class Condition(Protocol):
    @property
    def source(self) -> str: ...

    def __call__(self, context: Mapping[str, Json], /) -> bool: ...

    def explain(self, error: ValueError, item: str, /) -> tuple[Problem, ...]:
        """Why it cannot be decided for `item`, at the place where it is written."""


class Contract(Protocol):
    @property
    def accepts(self) -> Callable[[Json], bool]: ...

    def explain(self, data: Data, item: str, /) -> tuple[Problem, ...]:
        """Why `data` is not accepted: the item, and the template's line."""


class Repositories(Protocol):
    """The repositories of a plan, in written order; rows are made when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data:
        """The attributes of one repository: `repo`, `owner`, `name` and whatever is written."""

    def __iter__(self) -> Iterator[Data]: ...

    def place(self, index: int, /) -> Problem:
        """A problem with an empty message at the place where the repository is written."""


@dataclass(frozen=True, slots=True)
class OrderKey:
    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What people wrote and reviewed, with every template compiled and every name resolved."""

    name: str
    path: str
    metadata: Data
    variables: Data
    repositories: Repositories
    workspace: str | None
    operations: tuple[Operation, ...]
    left_out: tuple[Skipped, ...]
    order_by: tuple[OrderKey, ...]
    on_failure: OnFailure
    handlers: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    max_failures: FailureLimit | None = None
    canary: int = 0
    scheduled: bool = False
    guards: tuple[GuardSpec, ...] = ()
    inputs: tuple[Input, ...] = ()


class Event(NamedTuple):
    """An event as Inngest takes it; `id` is the idempotency key, `ts` is in ms since 1970."""

    name: str
    data: Data


class PlannedEvent(NamedTuple):
    """One event in its place: stage and batch count from 1."""

    stage: int
    operation: str
    batch: int
    item: str
    event: Event


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is left out, and why; `item` is None where the whole operation is."""

    operation: str
    item: str | None
    reason: str


class Items(Protocol):
    """The items of a stage in sending order, each with its event."""

    def __len__(self) -> int: ...

    def raw(self, start: int = 0, /) -> Iterator[tuple[str, bytes]]:
        """Each item and its payload as JSON."""

    def events(self, start: int = 0, /) -> Iterator[tuple[str, Event]]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """All events of one operation; the next stage starts when this one is done."""

    number: int
    operation: str
    event: str
    for_each: ForEach
    pacing: Pacing
    wait: Wait
    timeout: float
    items: Items
    canary: int = 0  # events that go first, as a batch of their own
    begins: float | None = None  # where pacing is scheduled: seconds from the start of the run

    @property
    def total(self) -> int:
        return len(self.items)

    @property
    def batches(self) -> int:
        return self.batch_of(self.total - 1) if self.total else 0

    @property
    def duration(self) -> float:
        """Seconds that the pacing alone takes: the delays between the batches."""
        return max(0, self.batches - 1) * self.pacing.delay

    def batch_of(self, index: int) -> int:
        """The batch of the `index`-th event; batches count from 1, events from 0."""
        if index < self.canary:
            return 1
        return (index - self.canary) // self.pacing.batch_size + 1 + bool(self.canary)

    def left_of_batch(self, index: int) -> int:
        """How many events are left of a batch that has come to its `index`-th event."""
        if index < self.canary:
            return self.canary - index
        return self.pacing.batch_size - (index - self.canary) % self.pacing.batch_size

    def at(self, batch: int) -> float | None:
        """When a batch is to start, in seconds from the start of the run; None: once sent."""
        return None if self.begins is None else self.begins + (batch - 1) * self.pacing.delay

    def planned(self, start: int = 0) -> Iterator[PlannedEvent]:
        """The stage's events from the `start`-th on (0-based), in sending order."""
        for index, (item, event) in enumerate(self.items.events(start), start):
            yield PlannedEvent(self.number, self.operation, self.batch_of(index), item, event)


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """Exactly what will be sent, in which order, at which pace, and what is left out and why.

    The preview prints it and the run sends it; `digest` covers everything that decides what
    is sent. A value: building it or reading it does no I/O.
    """

    name: str
    path: str
    digest: str
    stages: tuple[Stage, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[Problem, ...]
    on_failure: OnFailure = "stop"
    metadata: Data = field(default_factory=dict)
    handlers: Mapping[str, str] = field(default_factory=dict)
    max_failures: FailureLimit | None = None
    guards: tuple[GuardSpec, ...] = ()
    inputs: tuple[Input, ...] = ()

    @property
    def scheduled(self) -> bool:
        """Does the server spread the load, by the events' own times?"""
        return any(stage.begins is not None for stage in self.stages)

    @property
    def events(self) -> int:
        return sum(stage.total for stage in self.stages)

    @property
    def batches(self) -> int:
        return sum(stage.batches for stage in self.stages)

    @property
    def duration(self) -> float:
        return sum(stage.duration for stage in self.stages)

    def planned(self) -> Iterator[PlannedEvent]:
        for stage in self.stages:
            yield from stage.planned()
