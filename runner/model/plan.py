"""What is wanted.

What there may be a million of is a NamedTuple, which is made four times as fast as a frozen
dataclass; everything else is a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from shlex import quote
from typing import Literal, NamedTuple, Protocol, TypeAlias

from runner.model.problem import Acceptance, Payload, Problem
from runner.model.question import (
    CheckSpec,
    Coverage,
    Draining,
    Found,
    Lookup,
    Narrowing,
    Needs,
    Question,
)
from runner.model.value import Data, Json, frozen

ForEach: TypeAlias = str  # repo, workspace, once, or row: those of the operation's own query
Wait = Literal["sent", "completed"]
Load = Literal["internal", "external", "heavy"]
OnFailure = Literal["stop", "continue"]
Flow = Literal["stages", "items"]
IfEmpty = Literal["fail", "ok"]


class Input(NamedTuple):
    """A file that a plan was read from; with the same bytes it gives the same plan."""

    path: str
    sha256: str


@frozen
class FailureLimit:
    """How many events may fail: a number of them, or a ratio of those that have ended."""

    count: int | None = None
    ratio: float | None = None


@frozen
class Schedule:
    """When a plan is started, again and again: five fields of cron, in a zone of IANA's."""

    cron: str
    timezone: str = "UTC"


@frozen
class Pacing:
    """`batch_size` events, then `delay` seconds and up to `jitter` more, as the run chooses."""

    batch_size: int
    delay: float
    jitter: float = 0.0

    @property
    def mean(self) -> float:
        """How long a pause is, of many."""
        return self.delay + self.jitter / 2

    def tuned(self, batch_size: int | None, delay: float | None) -> Pacing:
        """With what an operator has set: a delay of theirs is the whole pause."""
        if batch_size is None and delay is None:
            return self
        size = batch_size or self.batch_size
        if delay is None:
            return replace(self, batch_size=size)
        return Pacing(size, delay)


class Cap(NamedTuple):
    """At most so many events without an outcome; `written`: somebody says so, and the load of the
    operation has not given it."""

    events: int
    written: bool = True


@frozen
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
    collection: str = ""  # where its items are, in the plan's collections
    repeat: Amount | None = None  # how often its event is sent for each item
    lookups: tuple[str, ...] = ()  # those that its items need
    group: int = 1  # how many items go into one event
    own_id: Payload | None = None  # the event's own id, under `id`
    at: Payload | None = None  # the event's start time, under `at`
    throttle: Throttle | None = None  # where it counts for each key
    deferred: bool = False  # its lookups and rows are asked when its stage starts
    until: Draining | None = None
    needs: Needs | None = None
    advice: tuple[Advice, ...] = ()
    cap: Cap | None = None
    queue_timeout: float | None = None


class Advice(NamedTuple):
    """A catalog's own warning for items of which `condition` is true; `place` has no message."""

    name: str
    condition: Condition
    message: str
    hint: str | None
    place: Problem


@frozen
class Throttle:
    """At most `limit` events in `per` seconds with the same `key`; None: the item."""

    limit: int
    per: float
    key: Payload | None


class Condition(Protocol):
    @property
    def source(self) -> str: ...

    def __call__(self, context: Mapping[str, Json], /) -> bool: ...

    def explain(self, error: ValueError, item: str, /) -> tuple[Problem, ...]:
        """Why it cannot be decided for `item`, at the place where it is written."""


class Amount(Protocol):
    def __call__(self, context: Mapping[str, Json], /) -> int:
        """How many; a ValueError where it cannot be told."""

    def explain(self, error: ValueError, item: str, /) -> tuple[Problem, ...]:
        """Why it cannot be told for `item`, at the place where it is written."""


class Contract(Protocol):
    @property
    def accepts(self) -> Callable[[Json], bool]: ...

    def explain(self, data: Data, item: str, /) -> tuple[Problem, ...]:
        """Why `data` is not accepted: the item, and the template's line."""


class Rows(Protocol):
    """The attributes of items, in written order; each row is made when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def __iter__(self) -> Iterator[Data]: ...

    def place(self, index: int, /) -> Problem:
        """A problem with an empty message at the place where the row is written."""

    @property
    def asked(self) -> bool:
        """Does the database have to be asked for some of them?"""


class Kind(Protocol):
    """What the items of a collection are."""

    @property
    def for_each(self) -> ForEach:
        """The word by which operations run for them."""

    @property
    def called(self) -> str:
        """What messages call one of them."""

    @property
    def parameter(self) -> str:
        """What queries call them all: ``:repos``."""

    @property
    def parts(self) -> Mapping[str, Kind]:
        """What it is a product of, by what its items call theirs."""

    @property
    def skipping(self) -> str:
        """Who says that an item leaves out an operation."""

    def name_of(self, row: Data, /) -> str: ...

    def same(self, name: str, /) -> str:
        """What is equal for two names of one item."""

    def show(self, row: Data, context: Data, /) -> None:
        """Put what templates see of an item into their context."""


@frozen
class Collection:
    """Items of one kind. Repositories and workspaces are built in; others are the plan's own."""

    kind: Kind
    rows: Rows


