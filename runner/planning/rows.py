"""The rows of items: filter them, add the results of lookups, and sort them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from runner.model import Data, Json, Lookup, Narrowing, OrderKey, Problem, Rows, frozen
from runner.model.value import as_shown
from runner.spec.data_files import CsvRows
from runner.spec.globs import fits
from runner.spec.own import Product
from runner.spec.rows import Concatenated, FoundRow, without_nulls
from runner.spec.units import PRIORITIES, parse_time

_FEW = 1_000  # values


@frozen
class Kept:
    """A selection of other rows."""

    rows: Rows
    kept: Sequence[int]
    asked: bool = False

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Data:
        return self.rows[self.kept[index]]

    def __iter__(self) -> Iterator[Data]:
        return (self.rows[index] for index in self.kept)

    def place(self, index: int) -> Problem:
        return self.rows.place(self.kept[index])


class LookedUp(dict[Json, Data]):
    """What a lookup found, by its key; `columns`: those of its query, with or without rows."""

    columns: Sequence[str] = ()


@frozen
class Joined:
    """Rows with the results of lookups; what is written takes precedence."""

    rows: Rows
    joins: Sequence[tuple[str, Mapping[Json, Data]]]
    asked: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self._with(self.rows[index])

    def __iter__(self) -> Iterator[Data]:
        return map(self._with, self.rows)

    def place(self, index: int) -> Problem:
        return self.rows.place(index)

    def _with(self, row: Data) -> Data:
        joined = row
        for key, found in self.joins:
            more = found.get(key_of(joined.get(key)))
            if more:
                joined = {**without_nulls(more), **joined}
        return row if joined is row else FoundRow(joined, row)


@frozen
class Listed:
    """Rows in memory, such as those a run began with, independent of later queries."""

    rows: Sequence[Data]
    path: str
    asked: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def __iter__(self) -> Iterator[Data]:
        return iter(self.rows)

    def place(self, index: int) -> Problem:  # noqa: ARG002
        return Problem("", self.path)


def is_key(value: Json) -> bool:
    """Whether an item can be looked up by the value: not by a list or a mapping."""
    return not isinstance(value, (list, dict))


def key_of(value: Json) -> str | None:
    """Return the lookup key as text, as checks do: a database that is asked for "7" may answer 7.
    None: no key."""
    if isinstance(value, str):
        return value
    return as_shown(value) if value is not None and is_key(value) else None


def unjoined(rows: Rows) -> Rows:
    """Return the rows as they were before lookups."""
    return rows.rows if isinstance(rows, Joined) else rows


def as_queried(rows: Rows) -> Rows:
    """Return the rows without filters and lookups."""
    while isinstance(rows, Kept | Joined):
        rows = rows.rows
    return rows


def joined(
    rows: Rows,
    lookups: Sequence[Lookup],
    found: Mapping[str, Mapping[Json, Data]],
    scope: str,
) -> Rows:
    """Add the results of lookups; `scope`: the `for_each` of the rows."""
    joins = [
        (lookup.key, found[lookup.name])
        for lookup in lookups
        if lookup.scope == scope and lookup.name in found
    ]
    return Joined(unjoined(rows), joins) if joins else rows


def fits_glob(name: str, glob: str) -> bool:
    """Whether the glob matches the name, with or without its ``!``."""
    return fnmatchcase(name, glob.removeprefix("!"))


def fits_name(narrowing: Narrowing, name: str) -> bool:
    return fits(narrowing.globs, name)


def fits_age(narrowing: Narrowing, name: str, row: Data, now: datetime) -> bool:
    """Whether the item's age is within the limits. Raises ValueError if it has no time."""
    written = row.get(narrowing.column)
    if written is None:
        raise ValueError(f"{name} has no `{narrowing.column}`, so its age is not known")
    try:
        age = (now - parse_time(written)).total_seconds()
    except ValueError as error:  # as of PostgreSQL's infinity
        raise ValueError(f"the age of {name} is not known: {error}") from None
    newer, older = narrowing.newer_than, narrowing.older_than
    return (newer is None or age <= newer) and (older is None or age > older)


