"""Questions to the user's database, and their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

from runner.model.problem import Payload, Problem
from runner.model.value import Data, Json, as_compared, as_shown, frozen

MAX_ROWS = 100_000
Moment = Literal["before", "after", "end"]
Change = Literal["increased", "decreased"]
ItemKind: TypeAlias = str  # a value of `for_each`
BUILT_IN: tuple[ItemKind, ...] = ("repo", "workspace", "once")  # the others are a plan's own
# The parameters of a query that are items of a built-in kind.
PARAMETERS: Mapping[str, ItemKind] = {"repos": "repo", "ids": "repo", "workspaces": "workspace"}
RUN_STARTED = "run.started_at"
_SHARES = frozenset(("pct", "perc", "percent", "percentage", "coverage"))  # in column names


@frozen
class Selection:
    """A question that both SQL databases and PostgREST can answer: columns of one table, for the
    rows that match all of `where`. A value may be a list (one of them), None (is null) or the name
    of a parameter, ``:name``."""

    table: str
    columns: tuple[str, ...]
    where: Mapping[str, Json] = field(default_factory=dict)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Each column and its alias in the answer: ``full_name as repo``."""
        return tuple((words[0], words[-1]) for words in map(str.split, self.columns))


@frozen
class Query:
    """SQL with parameters written ``:name``, which are bound and never interpolated; or a
    `Selection`.

    `database` is a name from the project file; None is the default one. More than `max_rows` rows
    are an error and are never truncated. `timezone` is the zone of times that have none; None: the
    zone of the session.
    """

    ask: str | Selection
    database: str | None = None
    max_rows: int = MAX_ROWS
    timezone: str | None = None

    @property
    def text(self) -> str:
        """The query on one line, for people."""
        if isinstance(self.ask, str):
            return " ".join(self.ask.split())
        where = " and ".join(f"{column} = {value}" for column, value in self.ask.where.items())
        return f"{', '.join(self.ask.columns)} of {self.ask.table}" + (where and f" where {where}")


class Table(NamedTuple):
    """An answer. Values are JSON: ids and times are text (times in ISO 8601), decimals are
    numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Json, ...], ...]

    def dicts(self) -> Iterator[Data]:
        for row in self.rows:
            yield dict(zip(self.columns, row))  # noqa: B905 - equal by construction, and hot


class QueryRefused(ValueError):
    """The database answers, but not this query: a name, a type, a permission, too many rows.

    An error is never treated as an empty answer or as zero.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DatabaseClock(NamedTuple):
    """The time according to a database.

    `now` is ISO 8601 in UTC. `zone` is the session's, which applies to times without one; `offset`
    is its current distance from UTC in seconds. `ahead`: how many seconds at least the database's
    clock is ahead of this machine's, negative if it is behind.
    """

    now: str
    zone: str
    offset: float
    ahead: float


class RowSecurity(NamedTuple):
    """A table whose policies show a role only some rows; `blind`: it has rows and shows none."""

    table: str
    blind: bool


class Database(Protocol):
    def ask(self, query: Query, parameters: Mapping[str, Json], /) -> Table:
        """Run the query, read only. `parameters` may hold more than the query uses.

        Raises `QueryRefused`; `runner.errors.TargetError` if the database cannot be reached or
        refuses the key; `PreflightRefused` if none is configured.
        """


class LiveDatabase(Database, Protocol):
    """What a run needs besides queries. Both methods raise the errors of `ask`."""

    def clock(self, name: str | None, /) -> DatabaseClock:
        """Return the time of the database with that name."""

    def row_security(
        self, query: Query, parameters: Mapping[str, Json], /
    ) -> Sequence[RowSecurity] | None:
        """Return the row security of the tables that a query reads; None if unknown."""


