"""Colours of a terminal (ANSI)."""

from __future__ import annotations

_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "white": 37}
_CODES |= {f"bright_{name}": code + 60 for name, code in list(_CODES.items())}
_BOLD, _RESET = "\x1b[1m", "\x1b[0m"


def styled(text: str, color: str | None, *, bold: bool = False) -> str:
    begin = f"\x1b[{_CODES[color]}m" if color else ""
    return f"{begin}{_BOLD if bold else ''}{text}{_RESET}"
