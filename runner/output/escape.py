"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

import re
import unicodedata

# Control characters (C0, DEL, C1), line separators, and the marks that reorder text.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def visible(text: str) -> str:
    """`text` with every character that could move the cursor or reorder the line spelled out."""
    return _HIDDEN.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def columns(text: str) -> int:
    """The terminal columns that `text` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def shortened(text: str, width: int) -> str:
    """At most `width` columns, with an ellipsis where something is missing."""
    if columns(text) <= width:
        return text
    end, room = 0, width - 1
    while (room := room - _columns(text[end])) >= 0:
        end += 1
    return text[:end] + "…"


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
