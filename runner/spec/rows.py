"""Items in written order, from the plan, data files and queries, made on demand."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from runner.model import Data, Json, Kind, Problem, Question, frozen
from runner.spec.document import Document, Path

MAX_ITEMS = 1_000_000  # of a collection, from all its sources


@frozen
class Fault:
    """A fault of a row: where in it, what, and a hint. `origin`: where the template at fault is
    written, if not in the row."""

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
    """How the rows of a collection are read and checked."""

    @property
    def column(self) -> str | None:
        """The column that a table of rows must have, if any."""

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns of a CSV file that are always text."""

    def named(self, name: Json, /) -> Data:
        """Make the row of an item that is written as a name only."""

    def complete(self, row: Data, /) -> Data:
        """Add values that follow from the row; may change it in place."""

    def faults(self, row: Data, /) -> Iterable[Fault]:
        """Yield the faults of a row's values."""

    def cell_faults(self, row: Data, /) -> Iterable[Fault]:
        """Yield the faults of a CSV row, whose cells hold no lists or mappings."""

    def selected(self, row: Data, question: Question, /) -> tuple[Data, Problem | None]:
        """Make the row of a query's row; also return the problem if it is not valid."""

    @property
    def several(self) -> str:
        """The plural, for messages."""

    @property
    def example(self) -> str:
        """An example entry of a list in YAML, and of a line of JSON."""

    def same(self, name: str, /) -> str:
        """Return a key that is equal for two names of the same item."""

    @property
    def selects_some(self) -> bool:
        """Whether a query that gives no rows is a fault."""


class Part(Protocol):
    """One source of a collection's rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def faults(self, row: Data, /) -> Iterable[Fault]:
        """Yield the faults of the values of one of these rows."""

    def place(self, index: int, path: Path = (), /) -> Problem:
        """Return a problem without a message at the place where the row is written."""


@frozen
class DocumentRows:
    """Items written in a YAML document; `checked`: its schema has checked them."""

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
    """Items that a query selects; empty until the database has `answered`.

    Without a question they are all repositories of the given workspace, by the catalog's
    `workspace_repos`. `asked_as`: the name of the question.
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
        """Return the place of the query: a row of its answer has none of its own."""
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
        """Return a copy with answers in place of the questions."""
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


LEAVING = ("skip", "only")  # attributes by which an item skips operations
NAMING = ("item", "name", "id")  # attributes that may name an item: the first that it has counts


_OPERATIONS = re.compile(r"[\w.;\s-]*\Z")


class Uses(NamedTuple):
    """What a plan uses: its operations, and its path, to recognise rows written in it."""

    operations: Sequence[str] = ()
    path: str = ""


NOTHING = Uses()


def leaves_out(row: Data, operation: str) -> str | None:
    """Return the attribute by which an item skips the operation, or None."""
    skip, only = row.get("skip"), row.get("only")
    if type(skip) is list and operation in skip:
        return "skip"
    return "only" if type(only) is list and operation not in only else None


def skipped_by(kind: Kind, row: Data, operation: str) -> str | None:
    """Return why the item skips the operation, or None: by its own attributes, or by those of an
    item that it is a product of."""
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
    """Split the operations that a cell names: ``embeddings; aggregation``."""
    return [name for name in re.split(r"[;\s]+", text) if name]


def answered_row(row: Data) -> Data:
    """Convert a row of an answer. SQLite has no lists: a text may name operations, as in CSV."""
    found = without_nulls(row)
    for key in LEAVING:
        if isinstance(text := found.get(key), str) and _OPERATIONS.match(text):
            del found[key]
            if names := operations_in(text):
                found[key] = [*names]
    return found


class FoundRow(dict[str, Json]):
    """A row with what lookups found; its item's name comes from the `written` row alone."""

    __slots__ = ("written",)

    def __init__(self, found: Data, written: Data) -> None:
        super().__init__(found)
        self.written = written


class SharedRow(dict[str, Json]):
    """A workspace, with the operations that each of its repositories skips."""

    skipped_by_all: Collection[str] = ()


def without_nulls(row: Data) -> Data:
    """Drop NULLs: they are missing values, like empty cells."""
    return {key: value for key, value in row.items() if value is not None}
