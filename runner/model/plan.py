"""The plan file as values.

Types that may have a million instances are NamedTuples, which are four times as fast to create as
frozen dataclasses; all others are frozen dataclasses.
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

ForEach: TypeAlias = str  # repo, workspace, once, or row for the rows of the operation's own query
Wait = Literal["sent", "completed"]
Load = Literal["internal", "external", "heavy"]
OnFailure = Literal["stop", "continue"]
Flow = Literal["stages", "items"]
IfEmpty = Literal["fail", "ok"]


class Input(NamedTuple):
    """A file that the plan was read from; the same bytes give the same plan."""

    path: str
    sha256: str


@frozen
class FailureLimit:
    """How many events may fail: a number, or a ratio of those that have ended."""

    count: int | None = None
    ratio: float | None = None


@frozen
class Schedule:
    """When the plan is started: a cron expression with five fields, in an IANA time zone."""

    cron: str
    timezone: str = "UTC"

    @property
    def words(self) -> str:
        return f"{self.cron} {self.timezone}"


@frozen
class Pacing:
    """`batch_size` events, then a pause of `delay` seconds plus a random part of `jitter`."""

    batch_size: int
    delay: float
    jitter: float = 0.0

    @property
    def mean(self) -> float:
        """The average pause in seconds."""
        return self.delay + self.jitter / 2

    def tuned(self, batch_size: int | None, delay: float | None) -> Pacing:
        """Apply an operator's settings; their delay replaces the jitter, too."""
        if batch_size is None and delay is None:
            return self
        size = batch_size or self.batch_size
        if delay is None:
            return replace(self, batch_size=size)
        return Pacing(size, delay)


class Cap(NamedTuple):
    """At most `events` without an outcome; `written`: given explicitly, not derived from the load
    of the operation."""

    events: int
    written: bool = True


@frozen
class Operation:
    """One operation of a plan: its catalog entry with the plan's overrides applied.

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
    collection: str = ""  # the plan's collection that has its items
    repeat: Amount | None = None  # how often its event is sent for each item
    lookups: tuple[str, ...] = ()  # the lookups that its items need
    group: int = 1  # items for each event
    own_id: Payload | None = None  # renders the event's own id, under `id`
    at: Payload | None = None  # renders the event's start time, under `at`
    throttle: Throttle | None = None  # the throttle that counts by key
    deferred: bool = False  # its lookups and rows are queried when its stage starts
    until: Draining | None = None
    needs: Needs | None = None
    advice: tuple[Advice, ...] = ()
    cap: Cap | None = None
    queue_timeout: float | None = None


class Advice(NamedTuple):
    """A catalog's warning for items that meet `condition`; `place` has no message."""

    name: str
    condition: Condition
    message: str
    hint: str | None
    place: Problem


@frozen
class Throttle:
    """At most `limit` events in `per` seconds with the same `key`; None: the item is the key."""

    limit: int
    per: float
    key: Payload | None


class Condition(Protocol):
    @property
    def source(self) -> str: ...

    def __call__(self, context: Mapping[str, Json], /) -> bool: ...

    def explain(self, error: ValueError, item: str, /) -> tuple[Problem, ...]:
        """Say why it cannot be decided for `item`, and where it is written."""


class Amount(Protocol):
    def __call__(self, context: Mapping[str, Json], /) -> int:
        """Return how many; raise ValueError if that cannot be decided."""

    def explain(self, error: ValueError, item: str, /) -> tuple[Problem, ...]:
        """Say why it cannot be decided for `item`, and where it is written."""


class Contract(Protocol):
    @property
    def accepts(self) -> Callable[[Json], bool]: ...

    def explain(self, data: Data, item: str, /) -> tuple[Problem, ...]:
        """Say why `data` is not accepted: the item, and the template's line."""


