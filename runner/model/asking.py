"""What plans ask of the database, and what it has answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from typing import Literal, NamedTuple, TypeAlias

from runner.model.problem import Payload, Problem
from runner.model.question import Query
from runner.model.value import Data, Json, as_compared, frozen

Moment = Literal["before", "after", "end"]
Change = Literal["increased", "decreased"]
ItemKind: TypeAlias = str  # as `for_each` has it
RUN_STARTED = "run.started_at"
_SHARES = frozenset(("pct", "perc", "percent", "percentage", "coverage"))  # of a column's words


@frozen
class Question:
    """A query as it is written: its parameters are templates still; `place` has no message.

    `of` is what it asks about: the items of that kind for which the operation runs. `key` is the
    column that names them, where the answer must hold for each; without one its figures are the
    whole's.
    """

    query: Query
    parameters: Payload
    place: Problem
    of: ItemKind | None = None
    key: str | None = None


@frozen
class BoundQuestion:
    """A question that can be asked as it is. `items`: those it was meant for, each by its name;
    `ids`, where they are known, go with them: rows name an item by the one or the other."""

    query: Query
    parameters: Mapping[str, Json]
    of: ItemKind | None = None
    key: str | None = None
    items: tuple[str, ...] = ()
    ids: tuple[Json, ...] = ()

    def by_key(self) -> dict[str, str]:
        """The item's name by what a row may call it."""
        others = zip(map(str, self.ids), self.items, strict=True) if self.ids else ()
        return {**dict(others), **{name: name for name in self.items}}

    def only(self, names: Collection[str], kind: ItemKind) -> BoundQuestion:
        """For some of its items, where those of `kind` are what it must hold for."""
        if self.key is None or self.of != kind:
            return self
        kept = [index for index, name in enumerate(self.items) if name in names]
        ids = tuple(self.ids[index] for index in kept) if self.ids else ()
        return replace(self, items=tuple(self.items[index] for index in kept), ids=ids)


@frozen
class Lookup:
    """Attributes for items: one row for each value of the attribute `key`, bound as ``:keys``.

    `required`: columns that must be there and not NULL; None: whatever comes will do.
    """

    name: str
    scope: ItemKind
    question: Question
    key: str
    required: tuple[str, ...] | None = None  # () is every column


@frozen
class Expect:
    """What an answer must be: bounds on a column of every row, or on how many rows there are."""

    column: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    equals: Json = None
    change: Change | None = None
    newer_than: str | None = None  # ISO 8601, or RUN_STARTED
    rows_at_least: int | None = None
    rows_at_most: int | None = None
    maximum: float | None = None  # what the figure can be at most, where that is written

    @property
    def full(self) -> float | None:
        """The figure beyond which the column cannot rise, where that is known."""
        if self.maximum is None and _SHARES & set((self.column or "").lower().split("_")):
            return 100.0
        return self.maximum

    @property
    def words(self) -> str:
        """As people say it: ``coverage_pct at least 95``."""
        parts = [self.column] if self.column else ["rows"]
        low = self.at_least if self.column else self.rows_at_least
        high = self.at_most if self.column else self.rows_at_most
        if low is not None and low == high:
            return f"{parts[0]} {as_compared(low)}"
        parts += [f"at least {as_compared(low)}"] if low is not None else []
        parts += [f"at most {as_compared(high)}"] if high is not None else []
        parts += [f"equal to {self.equals}"] if self.equals is not None else []
        parts += [self.change] if self.change else []
        parts += [f"newer than {self.newer_than}"] if self.newer_than else []
        return " ".join(parts)


@frozen
class CheckSpec:
    """A check as it is written; `operation` is that after which it is made, or that it is of."""

    name: str
    question: Question
    expect: Expect
    bounds: Payload  # what of `expect` is a template
    moment: Moment
    operation: str | None = None
    timeout: float = 0.0
    every: float = 15.0
    unchanged: Literal["fail", "allow"] = "fail"
    migration: str | None = None


@frozen
class Check:
    """A question with its expected answer, ready to be asked. Times are seconds.

    Asked again every `every` seconds until it holds, for `timeout` at most.
    """

    name: str
    question: BoundQuestion
    expect: Expect
    moment: Moment
    operation: str | None = None
    timeout: float = 0.0
    every: float = 15.0
    unchanged: Literal["fail", "allow"] = "fail"
    migration: str | None = None


@frozen
class Draining:
    """`until` as it is written."""

    question: Question
    expect: Expect
    bounds: Payload
    stalled_after: int
    max_rounds: int
    max_time: float


@frozen
class Until:
    """When a stage that is sent in rounds is done; `max_time` in seconds."""

    question: BoundQuestion
    expect: Expect
    stalled_after: int
    max_rounds: int
    max_time: float


class Needs(NamedTuple):
    """What the catalog declares that each event of an operation costs."""

    github_points: float = 0.0
    usd: float = 0.0
    seconds: float = 0.0


@frozen
class Coverage:
    """How much of the data is there: a query with the columns item, total, done, and, where it
    can tell, pending and last_sync."""

    name: str
    question: Question


class Measure(NamedTuple):
    """A coverage question, ready to be asked."""

    name: str
    question: BoundQuestion


@frozen
class Narrowing:
    """Which repositories count: globs on the name (``!`` leaves out), and their age in seconds."""

    globs: tuple[str, ...] = ()
    column: str = "updated_at"
    newer_than: float | None = None
    older_than: float | None = None
    place: Problem = field(default_factory=lambda: Problem("", ""))  # where it is written


class Fact(NamedTuple):
    """A question that was asked for a plan: what came decides what is sent."""

    name: str
    query: str
    rows: int
    sha256: str
    deferred: bool = False


@frozen
class Found:
    """What lookups have found, by their name and the item's key."""

    attributes: Mapping[str, Mapping[Json, Data]] = field(default_factory=dict)
    ambiguous: Mapping[str, frozenset[Json]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
