"""The keys of a mapping in a given order, as an edit of the text that it is written in.

A key moves with its value, with the comments on the lines of both, with the block of comments
directly above it, and with the lines below that are set in further than it is. Blank lines move
with the key that they set apart. Where comments leave it open what belongs to what, the order
stays as it is written.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest

from runner.model import frozen
from runner.spec.yaml_text import Edit, MappingNode, Node, ScalarNode, Span

_MODELINE = re.compile(r"\s*# yaml-language-server:")
_OF_THE_FILE = ("apiVersion", "kind")  # a comment above them is about the file
_OPENED, _BETWEEN, _CLOSED = (re.compile(p) for p in (r"\{\s*", r"\s*,\s*", r"\s*,?\s*\}"))
_COLON = re.compile(r"\s*:\s*")
_BREAKS = "\r\n\x85\u2028\u2029"


class Lines:
    """The lines of a text, from 0, by the offsets at which they start."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0, *accumulate(map(len, self._lines))]

    def __len__(self) -> int:
        return len(self._lines)

    def start(self, line: int) -> int:
        return self._starts[line]

    def at(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def before(self, offset: int) -> str:
        """What stands before a place on its line."""
        return self.text[self.start(self.at(offset)) : offset]

    def holds_nothing(self, line: int) -> bool:
        """No value, that is: a blank line, or a comment."""
        return self._lines[line].lstrip(" \t").rstrip(_BREAKS)[:1] in ("", "#")

    def is_comment(self, line: int) -> bool:
        return self._lines[line].lstrip(" \t").startswith("#")

    def is_modeline(self, line: int) -> bool:
        return _MODELINE.match(self._lines[line]) is not None

    def is_loose(self, line: int, column: int) -> bool:
        """Blank, or a comment that is set in no further than `column`: part of no value."""
        written = self._lines[line].rstrip(_BREAKS)
        inner = written.lstrip(" ")
        return inner[:1] in ("", "#") and len(written) - len(inner) <= column


@frozen
class _Entry:
    """Offsets: of the blank lines before a key, of the comments above it, of the key, and of the
    end of the last line that moves with it."""

    blank: int
    lead: int
    key: int
    end: int


def reordered(lines: Lines, mapping: MappingNode, keys: Sequence[str]) -> Edit | None:
    """The mapping with `keys` first, in their order, and then all others as they are written.

    None where nothing is to be done, or nothing can be.
    """
    ranks = {key: rank for rank, key in enumerate(keys)}
    places = [ranks.get(key.value, len(ranks)) for key, _ in mapping.entries]
    order = sorted(range(len(places)), key=places.__getitem__)
    if order == list(range(len(places))):
        return None
    return (_flow if mapping.flow else _block)(lines, mapping, order)


def _flow(lines: Lines, mapping: MappingNode, order: Sequence[int]) -> Edit | None:
    """Pairs change places; what stands between them stays. None where that is a comment."""
    text = lines.text
    pairs = [(key.start, value.end) for key, value in mapping.entries]
    gaps = [(one[1], other[0]) for one, other in pairwise(pairs)]
    plain = (
        _OPENED.fullmatch(text, mapping.start, pairs[0][0])
        and all(_BETWEEN.fullmatch(text, *gap) for gap in gaps)
        and _CLOSED.fullmatch(text, pairs[-1][1], mapping.end)
        and all(_may_move(text, key, value) for key, value in mapping.entries)
    )
    if not plain:
        return None
    parts: list[Span] = [pairs[order[0]]]
    for gap, index in zip(gaps, order[1:], strict=True):
        parts += [gap, pairs[index]]
    return Edit(pairs[0][0], pairs[-1][1], tuple(parts))


def _may_move(text: str, key: Node, value: Node) -> bool:
    """Nothing, and a lone `-`, are read by what stands behind them."""
    colon = _COLON.fullmatch(text, key.end, value.start)
    return colon is not None and text[value.start : value.end] not in ("", "-")


def _block(lines: Lines, mapping: MappingNode, order: Sequence[int]) -> Edit | None:
    before = lines.before(mapping.entries[0][0].start)
    inline, column = bool(before.strip(" ")), len(before)
    entries = _entries(lines, mapping, column, inline=inline)
    if entries is None:
        return None
    first = entries[order[0]]
    parts: list[str | Span] = []
    for place, index in enumerate(order):
        entry = entries[index]
        if place:  # nothing is set apart from what is first, so its blank lines go to who was that
            apart = entry if index else first
            parts.append((apart.blank, apart.lead))
        if inline and place and not index:
            parts.append(" " * column)
        parts.append((entry.lead if place or not inline else entry.key, entry.end))
    return Edit(entries[0].lead, entries[-1].end, tuple(parts))


def _entries(
    lines: Lines, mapping: MappingNode, column: int, *, inline: bool
) -> list[_Entry] | None:
    """None where a key does not begin a line as it should, or comments have no place to go to.

    `inline`: the first key stands behind the `-` of a list, where no comment can be above it.
    """
    key = mapping.entries[0][0]
    blank = lead = key.start if inline else lines.start(_head(lines, key, column))
    found: list[_Entry] = []
    for (key, value), following in zip_longest(mapping.entries, mapping.entries[1:]):
        own, after = _below(lines, lines.at(value.end - 1), column)
        if following is None:
            found.append(_Entry(blank, lead, key.start, lines.start(own)))
            break
        begins = lines.start(after) + column == following[0].start
        if not begins or lines.before(following[0].start).strip(" "):
            return None
        own = _right_below(lines, own, after)
        found.append(_Entry(blank, lead, key.start, lines.start(own)))
        above = next((line for line in range(own, after) if lines.is_comment(line)), after)
        if inline and above != after:
            return None
        blank, lead = lines.start(own), lines.start(above)
    return found


def _head(lines: Lines, key: ScalarNode, column: int) -> int:
    """The line of the first key, or of the block of comments directly above it."""
    line = lines.at(key.start)
    if not column and key.value in _OF_THE_FILE:
        return line
    while line and lines.is_comment(line - 1) and lines.is_loose(line - 1, column):
        if lines.is_modeline(line - 1):
            break
        line -= 1
    return line


def _below(lines: Lines, last: int, column: int) -> tuple[int, int]:
    """Behind a value that ends on line `last`: the end of the lines that are set in further than
    its key, and the line of the next value."""
    own = after = last + 1
    while after < len(lines) and lines.holds_nothing(after):
        after += 1
        if not lines.is_loose(after - 1, column):
            own = after
    return own, after


def _right_below(lines: Lines, own: int, after: int) -> int:
    """Comments right below a value stay with it where a blank line parts them from the next key."""
    end = own
    while end < after and lines.is_comment(end):
        end += 1
    return end if end < after else own
