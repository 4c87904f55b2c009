"""CSV and JSON Lines files of items.

A data file of a million rows is kept as its bytes and one offset per row, so that it can be
reordered and read several times in little memory.
"""

from __future__ import annotations

import csv
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import orjson

from runner.model import Data, Json, Problem, frozen
from runner.spec.document import Path, did_you_mean, echo, problem_at
from runner.spec.file_text import not_utf8
from runner.spec.json_limits import MAX_DEPTH, MAX_EVENT, each_once, fault, fits
from runner.spec.rows import LEAVING, NAMING, Fault, RowError, RowKind, operations_in
from runner.spec.units import counted

_DIGITS = 15  # on either side of the point; a longer number stays text
_NUMBER = re.compile(rf"-?(0|[1-9][0-9]{{0,{_DIGITS - 1}}})(\.[0-9]{{1,{_DIGITS}}})?\Z")
# As YAML, spreadsheets and data frames write them.
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BEGINS_A_VALUE = frozenset("-0123456789tfTF")  # first letters of numbers and booleans
_JSON = re.compile(rb"\{|\[\s*(?:[\[{\"\]]|\Z)")  # an object, or a list
_BOM = b"\xef\xbb\xbf"
_EXCERPT = 4096
_COMMA = 'quote a cell that has a comma in it: "a, b"'
# A plan reads each row several times: these bound what a hostile file can cost.
MAX_COLUMNS = 1_000
_MAX_ROW = MAX_EVENT  # bytes: no event could carry more


@frozen
class CsvRows:
    """RFC 4180 with a header line; numbers and booleans are typed, empty cells are left out."""

    path: str
    raw: bytes
    header: tuple[str, ...]
    offsets: array[int]
    kind: RowKind
    typed: tuple[str, ...]  # the columns whose cells may be other than text

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Data:
        start, end = self.offsets[index : index + 2]
        cells = _cells(self.raw[start:end])
        if len(cells) != len(self.header):
            message = (
                f"{counted(len(cells), 'cell')} in a table of {counted(len(self.header), 'column')}"
            )
            less = len(cells) < len(self.header)
            hint = "write the comma of each empty cell, too" if less else _COMMA
            raise RowError(message, hint)
        row: Data = dict(zip(self.header, cells, strict=True))
        if "" in cells:
            row = {column: cell for column, cell in row.items() if cell}
        for column in self.typed:
            if column in row:
                row[column] = _cell(column, row[column])
        return self.kind.complete(row)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.header

    def column(self, name: str) -> Iterator[Json]:
        """Yield one column without parsing other cells; the rows must be sound."""
        at, typed = self.header.index(name), name in self.typed
        for start, end in pairwise(self.offsets):
            cell = _cells(self.raw[start:end])[at] or None
            yield _cell(name, cell) if typed and cell else cell

    def faults(self, row: Data) -> Iterable[Fault]:
        return self.kind.cell_faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002 - a row is one line
        return _row_place(self, index)


@frozen
class JsonlRows:
    """One JSON object, or one ``"owner/name"`` string, per line."""

    path: str
    raw: bytes
    offsets: array[int]
    kind: RowKind

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Data:
        line = self.raw[self.offsets[index] : self.offsets[index + 1]]
        if (plain := _plain_row(line)) is not None:
            return self.kind.complete(plain)
        row = _json_line(line.decode("utf-8"))
        suspect = b"\\u" in line or line.count(b"[") + line.count(b"{") > MAX_DEPTH
        if suspect and (wrong := fault(row)):
            raise RowError(f"it has {wrong}")
        if isinstance(row, str):
            row = self.kind.named(row)
        if not isinstance(row, dict):
            if self.kind.column:
                raise RowError("expected an object with `repo`", '{"repo": "owner/name"}')
            raise RowError("expected an object, or a name", '{"id": 7}')
        return self.kind.complete(row)

    def faults(self, row: Data) -> Iterable[Fault]:
        return self.kind.faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002 - a row is one line
        return _row_place(self, index)


