"""Lists for a terminal: columns if they fit, else a paragraph per row; unbroken in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from runner.output.text import columns, styled, visible

_LOOKED_AT = 1_000  # rows that determine the column widths; later ones may be wider
_GAP, _INDENT = "  ", "    "
_LEAST = 24  # columns for the last cell, if it is wrapped


class Cell(NamedTuple):
    text: str
    color: str | None = None


Row = Sequence[str | Cell]


def table(
    headings: Sequence[str], rows: Iterable[Row], *, width: int | None, color: bool
) -> Iterator[str]:
    """Format a list. A heading that begins with ``>`` is of numbers. `width`: of the terminal; None
    for a pipe, which gets each row on one line.

    A word that is wider than the terminal stays whole, so that it can be copied.
    """
    rest = ([_cell(cell) for cell in row] for row in rows)
    first = list(islice(rest, _LOOKED_AT))
    if not first:
        return
    names = [heading.lstrip(">") for heading in headings]
    right = [heading.startswith(">") for heading in headings]
    widths = [
        max(columns(name), *(columns(row[at].text) for row in first))
        for at, name in enumerate(names)
    ]
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if width is not None and before + widths[-1] > width:
        if before + _LEAST > width:
            for row in _chained(first, rest):
                yield from _paragraph([_shown(cell, color) for cell in row if cell.text], width)
            return
    else:
        width = None
    yield _line([Cell(name) for name in names], widths, right, color=False)
    for row in _chained(first, rest):
        if width is None:
            yield _line(row, widths, right, color=color)
            continue
        head, *more = _wrapped(row[-1].text.split(" "), width - before) or [""]
        yield _line([*row[:-1], Cell(head, row[-1].color)], widths, right, color=color)
        yield from (" " * before + line for line in more)


def _cell(cell: str | Cell) -> Cell:
    one = cell if isinstance(cell, Cell) else Cell(cell)
    return Cell(visible(one.text), one.color)


def _chained(first: list[list[Cell]], rest: Iterable[list[Cell]]) -> Iterator[list[Cell]]:
    yield from first
    yield from rest


def _shown(cell: Cell, color: bool) -> tuple[str, str]:
    return cell.text, styled(cell.text, cell.color) if color and cell.color else cell.text


def _line(row: Sequence[Cell], widths: Sequence[int], right: Sequence[bool], *, color: bool) -> str:
    parts = []
    for cell, width, is_right in zip(row, widths, right, strict=True):
        space = " " * (width - columns(cell.text))
        _, text = _shown(cell, color)
        parts.append(f"{space}{text}" if is_right else f"{text}{space}")
    return _GAP.join(parts).rstrip()


def _paragraph(cells: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Join cells, with further lines indented; break a cell only if it is too wide for a line."""
    line, at = "", 0
    for text, shown in cells:
        if at and at + len(_GAP) + columns(text) > width:
            yield line
            line, at = _INDENT, len(_INDENT)
        elif at:
            line, at = line + _GAP, at + len(_GAP)
        if at + columns(text) > width:
            *lines, last = _wrapped(text.split(" "), width - len(_INDENT))
            for number, one in enumerate(lines):
                yield f"{line if number == 0 else _INDENT}{one}"
            line = (_INDENT if lines else line) + last
            at = columns(line)
        else:
            line, at = line + shown, at + columns(text)
    yield line


def _wrapped(words: Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and columns(lines[-1]) + 1 + columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
