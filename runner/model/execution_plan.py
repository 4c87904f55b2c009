"""The execution plan: every event that would be sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Literal, NamedTuple, Protocol

from runner.model.plan import (
    Cap,
    FailureLimit,
    ForEach,
    GuardSpec,
    IfEmpty,
    Input,
    OnFailure,
    Pacing,
    Partial,
    Schedule,
    Skipped,
    Wait,
    WindowGuard,
)
from runner.model.problem import Problem
from runner.model.question import BUILT_IN, PARAMETERS, Check, Fact, Measure, Needs, Until
from runner.model.value import Data, frozen

QUEUE_TIMEOUT = 86_400.0  # seconds in which a job must start
MAX_NAMED = 5  # items that a group of skipped items names


class Event(NamedTuple):
    """An event as Inngest takes it; `id` is the idempotency key, `ts` is in ms since 1970."""

    name: str
    data: Data
    id: str | None = None  # if the plan gives one
    ts: int | None = None
    operation: str | None = None  # in a stage of several operations


class PlannedEvent(NamedTuple):
    """An event and its place in the plan; stages and batches count from 1."""

    stage: int
    operation: str
    batch: int
    item: str
    event: Event


class Items(Protocol):
    """The items of a stage in sending order, each with its event."""

    def __len__(self) -> int: ...

    def raw(self, start: int = 0, /) -> Iterator[tuple[str, bytes]]:
        """Yield each item and its payload as JSON."""

    def lines(self, start: int = 0, /) -> Iterator[list[bytes]]:
        """Yield items and payloads in blocks as they are stored; see `EventBlocks.lines`."""

    def events(self, start: int = 0, /) -> Iterator[tuple[str, Event]]: ...


@frozen
class StageSpec(ABC):
    """How the events of one operation are sent."""

    number: int
    operation: str
    event: str
    for_each: ForEach
    pacing: Pacing
    wait: Wait
    timeout: float
    canary: int = 0  # events that go first, as a batch of their own
    begins: float | None = None  # for scheduled pacing: seconds from the start of the run
    numbered: bool = False  # an item may occur more than once
    repeated: bool = False  # ... because its event is sent several times for each item
    deferred: bool = False  # its items are resolved when it starts; these are today's
    until: Until | None = None  # sent in rounds until this holds
    needs: Needs | None = None  # what each of its events costs
    own: bool = False  # events have their own ids, times or operations
    grouped: bool = False  # one event covers several items
    members: tuple[tuple[str, str], ...] = ()  # the name and event of each of several operations
    cap: Cap | None = None
    queue_timeout: float = QUEUE_TIMEOUT

    @property
    def waits(self) -> bool:
        """Whether the stage is done only when its jobs are, so that events in flight can be
        counted."""
        return self.wait == "completed" and self.begins is None

    @property
    @abstractmethod
    def total(self) -> int:
        """The number of events."""

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.members) or (self.operation,)

    @property
    def goal_finds_out(self) -> bool:
        """Whether its goal is about items that it resolves when it starts."""
        if self.until is None or self.for_each in ("once", "row"):
            return False
        question = self.until.question
        if self.for_each in BUILT_IN:  # they are given, but a lookup decides what runs for them
            return not PARAMETERS.keys().isdisjoint(question.parameters)
        of_parts = question.of not in (None, *BUILT_IN, "row")  # of a product
        return of_parts or not {self.for_each, "ids"}.isdisjoint(question.parameters)

    @property
    def event_names(self) -> tuple[str, ...]:
        return tuple(event for _, event in self.members) or (self.event,)

    @property
    def batches(self) -> int:
        return self.batch_of(self.total - 1) if self.total else 0

    @property
    def duration(self) -> float:
        """Seconds that the delays between the batches take."""
        return max(0, self.batches - 1) * self.pacing.mean

    def batch_of(self, index: int) -> int:
        """Return the batch of the `index`-th event; batches count from 1, events from 0."""
        if index < self.canary:
            return 1
        return (index - self.canary) // self.pacing.batch_size + 1 + bool(self.canary)

    def begins_batch(self, index: int) -> bool:
        return index in (0, self.canary) or (
            index > self.canary and (index - self.canary) % self.pacing.batch_size == 0
        )

    def left_of_batch(self, index: int) -> int:
        """Return how many events its batch still has, from the `index`-th event on."""
        if index < self.canary:
            return self.canary - index
        return self.pacing.batch_size - (index - self.canary) % self.pacing.batch_size

    def at(self, batch: int) -> float | None:
        """Return when a batch starts, in seconds from the start of the run; None if not
        scheduled."""
        return None if self.begins is None else self.begins + (batch - 1) * self.pacing.delay


@frozen
class Stage(StageSpec):
    """All events of one operation; the next stage starts when this one is done."""

    items: Items = field(kw_only=True)

    @property
    def total(self) -> int:
        return len(self.items)

    def planned(self, start: int = 0) -> Iterator[PlannedEvent]:
        """Yield the stage's events in sending order, from the `start`-th (0-based) on."""
        for index, (item, event) in enumerate(self.items.events(start), start):
            operation = event.operation or self.operation
            yield PlannedEvent(self.number, operation, self.batch_of(index), item, event)