def ordered(rows: Rows, keys: Sequence[OrderKey]) -> tuple[array[int], list[str]]:
    """Return the indexes of `rows` sorted by `keys`, and the attributes that no row has.

    Priorities sort by rank, numbers come before text, missing values come last in either direction,
    and ties keep the written order.
    """
    known = [key for key in keys if _may_have(rows, key.attribute)]
    indexes: Sequence[int] = range(len(rows))
    unknown = {key.attribute for key in keys if key not in known}
    for key in reversed(known):
        column = [_comparable(key.attribute, value) for value in _values(rows, key.attribute)]
        kinds = {type(value) is str for value in column if value is not None}
        if not kinds:
            unknown.add(key.attribute)
            continue
        if len(kinds) == 2:
            column = [None if value is None else (type(value) is str, value) for value in column]
        indexes = _by(column, indexes, descending=key.descending)
    return array("I", indexes), [key.attribute for key in keys if key.attribute in unknown]


def _by(column: Sequence[Any], indexes: Sequence[int], *, descending: bool) -> array[int]:
    """Sort indexes by value. An array takes a fifth of a list's memory, so few distinct values are
    grouped without one."""
    values = sorted({value for value in column if value is not None}, reverse=descending)
    if len(values) > _FEW:
        present = [index for index in indexes if column[index] is not None]
        present.sort(key=column.__getitem__, reverse=descending)
        missing = array("I", (index for index in indexes if column[index] is None))
        return array("I", present) + missing
    groups = {value: array("I") for value in (*values, None)}
    for index in indexes:
        groups[column[index]].append(index)
    found = array("I")
    for group in groups.values():
        found += group
    return found


_MADE = ("owner", "name", "workspace", "id")  # attributes that are derived when a row is read


def _may_have(rows: Rows, attribute: str) -> bool:
    """Whether some row could have it; for large tables, only the header is checked."""
    if attribute in _MADE or not isinstance(rows, Concatenated):
        return True
    return any(not isinstance(part, CsvRows) or attribute in part.header for part in rows.parts)


def _values(rows: Rows, attribute: str) -> Iterator[Json]:
    """Yield the attribute of each row; from a table, read only that column."""
    for part in rows.parts if isinstance(rows, Concatenated) else (rows,):
        if isinstance(part, CsvRows) and attribute in part.header and attribute not in _MADE:
            yield from part.column(attribute)
        else:
            yield from (part[index].get(attribute) for index in range(len(part)))


def _comparable(attribute: str, value: Json) -> Json:
    if attribute == "priority":
        return PRIORITIES.get(value) if isinstance(value, str) else value
    if value is None or isinstance(value, int | float | str):
        return value
    return str(value)


def part_of(rows: Rows, name: str) -> Rows | None:
    """Return the rows of this part of a product; None if there is none."""
    rows = as_queried(rows)
    return rows.parts[name].rows if isinstance(rows, Product) and name in rows.parts else None


def attributes_of(rows: Rows) -> frozenset[str]:
    """Return the attributes that some row has, and the columns of their source tables."""
    found = {name for row in rows for name in row}
    inner: Rows = rows
    while isinstance(inner, Kept | Joined):
        if isinstance(inner, Kept):  # what only an item has that a filter leaves out
            found.update(name for row in inner.rows for name in row)
        else:
            found.update(*(getattr(table, "columns", ()) for _, table in inner.joins))
        inner = inner.rows
    # Those of workspaces are looked up as well.
    sources = inner.sources if isinstance(inner, Concatenated) else getattr(inner, "found", ())
    for part in sources:
        found.update(getattr(part, "columns", ()))
    return frozenset(found)