@frozen
class OrderKey:
    attribute: str
    descending: bool = False


NOT_SELECTED = "not selected"  # by the selectors, which leave it out


@frozen
class Skipped:
    """What is skipped, and why; `item` is None where the whole operation is."""

    operation: str
    item: str | None
    reason: str


@frozen
class BackfillPlan:
    """What people wrote and reviewed, with every template compiled and every name resolved."""

    name: str
    path: str
    metadata: Data
    variables: Data
    collections: Mapping[str, Collection]
    workspace: str | None
    operations: tuple[Operation, ...]
    skipped: tuple[Skipped, ...]
    order_by: tuple[OrderKey, ...]
    on_failure: OnFailure
    handlers: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    max_failures: FailureLimit | None = None
    give_up_after: float | None = None
    approval: int | None = None  # more events than this need an approval; None: no number does
    flow: Flow = "stages"
    canary: int = 0
    scheduled: bool = False
    schedule: Schedule | None = None
    guards: tuple[GuardSpec, ...] = ()
    inputs: tuple[Input, ...] = ()
    replaced: tuple[Input, ...] = ()  # collections that a file was given for, by name
    lookups: tuple[Lookup, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    narrowing: Mapping[ForEach, Narrowing] = field(default_factory=dict)
    workspace_repos: Question | None = None  # how a workspace's repositories are found
    found: Found = field(default_factory=Found)
    if_empty: IfEmpty = "fail"
    idle_order: Problem | None = None  # what to say of the order where there is one workspace
    accept: Mapping[str, Acceptance] = field(default_factory=dict)
    requires: str | None = None  # the environment where it must have been proved before

    @property
    def repositories(self) -> Rows:
        return self.collections["repo"].rows

    def having(self, **collections: Collection) -> BackfillPlan:
        """The plan with these in place of those of their names."""
        return replace(self, collections={**self.collections, **collections})


@frozen
class GithubGuard:
    """Hold while fewer than `remaining` points of GitHub's hourly rate limit are left."""

    remaining: int


@frozen
class HttpGuard:
    """Hold unless a GET of `url` answers 2xx."""

    url: str


@frozen
class SqlGuard:
    """Hold unless the one value that `query` gives lies within the bounds; without bounds, while
    it is false."""

    query: str
    at_most: float | None = None
    at_least: float | None = None


@frozen
class CommandGuard:
    """Hold unless the program exits with 0; no shell is involved."""

    arguments: tuple[str, ...]


@frozen
class FileGuard:
    """Hold while the file exists."""

    path: str


@frozen
class WindowGuard:
    """Hold outside some hours (``22:00-06:00``) of some days (``mon-fri``): see
    `runner.spec.opening`."""

    allow: str
    days: str = "mon-sun"
    timezone: str = "UTC"

    @property
    def words(self) -> str:
        days = "" if self.days == "mon-sun" else f", {self.days}"
        return f"{self.allow}{days}, {self.timezone}"


GuardSpec: TypeAlias = GithubGuard | HttpGuard | SqlGuard | CommandGuard | FileGuard | WindowGuard


@frozen
class Selectors:
    """`only`, `skip`: operations. `items`: globs on names, after `!` to leave out. `limit`: the
    first so many items of each collection; `sample`: so many of them, chosen by `seed`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.only or self.skip or self.of_items)

    @property
    def of_items(self) -> bool:
        """Are they about items, beside operations?"""
        return bool(self.items) or self.limit is not None or self.sample is not None

    @property
    def words(self) -> str:
        """As options say it."""
        said = [f"--only {quote(name)}" for name in self.only]
        said += [f"--skip {quote(name)}" for name in self.skip]
        said += [f"--item {quote(glob)}" for glob in self.items]
        said += [] if self.limit is None else [f"--limit {self.limit}"]
        said += [] if self.sample is None else [f"--sample {self.sample} --seed {self.seed}"]
        return " ".join(said)


@frozen
class Partial:
    """A part of a plan. `chosen`: the names of the items that count, by what operations run for,
    where more than their names decides that."""

    selectors: Selectors
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
