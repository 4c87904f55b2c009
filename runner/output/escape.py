"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

import re
import unicodedata

# What a CI's log takes for a command of its own: `::name::` at a line's beginning, `##[name]`.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)")
# Control characters (C0, DEL, C1), line separators, and the marks that reorder text.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def visible(text: str) -> str:
    """`text` with every character spelled out that could move the cursor, reorder the line, or
    begin a command to the CI that keeps the log."""
    if ":" in text or "##" in text:
        text = _COMMAND.sub(lambda found: r"\x23" if found[0] == "#" else rf"{found[1]}\x3a", text)
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
