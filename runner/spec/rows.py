"""Repositories in written order, from the plan and its data files, made only when asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

from runner.model import Data, Json, Problem, Question
from runner.spec.document import Document, Path
from runner.spec.schema import check_row


class Fault(NamedTuple):
    """What is wrong with a row: where in it, what, and what to do."""

    path: Path
    message: str
    hint: str | None = None


class RowError(ValueError):
    """A row that cannot be read at all."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.fault = Fault((), message, hint)


class Rows(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def faults(self, row: Data, /) -> Iterable[Fault]:
        """What is wrong with the values of one of these rows."""

    def place(self, index: int, path: Path = (), /) -> Problem:
        """A problem with an empty message at the place where the row is written."""


@dataclass(frozen=True, slots=True)
class DocumentRows:
    """Repositories written in a YAML document; those of the plan itself are `checked` with it."""

    document: Document
    rows: Sequence[Data]
    paths: Sequence[Path]
    checked: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def faults(self, row: Data) -> Iterable[Fault]:
        return () if self.checked else schema_faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:
        return self.document.problem("", (*self.paths[index], *path), rule="repository")


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """Repositories that the database is asked for; none until it has been (`answered`).

    Without a question they are all those of `workspace`, by the catalog's `workspace_repos`.
    """

    document: Document
    path: Path
    question: Question | None
    workspace: str | None
    rows: Sequence[Data] = ()
    answered: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def faults(self, row: Data) -> Iterable[Fault]:
        return schema_faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002
        """Where the query is written: a row of its answer has no place of its own."""
        return self.document.problem("", self.path, rule="repository")


class Concatenated:
    """Several sources of rows as one."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.sources = tuple(parts)
        self.parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Data:
        part, index = self._find(index)
        return part[index]

    def __iter__(self) -> Iterator[Data]:
        for part in self.parts:
            for index in range(len(part)):
                yield part[index]

    @property
    def asked(self) -> bool:
        return any(isinstance(p, SelectedRows) and not p.answered for p in self.sources)

    def answered(self, answer: Callable[[SelectedRows], SelectedRows]) -> Concatenated:
        """The same with what the database has answered, in the places of its questions."""
        return Concatenated(
            [answer(part) if isinstance(part, SelectedRows) else part for part in self.sources]
        )

    def place(self, index: int, path: Path = ()) -> Problem:
        part, index = self._find(index)
        return part.place(index, path)

    def _find(self, index: int) -> tuple[Rows, int]:
        if index < self._ends[0]:
            return self.parts[0], index
        number = bisect_right(self._ends, index)
        return self.parts[number], index - self._ends[number - 1]


def schema_faults(row: Json) -> Iterator[Fault]:
    for path, message, hint in check_row(row):
        yield Fault(path, message, hint)


def complete(row: Data, workspace: str | None) -> Data:
    """The row with `owner` and `name` taken from `repo`, and the default workspace."""
    repo = row.get("repo")
    if type(repo) is str:
        row["owner"], _, row["name"] = repo.partition("/")
    if workspace is not None:
        row.setdefault("workspace", workspace)
    return row
