"""Items in written order, from the plan, its data files and queries, made only when asked for."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from runner.model import Data, Json, Kind, Problem, Question, frozen
from runner.spec.document import Document, Path

MAX_ITEMS = 1_000_000  # of a collection, wherever its rows are written


@frozen
class Fault:
    """What is wrong with a row: where in it, what, and what to do. `origin`: where a template that
    is at fault is written, where that is not in the row."""

    path: Path
    message: str
    hint: str | None = None
    origin: Problem | None = None


class RowError(ValueError):
    """A row that cannot be read at all."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.fault = Fault((), message, hint)


class RowKind(Kind, Protocol):
    """What the rows of a collection are where they are read."""

    @property
    def column(self) -> str | None:
        """The column that a table of them must have."""

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns of a CSV file that are text, whatever they look like."""

    def named(self, name: Json, /) -> Data:
        """The row of an item that is written as its name alone."""

    def complete(self, row: Data, /) -> Data:
        """The row with what follows from it; it may be changed in place."""

    def faults(self, row: Data, /) -> Iterable[Fault]:
        """What is wrong with the values of a row."""

    def cell_faults(self, row: Data, /) -> Iterable[Fault]:
        """The same of a row of CSV, whose cells hold no lists or mappings."""

    def selected(self, row: Data, question: Question, /) -> tuple[Data, Problem | None]:
        """A row of an answer, and why it is none of them."""

    @property
    def several(self) -> str:
        """What messages call many of them."""

    @property
    def example(self) -> str:
        """One of them as an entry of a list in YAML, and as a line of JSON."""

    def same(self, name: str, /) -> str:
        """What is equal for two names of one item."""

    @property
    def selects_some(self) -> bool:
        """Is a query that gives no rows a fault?"""


class Part(Protocol):
    """One source of a collection's rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def faults(self, row: Data, /) -> Iterable[Fault]:
        """What is wrong with the values of one of these rows."""

    def place(self, index: int, path: Path = (), /) -> Problem:
        """A problem with an empty message at the place where the row is written."""


@frozen
class DocumentRows:
    """Items written in a YAML document; what its schema has said of them is `checked`."""

    document: Document
    rows: Sequence[Data]
    paths: Sequence[Path]
    kind: RowKind
    checked: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def faults(self, row: Data) -> Iterable[Fault]:
        return () if self.checked else self.kind.faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:
        return self.document.problem("", (*self.paths[index], *path), rule=self.kind.called)


@frozen
class SelectedRows:
    """Items that the database is asked for; none until it has been (`answered`).

    Without a question they are all those of the workspace that is given, by the catalog's
    `workspace_repos`. `asked_as` is what the question is called; `of_items`: it may ask about the
    items of its operation.
    """

    document: Document
    path: Path
    kind: RowKind
    question: Question | None
    asked_as: str
    workspace: str | None = None
    rows: Sequence[Data] = ()
    answered: bool = False
    columns: Sequence[str] = ()  # of its answer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def faults(self, row: Data) -> Iterable[Fault]:
        return self.kind.faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002
        """Where the query is written: a row of its answer has no place of its own."""
        return self.document.problem("", self.path, rule=self.kind.called)


class Concatenated:
    """Several sources of rows as one."""

    def __init__(self, parts: Sequence[Part]) -> None:
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

    def _find(self, index: int) -> tuple[Part, int]:
        if index < self._ends[0]:
            return self.parts[0], index
        number = bisect_right(self._ends, index)
        return self.parts[number], index - self._ends[number - 1]


LEAVING = ("skip", "only")  # the attributes by which an item leaves out operations
NAMING = ("item", "name", "id")  # those that an item is called by: the first that it has


_OPERATIONS = re.compile(r"[\w.;\s-]*\Z")


class Uses(NamedTuple):
    """What a plan uses: its operations, and its path, by which its own rows are known."""

    operations: Sequence[str] = ()
    path: str = ""


NOTHING = Uses()


def leaves_out(row: Data, operation: str) -> str | None:
    """By which of its attributes an item leaves out the operation, or None."""
    skip, only = row.get("skip"), row.get("only")
    if type(skip) is list and operation in skip:
        return "skip"
    return "only" if type(only) is list and operation not in only else None


def skipped_by(kind: Kind, row: Data, operation: str) -> str | None:
    """Why the item leaves out the operation, or None: as it says itself, or as one of those that it
    is a product of does."""
    if by := leaves_out(row, operation):
        said = "skipped by" if by == "skip" else "not in the `only` of"
        return f"{said} the {kind.called}"
    if isinstance(row, SharedRow) and operation in row.skipped_by_all:
        return "skipped by all of its repositories"
    for name, part in kind.parts.items():
        cell = row[name]
        if isinstance(cell, dict) and (why := skipped_by(part, cell, operation)):
            return why
    return None


def operations_in(text: str) -> list[str]:
    """Those that a cell names: ``embeddings; aggregation``."""
    return [name for name in re.split(r"[;\s]+", text) if name]


def answered_row(row: Data) -> Data:
    """A row of an answer. SQLite has no lists: operations may be told as in a cell of CSV."""
    found = without_nulls(row)
    for key in LEAVING:
        if isinstance(text := found.get(key), str) and _OPERATIONS.match(text):
            del found[key]
            if names := operations_in(text):
                found[key] = [*names]
    return found


class FoundRow(dict[str, Json]):
    """A row with what lookups have found for it; its item is called by what is `written` alone."""

    __slots__ = ("written",)

    def __init__(self, found: Data, written: Data) -> None:
        super().__init__(found)
        self.written = written


class SharedRow(dict[str, Json]):
    """A workspace, with the operations that each of its repositories skips."""

    skipped_by_all: Collection[str] = ()


def without_nulls(row: Data) -> Data:
    """A NULL is a missing value, as an empty cell is."""
    return {key: value for key, value in row.items() if value is not None}