def is_json_lines(path: str, raw: bytes, kind: RowKind) -> bool:
    """Decide by the file extension; without one, as of stdin, by the first line. A lone string is
    an item's name in JSON Lines, unless it is the name of a column in CSV. A JSON list is neither;
    as JSON Lines it is refused, and as CSV it could be a header without rows."""
    if path.endswith((".csv", ".jsonl")):
        return path.endswith(".jsonl")
    text = raw.removeprefix(_BOM).lstrip()
    if text[:1] != b'"':
        return _JSON.match(text) is not None
    try:
        first = orjson.loads(text.partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return False
    return first not in (kind.column, *NAMING)


def read_csv(path: str, raw: bytes, kind: RowKind) -> tuple[CsvRows | None, list[Problem]]:
    raw = raw.removeprefix(_BOM)
    if problem := _encoding_problem(path, raw):
        return None, [problem]
    offsets = _record_offsets(raw, b"\r\n", quoted=b'"' in raw)
    if problem := _too_large_row(path, raw, offsets, "is a quote left open?"):
        return None, [problem]
    first = raw[offsets[0] : offsets[1]].decode("utf-8").rstrip("\r\n") if len(offsets) > 1 else ""
    try:
        header = tuple(name.strip() for name in _quoted_cells(first))
    except RowError as error:
        return None, [_header_problem(path, raw, offsets[0], kind, str(error), error.fault.hint)]
    if wrong := _header_fault(header, first, kind.column):
        return None, [_header_problem(path, raw, offsets[0], kind, *wrong)]
    typed = tuple(column for column in header if column not in kind.text_columns)
    return CsvRows(path, raw, header, offsets[1:], kind, typed), []


def read_jsonl(path: str, raw: bytes, kind: RowKind) -> tuple[JsonlRows | None, list[Problem]]:
    raw = raw.removeprefix(_BOM)
    if problem := _encoding_problem(path, raw):
        return None, [problem]
    offsets = _record_offsets(raw, b" \t\r\n", quoted=False)
    if problem := _too_large_row(path, raw, offsets):
        return None, [problem]
    return JsonlRows(path, raw, offsets, kind), []


def _header_fault(
    header: tuple[str, ...], line: str, column: str | None
) -> tuple[str, str | None] | None:
    if len(header) > MAX_COLUMNS:
        message = f"the header line names {len(header):,} columns, more than {MAX_COLUMNS:,}"
        return message, "leave out the columns that the plan does not use"
    if column is not None and column not in header:
        hint = f"the first line names the columns, as in: {column},priority,velocity"
        if ";" in line or "\t" in line:
            hint = "separate the columns with commas"
        elif near := did_you_mean(column, header):
            hint = f"{near} {hint}"
        return f"the header line has no column `{column}`", hint
    if not header:
        return "there is no header line", "the first line names the columns, as in: id,name"
    if column is None and len(header) == 1 and re.search(r"[;\t]", header[0]):
        message = f"the header line names one column, {echo(header[0])}"
        return message, "separate the columns with commas"
    return _name_fault(header)


def _name_fault(header: tuple[str, ...]) -> tuple[str, str | None] | None:
    if "" in header:
        return (
            f"column {header.index('') + 1} has no name in the header line",
            "name the column, or remove it",
        )
    twice = [name for index, name in enumerate(header) if name in header[:index]]
    if twice:
        return f"the header line names the column {echo(twice[0])} twice", "rename one of them"
    for name in header:
        if name not in LEAVING and name.lower() in LEAVING:  # else items to skip would be sent
            return f"the header line has a column {echo(name)}", f"write `{name.lower()}`"
    return None


def _header_problem(
    path: str, raw: bytes, offset: int, kind: RowKind, message: str, hint: str | None
) -> Problem:
    place = _place(path, raw, offset if offset < len(raw) else 0, kind.called)
    return Problem(message, path, place.line, 1, place.source, hint, rule=place.rule)


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8").rstrip("\r\n")
    return _quoted_cells(text) if '"' in text else text.split(",")


def _quoted_cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        known = {
            "unexpected end of data": (
                "a quote is never closed",
                'write a quote in a cell as ""',
            ),
            "new-line character seen in unquoted field": _stray(text),
        }
        for words, (message, hint) in known.items():
            if str(error).startswith(words):
                raise RowError(message, hint) from None
        raise RowError(f"not CSV: {error}", 'write a quote in a cell as ""') from None


def _stray(text: str) -> tuple[str, str]:
    """Explain a line break in an unquoted cell: a quote in mid-cell has joined two lines."""
    if "\n" in text:
        return "a quote in a cell that is not quoted", 'write the cell as "5"" pipe"'
    return "a bare carriage return", "save the file with line feeds"


def _cell(column: str, cell: str) -> Json:
    if column in LEAVING:
        return [*operations_in(cell)]
    if cell[0] not in _BEGINS_A_VALUE:
        return cell
    if cell.isdecimal() and cell.isascii():
        plain = len(cell) <= _DIGITS and (cell[0] != "0" or len(cell) == 1)
        return int(cell) if plain else cell
    if _NUMBER.match(cell):
        return float(cell) if "." in cell else int(cell)
    return _BOOLEANS.get(cell, cell)


def _plain_row(line: bytes) -> Data | None:
    """Parse a line as `_json_line` does, in a third of the time; None where that may differ.

    It is safe for an object of only strings, whole numbers, booleans and nulls, without escapes:
    then each quote delimits a key or a string, so a duplicate key shows in their number.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if type(row) is not dict or b"\\" in line:
        return None
    texts = len(row)
    for value in row.values():
        kind = type(value)
        if kind is str:
            texts += 1
        elif kind is int:
            if not fits(value):
                return None
        elif kind is not bool and value is not None:
            return None
    return row if line.count(b'"') == 2 * texts else None


def _json_line(text: str) -> Json:
    try:
        return _decode(text.strip())
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise RowError(f"not JSON: {what} at column {error.colno}") from None
    except RecursionError:
        raise RowError(f"it has values nested more than {MAX_DEPTH} levels deep") from None


def _strict_decoder() -> Callable[[str], Json]:
    """Return a JSON decoder that refuses NaN, duplicate keys and numbers beyond 64 bits."""

    def constant(text: str) -> Any:
        raise RowError(f"`{text}` is not a JSON number")

    def integer(text: str) -> int:
        if len(text) > 20 or not fits(number := int(text)):
            raise RowError(
                f"{echo(text)} is a number that does not fit into 64 bits", "write it as text"
            )
        return number

    def decimal(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise RowError(f"{echo(text)} is too large for a JSON number")
        return number

    def mapping(pairs: list[tuple[str, Json]]) -> Data:
        try:
            return each_once(pairs)
        except KeyError as error:
            raise RowError(error.args[0], "keep one of them") from None

    return json.JSONDecoder(
        object_pairs_hook=mapping, parse_int=integer, parse_float=decimal, parse_constant=constant
    ).decode


_decode = _strict_decoder()


def _record_offsets(raw: bytes, blank: bytes, *, quoted: bool) -> array[int]:
    """Return where each record starts, and where the last one ends.

    A line of nothing but `blank` counts to the record before it; readers strip it.
    """
    offsets = array("I")  # files are limited to far less than 4 GiB
    start, size, quotes = 0, len(raw), 0
    while start < size:
        end = raw.find(b"\n", start) + 1 or size
        if quotes % 2 == 0 and raw[start:end].strip(blank):
            offsets.append(start)
        if quoted:
            quotes += raw.count(b'"', start, end)
        start = end
    offsets.append(size)
    return offsets


def _too_large_row(
    path: str, raw: bytes, offsets: array[int], hint: str | None = None
) -> Problem | None:
    for start, end in pairwise(offsets):
        if end - start > _MAX_ROW:
            place = _place(path, raw, start, "too-large")
            message = f"this row has more than {_MAX_ROW:,} bytes: no event can hold it"
            return Problem(message, path, place.line, 1, place.source, hint, rule="too-large")
    return None


def _encoding_problem(path: str, raw: bytes) -> Problem | None:
    if raw.isascii():  # decoding would copy a large file
        return None
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(raw, error, path)
    return None


def _row_place(rows: CsvRows | JsonlRows, index: int) -> Problem:
    return _place(rows.path, rows.raw, rows.offsets[index], rows.kind.called)


def _place(path: str, raw: bytes, offset: int, rule: str) -> Problem:
    line = raw.count(b"\n", 0, offset) + 1
    text = raw[offset : offset + _EXCERPT].decode("utf-8", "replace").split("\n")[0].rstrip("\r")
    problem = problem_at(path, text, 1, 1, "", rule=rule)
    return Problem("", path, line, 1, problem.source, rule=problem.rule)
