"""Repositories, inline or from data files, as rows that are made only when asked for.

A data file of a million rows is kept as its bytes and one offset a row, so that it can be put
into another order and read several times in little memory.
"""

from __future__ import annotations

import csv
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from runner.model import Data, Json, Problem
from runner.spec.document import Document, Path, problem_at

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?\Z")
_TEXT_COLUMNS = frozenset({"repo", "workspace", "priority", "owner", "name"})
_BOOLEANS = {"true": True, "false": False}


class Rows(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Data: ...

    def place(self, index: int, /) -> Problem: ...


class RowError(ValueError):
    """A row that cannot be read; `index` counts from 0."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True, slots=True)
class DocumentRows:
    """Repositories written in a YAML document."""

    document: Document
    rows: Sequence[Data]
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def place(self, index: int) -> Problem:
        return self.document.problem("", self.paths[index], rule="repository")


@dataclass(frozen=True, slots=True)
class CsvRows:
    """RFC 4180 with a header line; numbers and booleans are typed, empty cells are missing."""

    path: str
    raw: bytes
    header: tuple[str, ...]
    offsets: array[int]
    workspace: str | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Data:
        line = self.raw[self.offsets[index] : self.offsets[index + 1]]
        if b'"' in line:
            cells = next(csv.reader(line.decode("utf-8").splitlines(keepends=True)))
        else:
            cells = line.decode("utf-8").rstrip("\r\n").split(",")
        if len(cells) != len(self.header):
            message = f"{len(cells)} cells in a table of {len(self.header)} columns"
            raise RowError(message, index)
        row: Data = {}
        for column, cell in zip(self.header, cells, strict=True):
            if cell:
                row[column] = cell if column in _TEXT_COLUMNS else _cell(column, cell)
        return complete(row, self.workspace)

    def place(self, index: int) -> Problem:
        return _row_place(self.path, self.raw, self.offsets[index])


@dataclass(frozen=True, slots=True)
class JsonlRows:
    """One JSON object, or one ``"owner/name"`` string, a line."""

    path: str
    raw: bytes
    offsets: array[int]
    workspace: str | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Data:
        line = self.raw[self.offsets[index] : self.offsets[index + 1]]
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RowError(f"not JSON: {error}", index) from None
        if isinstance(row, str):
            row = {"repo": row}
        if not isinstance(row, dict):
            raise RowError("expected an object with `repo`", index)
        return complete(row, self.workspace)

    def place(self, index: int) -> Problem:
        return _row_place(self.path, self.raw, self.offsets[index])


class Concatenated:
    """Several sources of rows as one."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Data:
        part, index = self._find(index)
        return part[index]

    def __iter__(self) -> Iterator[Data]:
        for part in self._parts:
            for index in range(len(part)):
                yield part[index]

    def place(self, index: int) -> Problem:
        part, index = self._find(index)
        return part.place(index)

    def _find(self, index: int) -> tuple[Rows, int]:
        start = 0
        for part, end in zip(self._parts, self._ends, strict=True):
            if index < end:
                return part, index - start
            start = end
        raise IndexError(index)


def complete(row: Data, workspace: str | None) -> Data:
    """The row with `owner` and `name` taken from `repo`, and the default workspace."""
    repo = row.get("repo")
    if type(repo) is str:
        row["owner"], _, row["name"] = repo.partition("/")
    if workspace is not None:
        row.setdefault("workspace", workspace)
    return row


def read_csv(path: str, raw: bytes, workspace: str | None) -> tuple[CsvRows | None, list[Problem]]:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if problem := _not_utf8(path, raw):
        return None, [problem]
    offsets = _record_offsets(raw, quoted=b'"' in raw)
    first = raw[: offsets[1]].decode("utf-8") if len(offsets) > 1 else ""
    header = tuple(name.strip() for name in next(csv.reader([first]), []))
    if "repo" not in header:
        message = "the header line has no column `repo`"
        hint = "the first line names the columns, as in: repo,priority,velocity"
        return None, [problem_at(path, first, 1, 1, message, hint=hint)]
    if len(set(header)) < len(header):
        message = "the header line names a column twice"
        return None, [problem_at(path, first, 1, 1, message)]
    return CsvRows(path, raw, header, offsets[1:], workspace), []


def read_jsonl(path: str, raw: bytes, workspace: str | None) -> tuple[JsonlRows | None, list[Problem]]:
    if problem := _not_utf8(path, raw):
        return None, [problem]
    return JsonlRows(path, raw, _record_offsets(raw, quoted=False), workspace), []


def _cell(column: str, cell: str) -> Json:
    if column == "skip":
        return re.split(r"[;\s]+", cell.strip())
    if _NUMBER.match(cell):
        return float(cell) if "." in cell else int(cell)
    return _BOOLEANS.get(cell, cell)


def _record_offsets(raw: bytes, *, quoted: bool) -> array[int]:
    """Where each record starts, and where the last one ends; blank lines belong to the one before.

    Readers cut what follows the record's own line end.
    """
    offsets = array("Q")
    start, size, quotes = 0, len(raw), 0
    while start < size:
        end = raw.find(b"\n", start) + 1 or size
        if quotes % 2 == 0 and raw[start:end] not in (b"\n", b"\r\n"):
            offsets.append(start)
        if quoted:
            quotes += raw.count(b'"', start, end)
        start = end
    offsets.append(size)
    return offsets


def _not_utf8(path: str, raw: bytes) -> Problem | None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 (byte 0x{raw[error.start]:02x})"
        return Problem(message, path, line, 1, hint="save it as UTF-8", rule="not-utf-8")
    return None


def _row_place(path: str, raw: bytes, offset: int) -> Problem:
    line = raw.count(b"\n", 0, offset) + 1
    text = raw[offset : offset + 640].decode("utf-8", "replace").split("\n")[0].rstrip("\r")
    problem = problem_at(path, text, 1, 1, "", rule="repository")
    return Problem("", path, line, 1, problem.source, rule=problem.rule)