class Rows(Protocol):
    """The attributes of items, in written order; each row is made on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def __iter__(self) -> Iterator[Data]: ...

    def place(self, index: int, /) -> Problem:
        """Return a problem with an empty message at the place where the row is written."""

    @property
    def asked(self) -> bool:
        """Whether some of the rows come from the database."""


class Kind(Protocol):
    """What the items of a collection are."""

    @property
    def for_each(self) -> ForEach:
        """The value of `for_each` that selects these items."""

    @property
    def called(self) -> str:
        """What messages call one of the items."""

    @property
    def parameter(self) -> str:
        """The query parameter for all items: ``:repos``."""

    @property
    def parts(self) -> Mapping[str, Kind]:
        """The kinds this is a product of, by the name its items give each part."""

    def name_of(self, row: Data, /) -> str: ...

    def same(self, name: str, /) -> str:
        """Return a key that is equal for two spellings of one item's name."""

    def show(self, row: Data, context: Data, /) -> None:
        """Add to the context what templates can read of an item."""


@frozen
class Collection:
    """Items of one kind. Repositories and workspaces are built in; a plan may define others."""

    kind: Kind
    rows: Rows


@frozen
class OrderKey:
    attribute: str
    descending: bool = False


NOT_SELECTED = "not selected"  # the reason given for what the selectors skip


@frozen
class Skipped:
    """A skipped item and the reason; `item` is None if the whole operation is skipped."""

    operation: str
    item: str | None
    reason: str


@frozen
class BackfillPlan:
    """A plan file with every template compiled and every name resolved."""

    name: str
    path: str
    metadata: Data
    variables: Data
    collections: Mapping[str, Collection]
    workspace: str | None  # of a plan that lists no repositories
    operations: tuple[Operation, ...]
    skipped: tuple[Skipped, ...]
    order_by: tuple[OrderKey, ...]
    on_failure: OnFailure
    handlers: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    max_failures: FailureLimit | None = None
    give_up_after: float | None = None
    approval: int | None = None  # more events than this need an approval; None: no limit
    flow: Flow = "stages"
    canary: int = 0
    scheduled: bool = False
    schedule: Schedule | None = None
    guards: tuple[GuardSpec, ...] = ()
    inputs: tuple[Input, ...] = ()
    replaced: tuple[Input, ...] = ()  # collections that were replaced by a file, by name
    lookups: tuple[Lookup, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    narrowing: Mapping[ForEach, Narrowing] = field(default_factory=dict)
    workspace_repos: Question | None = None  # the query for a workspace's repositories
    found: Found = field(default_factory=Found)
    if_empty: IfEmpty = "fail"
    idle_order: Problem | None = None  # the warning that `order_by` sorts nothing
    accept: Mapping[str, Acceptance] = field(default_factory=dict)
    requires: str | None = None  # the environment in which the plan must have been proved first

    @property
    def repositories(self) -> Rows:
        return self.collections["repo"].rows

    def having(self, **collections: Collection) -> BackfillPlan:
        """Return the plan with these collections added or replaced."""
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
    """Hold unless the single value of `query` lies within the bounds; without bounds, while it is
    false."""

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
    """Hold outside the hours `allow` (``22:00-06:00``) of `days` (``mon-fri``): see
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
    """Which part of a plan to use.

    `only`, `skip`: operations. `items`: globs on item names, `!` excludes. `limit`: how many items
    of each collection, from the first; `sample`: how many, chosen by `seed`.
    """

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
        """Whether they select items, not only operations."""
        return bool(self.items) or self.limit is not None or self.sample is not None

    @property
    def words(self) -> str:
        """The selectors as command-line options."""
        said = [f"--only {quote(name)}" for name in self.only]
        said += [f"--skip {quote(name)}" for name in self.skip]
        said += [f"--item {quote(glob)}" for glob in self.items]
        said += [] if self.limit is None else [f"--limit {self.limit}"]
        said += [] if self.sample is None else [f"--sample {self.sample} --seed {self.seed}"]
        return " ".join(said)


@frozen
class Partial:
    """A part of a plan. `chosen`: the selected items by `for_each`, if the selection depends on
    more than their names."""

    selectors: Selectors
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
