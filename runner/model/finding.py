"""What an examination has found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One line of a doctor: about what, how bad, and what mends it."""

    about: str
    level: Level
    message: str
    mend: str | None = None
