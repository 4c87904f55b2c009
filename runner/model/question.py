"""Questions to the user's database, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

from runner.model.problem import Payload, Problem
from runner.model.value import Data, Json, as_compared, as_shown, frozen

MAX_ROWS = 100_000
Moment = Literal["before", "after", "end"]
Change = Literal["increased", "decreased"]
ItemKind: TypeAlias = str  # as `for_each` has it
RUN_STARTED = "run.started_at"
_SHARES = frozenset(("pct", "perc", "percent", "percentage", "coverage"))  # of a column's words


@frozen
class Selection:
    """A question in the words that SQL databases and PostgREST share: columns of one table, of
    the rows that equal all of `where`; a value may be a list (one of them), None (is null) or the
    name of a parameter, ``:name``."""

    table: str
    columns: tuple[str, ...]
    where: Mapping[str, Json] = field(default_factory=dict)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Each column, and what the answer calls it: ``full_name as repo``."""
        return tuple((words[0], words[-1]) for words in map(str.split, self.columns))


@frozen
class Query:
    """SQL with parameters written ``:name``, which are bound and never pasted; or a `Selection`.

    `database` is a name from the project file; None is the default one. More than `max_rows` rows
    are an error, never a silent cut. `timezone` is where times without a zone are read; None: in
    the session's.
    """

    ask: str | Selection
    database: str | None = None
    max_rows: int = MAX_ROWS
    timezone: str | None = None

    @property
    def text(self) -> str:
        """What people read."""
        if isinstance(self.ask, str):
            return " ".join(self.ask.split())
        where = " and ".join(f"{column} = {value}" for column, value in self.ask.where.items())
        return f"{', '.join(self.ask.columns)} of {self.ask.table}" + (where and f" where {where}")


class Table(NamedTuple):
    """An answer. Values are JSON: ids and times are text (times in ISO 8601), decimals numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Json, ...], ...]

    def dicts(self) -> Iterator[Data]:
        for row in self.rows:
            yield dict(zip(self.columns, row))  # noqa: B905 - as long by its making, and hot


class QueryRefused(ValueError):
    """The database is there and does not answer this: a name, a type, a right, too many rows.

    Never an empty answer: an error is never a zero.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DatabaseClock(NamedTuple):
    """What a database says the time is.

    `now` is ISO 8601 in UTC. `zone` is the session's, where times without one are read, and
    `offset` how many seconds it is ahead of UTC now. `ahead`: by how many seconds at least the
    clock is ahead of this machine's, negative where it is behind.
    """

    now: str
    zone: str
    offset: float
    ahead: float


class RowSecurity(NamedTuple):
    """A table of which policies show a role some rows only; `blind`: none, though it has some."""

    table: str
    blind: bool


class Database(Protocol):
    def ask(self, query: Query, parameters: Mapping[str, Json], /) -> Table:
        """The answer, read only. `parameters` may hold more than the query uses.

        Raises `QueryRefused`, and `runner.errors.TargetError` where the database cannot be
        reached or refuses the key; `PreflightRefused` where none is configured.
        """


class LiveDatabase(Database, Protocol):
    """What a run asks beside its questions. Both raise what `ask` does."""

    def clock(self, name: str | None, /) -> DatabaseClock:
        """Of the database of that name."""

    def row_security(
        self, query: Query, parameters: Mapping[str, Json], /
    ) -> Sequence[RowSecurity] | None:
        """Of the tables that a query reads; None where it cannot be told."""


@frozen
class Covered:
    """One item: `percent` is None where there is nothing to cover, never 0 or 100; `there`: has
    the database any row of it?

    `before` is `done` before the run, where that is known.
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
        """Rounded down: 100 is all, and nothing is more than that."""
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
        """All rows of one coverage as one: what one of them does not tell is not known of all."""
        # What one has too much of is not what another lacks.
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

    def of_items(self, names: Sequence[str]) -> BoundQuestion:
        """For these items, of a collection of the plan's own: its parameter has them, too."""
        names = tuple(dict.fromkeys(names))
        known = dict(zip(self.items, self.ids, strict=True)) if self.ids else {}
        ids = tuple(known[name] for name in names) if known.keys() >= set(names) else ()
        given = dict(self.parameters)
        if self.of in given:
            given[self.of] = list(names)
        return replace(self, items=names, ids=ids, parameters=given)


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


_WHOLE, _ROUNDING = 100.0, 1e-9  # of a percentage


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

    def is_full(self, value: float) -> bool:
        """Can the column not rise beyond that, as far as is known? What is called a share and is
        more than the whole is none."""
        if self.maximum is not None:
            return value >= self.maximum
        share = not _SHARES.isdisjoint((self.column or "").lower().split("_"))
        return share and _WHOLE <= value <= _WHOLE + _ROUNDING

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
        parts += [f"equal to {as_shown(self.equals)}"] if self.equals is not None else []
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
