"""Edits of a text by the places in it: what no edit names stays as it is, byte for byte."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Edit:
    """In place of text[start:end] its parts: new text, or spans of the old, which may have edits
    of their own."""

    start: int
    end: int
    parts: tuple[str | Span, ...]


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with the edits made; of two that meet, one lies within a part of the other."""
    outer_first = sorted(edits, key=lambda edit: (edit.start, -edit.end))
    starts = [edit.start for edit in outer_first]

    def written(start: int, end: int, first: int) -> Iterator[str]:
        at, index = start, bisect_left(starts, start, first)
        while index < len(starts) and starts[index] < end:
            edit = outer_first[index]
            yield text[at : edit.start]
            for part in edit.parts:
                yield from [part] if isinstance(part, str) else written(*part, index + 1)
            at = edit.end
            index = bisect_left(starts, at, index + 1)
        yield text[at:end]

    return "".join(written(0, len(text), 0))
