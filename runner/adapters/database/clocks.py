"""A clock that is asked from afar."""

from __future__ import annotations


def ahead(now: float, began: float, ended: float) -> float:
    """How far a clock is ahead that said `now` between two times: as little as that allows."""
    return now - min(max(now, began), ended)