@frozen
class StageHead(StageSpec):
    """A stage without its events."""

    count: int = field(kw_only=True)

    @property
    def total(self) -> int:
        return self.count


class Verdict(NamedTuple):
    """Whether a plan meets a rule of the policy. `reason`: why not; `message`: what the rule says
    to do about it; `place`: where the rule is written."""

    name: str
    level: Literal["mandatory", "advisory"]
    holds: bool
    reason: str
    message: str | None
    place: Problem

    @property
    def problem(self) -> Problem:
        """The problem to report if the rule is broken."""
        return replace(
            self.place,
            message=f"the rule `{self.name}` does not hold: {self.reason}",
            hint=self.message or self.place.hint,
            severity="error" if self.level == "mandatory" else "warning",
            rule=f"policy/{self.name}",
        )


@frozen
class ExecutionPlan:
    """Exactly what will be sent, in which order, at which pace, and what is skipped and why.

    The preview prints it and the run sends it; `digest` covers everything that decides what is
    sent. It is a value: building or reading it does no I/O. `answered_at`: when (ISO 8601) the
    database answers were recorded, if the plan was built from recorded answers. `verdicts`: one for
    each rule of the policy, in order. `requires`: the environment in which the plan must have been
    proved first. `schedule`: when workers start it. `variables`: of the plan, whoever gave them;
    None if an older version wrote it, which kept only those of the command.
    """

    name: str
    path: str
    digest: str
    stages: tuple[Stage, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[Problem, ...]
    on_failure: OnFailure = "stop"
    give_up_after: float | None = None  # seconds; None: the default
    metadata: Data = field(default_factory=dict)
    handlers: Mapping[str, str] = field(default_factory=dict)
    max_failures: FailureLimit | None = None
    approval: int | None = None
    guards: tuple[GuardSpec, ...] = ()
    inputs: tuple[Input, ...] = ()
    checks: tuple[Check, ...] = ()
    facts: tuple[Fact, ...] = ()
    coverage: tuple[Measure, ...] = ()
    answered_at: str | None = None
    if_empty: IfEmpty = "fail"
    accept: Mapping[str, str] = field(default_factory=dict)
    partial: Partial | None = None
    verdicts: tuple[Verdict, ...] = ()
    requires: str | None = None
    schedule: Schedule | None = None
    variables: Data | None = None

    @property
    def windows(self) -> tuple[WindowGuard, ...]:
        """The hours in which events may be sent."""
        return tuple(guard for guard in self.guards if isinstance(guard, WindowGuard))

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The rules of the policy that the plan breaks."""
        return tuple(verdict for verdict in self.verdicts if not verdict.holds)

    @property
    def needs(self) -> Needs:
        """What all events cost, as far as the catalog declares it."""
        costs = [(stage.total, stage.needs) for stage in self.stages if stage.needs]
        return Needs(
            sum(total * needs.github_points for total, needs in costs),
            sum(total * needs.usd for total, needs in costs),
            sum(total * needs.seconds for total, needs in costs),
        )

    @property
    def deferred(self) -> bool:
        """Whether the items of some stage are resolved only when it starts."""
        return any(stage.deferred for stage in self.stages)

    @property
    def may_send(self) -> bool:
        return bool(self.events) or self.deferred

    @property
    def needs_approval(self) -> bool:
        """Deferred plans always need it, if a limit is set: their number of events is unknown."""
        if self.approval is None:
            return False
        return self.events > self.approval or self.deferred

    @property
    def scheduled(self) -> bool:
        """Whether the events carry their own start times, so that the server spreads the load."""
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


class SkippedGroup(NamedTuple):
    """Skipped items with the same operation and reason.

    `items` are the first of `total`, which is 0 if the whole operation is skipped.
    """

    operation: str
    reason: str
    total: int
    items: tuple[str, ...]


def group_skipped(skipped: Iterable[Skipped]) -> list[SkippedGroup]:
    """Group by operation and reason, in order of first appearance."""
    groups: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for entry in skipped:
        total, items = groups.get((entry.operation, entry.reason), (0, []))
        if entry.item is not None:
            total += 1
            items += [entry.item] if len(items) < MAX_NAMED else []
        groups[entry.operation, entry.reason] = total, items
    return [
        SkippedGroup(operation, reason, total, tuple(items))
        for (operation, reason), (total, items) in groups.items()
    ]


@frozen
class RunHead:
    """A run's execution plan without its events, which the journal stores separately."""

    name: str
    stages: tuple[StageHead, ...]
    skipped: tuple[SkippedGroup, ...]
    inputs: tuple[Input, ...]
    coverage: tuple[Measure, ...]
    partial: Partial | None = None
    windows: tuple[WindowGuard, ...] = ()
    variables: Data | None = None
