"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

import re

# Control characters (C0 but for nothing, DEL, C1) and the marks that reorder text.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def visible(text: str) -> str:
    """`text` with every character that could move the cursor or reorder the line spelled out."""
    return _HIDDEN.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def shortened(text: str, width: int) -> str:
    """At most `width` characters, with an ellipsis where some are missing."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