@frozen
class Covered:
    """The coverage of one item. `percent` is None if there is nothing to cover, never 0 or 100;
    `there`: the database has a row for it.

    `before` is `done` before the run, if known.
    """

    of: str
    item: str
    total: int
    done: int
    pending: int | None = None
    last_sync: str | None = None
    before: int | None = None
    there: bool = True

    @property
    def missing(self) -> int:
        return max(0, self.total - self.done)

    @property
    def percent(self) -> float | None:
        """Rounded down and capped, so that 100 means complete."""
        return self._rounded(100)

    @property
    def percent_text(self) -> str:
        return f"{self._rounded(10) or 0.0:.1f}"

    def _rounded(self, parts: int) -> float | None:
        if not self.total or not self.there:
            return None
        return min(self.done, self.total) * 100 * parts // self.total / parts

    @property
    def gained(self) -> int | None:
        return None if self.before is None else self.done - self.before

    @classmethod
    def unknown(cls, of: str, item: str) -> Covered:
        return cls(of, item, 0, 0, there=False)

    @classmethod
    def total_of(cls, rows: Sequence[Covered]) -> Covered:
        """Sum the rows of one coverage; a figure that one row lacks is unknown for all."""
        # Cap each row: one item's surplus does not make up for another's lack.
        befores = [min(row.before, row.total) for row in rows if row.before is not None]
        pendings = [row.pending for row in rows if row.pending is not None]
        return cls(
            rows[0].of,
            "all",
            sum(row.total for row in rows),
            sum(min(row.done, row.total) for row in rows),
            sum(pendings) if len(pendings) == len(rows) else None,
            max((row.last_sync for row in rows if row.last_sync), default=None),
            sum(befores) if len(befores) == len(rows) else None,
            all(row.there for row in rows),
        )


@frozen
class Question:
    """A query as written: its parameters are still templates; `place` has no message.

    `of` is what it asks about: the items of that kind for which the operation runs. `key` is the
    column that names them, if the answer must hold for each item; without it the figures are for
    all of them together.
    """

    query: Query
    parameters: Payload
    place: Problem
    of: ItemKind | None = None
    key: str | None = None


@frozen
class BoundQuestion:
    """A question that is ready to ask. `items`: the names of the items it is about; `ids` go with
    them, if known: rows refer to an item by either."""

    query: Query
    parameters: Mapping[str, Json]
    of: ItemKind | None = None
    key: str | None = None
    items: tuple[str, ...] = ()
    ids: tuple[Json, ...] = ()

    def by_key(self) -> dict[str, str]:
        """Map everything a row may call an item to the item's name."""
        others = zip(map(str, self.ids), self.items, strict=True) if self.ids else ()
        return {**dict(others), **{name: name for name in self.items}}

    def only(self, names: Collection[str], kind: ItemKind) -> BoundQuestion:
        """Limit it to some of its items, if it must hold for each item of `kind`."""
        if self.key is None or self.of != kind:
            return self
        kept = [index for index, name in enumerate(self.items) if name in names]
        ids = tuple(self.ids[index] for index in kept) if self.ids else ()
        return replace(self, items=tuple(self.items[index] for index in kept), ids=ids)

    def about_those_of(self, before: BoundQuestion) -> BoundQuestion:
        """Ask it about the items of `before` instead; about both if that had them in other
        parameters."""
        lists = [name for name, value in self.parameters.items() if isinstance(value, list)]
        if not before.parameters.keys() >= set(lists):
            return self.with_earlier(before)
        given = {**self.parameters, **{name: before.parameters[name] for name in lists}}
        items = before.items
        return replace(self, items=items, ids=self._ids_of(items, before), parameters=given)

    def with_earlier(self, before: BoundQuestion) -> BoundQuestion:
        """Ask it about the items of `before`, too."""
        given = {
            name: list(dict.fromkeys([*before.parameters.get(name, ()), *value]))
            if isinstance(value, list)
            else value
            for name, value in self.parameters.items()
        }
        items = tuple(dict.fromkeys((*before.items, *self.items)))
        return replace(self, items=items, ids=self._ids_of(items, before), parameters=given)

    def _ids_of(self, items: Sequence[str], before: BoundQuestion) -> tuple[Json, ...]:
        """Return the ids that go with the names; empty if one is not known."""
        known = {**before._with_ids(), **self._with_ids()}
        return tuple(known[name] for name in items) if known.keys() >= set(items) else ()

    def _with_ids(self) -> dict[str, Json]:
        return dict(zip(self.items, self.ids, strict=True)) if self.ids else {}


