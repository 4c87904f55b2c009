"""The rows of items: which of them a filter keeps, what lookups add, and their order."""

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
from runner.spec.rows import Concatenated, FoundRow, without_nulls
from runner.spec.units import PRIORITIES, parse_time

_FEW = 1_000  # values


@frozen
class Kept:
    """Some rows of others."""

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


@frozen
class Joined:
    """Rows with what lookups have found; what is written goes over it."""

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
    """Rows at hand, as those that a run began with, whatever a query would give by now."""

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
    """May an item be found by it? It is one value, and no list or mapping of several."""
    return not isinstance(value, list | dict)


def key_of(value: Json) -> str | None:
    """By which a row is found, in text, as checks tell items apart: a database that is asked for
    "7" may answer 7. None: by nothing."""
    return None if value is None or not is_key(value) else as_shown(value)


def unjoined(rows: Rows) -> Rows:
    """As they were before lookups gave them more."""
    return rows.rows if isinstance(rows, Joined) else rows


def joined(
    rows: Rows,
    lookups: Sequence[Lookup],
    found: Mapping[str, Mapping[Json, Data]],
    scope: str,
) -> Rows:
    """`scope`: what the rows are of, as `for_each` has it."""
    joins = [
        (lookup.key, found[lookup.name])
        for lookup in lookups
        if lookup.scope == scope and lookup.name in found
    ]
    return Joined(unjoined(rows), joins) if joins else rows


def fits_glob(name: str, glob: str) -> bool:
    """Is the name such a one, whether the glob takes it in or out (``!``)?"""
    return fnmatchcase(name, glob.removeprefix("!"))


def fits_name(narrowing: Narrowing, name: str) -> bool:
    return fits(narrowing.globs, name)


def fits_age(narrowing: Narrowing, name: str, row: Data, now: datetime) -> bool:
    """ValueError where the item has no such time: its age is not known."""
    written = row.get(narrowing.column)
    if written is None:
        raise ValueError(f"{name} has no `{narrowing.column}`, so its age is not known")
    age = (now - parse_time(written)).total_seconds()
    newer, older = narrowing.newer_than, narrowing.older_than
    return (newer is None or age <= newer) and (older is None or age > older)


def ordered(rows: Rows, keys: Sequence[OrderKey]) -> tuple[array[int], list[str]]:
    """Indexes of `rows` by `keys`, and the attributes that no row has.

    Priorities order by rank, numbers before text, missing values come last whichever way a key
    points, ties keep the written order.
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
    """An array takes a fifth of a list: where many rows have the same value, none is made."""
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


_MADE = ("owner", "name", "workspace", "id")  # of other attributes, as a row is read


def _may_have(rows: Rows, attribute: str) -> bool:
    """Could some row have it? Of large tables the header says so, without a look at every row."""
    if attribute in _MADE or not isinstance(rows, Concatenated):
        return True
    return any(not isinstance(part, CsvRows) or attribute in part.header for part in rows.parts)


def _values(rows: Rows, attribute: str) -> Iterator[Json]:
    """What each row has of it. Of a table only that column is looked at."""
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


def attributes_of(rows: Rows) -> frozenset[str]:
    """Those that some row has, and the columns of the tables that they come from."""
    found = {name for row in rows for name in row}
    inner: Rows = rows
    while isinstance(inner, Kept | Joined):
        if isinstance(inner, Joined):
            tables = (list(table.values())[:1] for _, table in inner.joins)
            found.update(name for first in tables for row in first for name in row)
        inner = inner.rows
    sources = inner.sources if isinstance(inner, Concatenated) else ()
    for part in sources:
        found.update(getattr(part, "columns", ()))
    return frozenset(found)
