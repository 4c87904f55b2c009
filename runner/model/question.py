"""Questions to the user's database, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple, Protocol

from runner.model.value import Data, Json, frozen

MAX_ROWS = 100_000


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
        """All rows of one coverage as one."""
        # What one has too much of is not what another lacks.
        befores = [min(row.before, row.total) for row in rows if row.before is not None]
        pendings = [row.pending for row in rows if row.pending is not None]
        return cls(
            rows[0].of,
            "all",
            sum(row.total for row in rows),
            sum(min(row.done, row.total) for row in rows),
            sum(pendings) if pendings else None,
            max((row.last_sync for row in rows if row.last_sync), default=None),
            sum(befores) if befores else None,
            all(row.there for row in rows),
        )