@frozen
class Lookup:
    """Attributes for items: one row for each value of the attribute `key`, bound as ``:keys``.

    `required`: columns that must be present and not NULL; None: no column is required.
    """

    name: str
    scope: ItemKind
    question: Question
    key: str
    required: tuple[str, ...] | None = None  # () means every column


_WHOLE, _ROUNDING = 100.0, 1e-9  # of a percentage


@frozen
class Expect:
    """What an answer must be: bounds on a column of every row, or on the number of rows."""

    column: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    equals: Json = None
    change: Change | None = None
    newer_than: str | None = None  # ISO 8601, or RUN_STARTED
    rows_at_least: int | None = None
    rows_at_most: int | None = None
    maximum: float | None = None  # the highest possible value, if given

    def is_full(self, value: float) -> bool:
        """Whether the column cannot rise any further, as far as is known. A column that is named
        like a percentage but exceeds 100 is not one."""
        if self.maximum is not None:
            return value >= self.maximum
        share = not _SHARES.isdisjoint((self.column or "").lower().split("_"))
        return share and _WHOLE <= value <= _WHOLE + _ROUNDING

    @property
    def words(self) -> str:
        """The expectation in words: ``coverage_pct at least 95``."""
        parts = [self.column] if self.column else ["rows"]
        low = self.at_least if self.column else self.rows_at_least
        high = self.at_most if self.column else self.rows_at_most
        if low is not None and low == high:
            return f"{parts[0]} {as_compared(low)}"
        parts += [f"at least {as_compared(low)}"] if low is not None else []
        parts += [f"at most {as_compared(high)}"] if high is not None else []
        parts += [f"equal to {as_shown(self.equals)}"] if self.equals is not None else []
        parts += [self.change] if self.change else []
        parts += [f"newer than {self.newer_than}"] if self.newer_than else []
        return " ".join(parts)


@frozen
class CheckSpec:
    """A check as written. `operation`: the one that it follows, or that it is about."""

    name: str
    question: Question
    expect: Expect
    bounds: Payload  # the templates within `expect`
    moment: Moment
    operation: str | None = None
    timeout: float = 0.0
    every: float = 15.0
    unchanged: Literal["fail", "allow"] = "fail"
    migration: str | None = None


@frozen
class Check:
    """A question with its expected answer, ready to ask. Times are in seconds.

    It is repeated every `every` seconds until it holds, for at most `timeout`.
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
    """`until` as written."""

    question: Question
    expect: Expect
    bounds: Payload
    stalled_after: int
    max_rounds: int
    max_time: float


@frozen
class Until:
    """When a stage that is sent in rounds is done; `max_time` is in seconds."""

    question: BoundQuestion
    expect: Expect
    stalled_after: int
    max_rounds: int
    max_time: float


class Needs(NamedTuple):
    """What each event of an operation costs, as the catalog declares it."""

    github_points: float = 0.0
    usd: float = 0.0
    seconds: float = 0.0


@frozen
class Coverage:
    """How much of the data is there: a query with the columns item, total, done and, optionally,
    pending and last_sync."""

    name: str
    question: Question


class Measure(NamedTuple):
    """A coverage question that is ready to ask."""

    name: str
    question: BoundQuestion


@frozen
class Narrowing:
    """Which repositories count: globs on the name (``!`` excludes), and their age in seconds."""

    globs: tuple[str, ...] = ()
    column: str = "updated_at"
    newer_than: float | None = None
    older_than: float | None = None
    place: Problem = field(default_factory=lambda: Problem("", ""))  # where the filter is written


class Fact(NamedTuple):
    """A question that was asked for a plan; its answer decides what is sent."""

    name: str
    query: str
    rows: int
    sha256: str
    deferred: bool = False


@frozen
class Found:
    """What lookups found, by their name and the item's key."""

    attributes: Mapping[str, Mapping[Json, Data]] = field(default_factory=dict)
    ambiguous: Mapping[str, frozenset[Json]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
