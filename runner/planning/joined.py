"""Repositories with more to them, or fewer of them, made row by row when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.model import Data, Json, Lookup, Problem, Repositories


@dataclass(frozen=True, slots=True)
class Kept:
    """Some repositories of others."""

    rows: Repositories
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


@dataclass(frozen=True, slots=True)
class Joined:
    """Repositories with what lookups have found; what is written goes over it."""

    rows: Repositories
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
        for key, found in self.joins:
            more = found.get(row.get(key))
            if more:
                row = {**without_nulls(more), **row}
        return row


@dataclass(frozen=True, slots=True)
class Remembered:
    """The repositories that a run began with, whatever a query would give by now."""

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


def unjoined(rows: Repositories) -> Repositories:
    """As they were before lookups gave them more."""
    return rows.rows if isinstance(rows, Joined) else rows


def joined(
    rows: Repositories, lookups: Sequence[Lookup], found: Mapping[str, Mapping[Json, Data]]
) -> Repositories:
    joins = [
        (lookup.key, found[lookup.name])
        for lookup in lookups
        if lookup.scope == "repo" and lookup.name in found
    ]
    return Joined(unjoined(rows), joins) if joins else rows


def without_nulls(row: Data) -> Data:
    """A NULL is a missing value, as an empty cell is."""
    return {key: value for key, value in row.items() if value is not None}
