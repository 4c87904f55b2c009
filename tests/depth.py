"""How deep the suite looks: enough for every push by default, everything with `pytest --full`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import product
from typing import Any, TypeVar

T = TypeVar("T")

FULL = "BACKFILL_TEST_FULL"


def depth(default: int, full: int) -> int:
    """A number of examples, schedules or events. CONTRIBUTING lists which claim has which."""
    return full if os.environ.get(FULL) else default


def some(cases: Iterable[T], default: int) -> list[T]:
    """All of them at full depth; else so many, spread evenly."""
    every = list(cases)
    kept = min(default, len(every))
    return every if depth(0, 1) else [every[n * len(every) // kept] for n in range(kept)]


def crossed(*ways: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Every combination at full depth; else as few as have each value once."""
    listed = [list(way) for way in ways]
    if depth(0, 1):
        return list(product(*listed))
    most = max(map(len, listed))
    return [tuple(way[n % len(way)] for way in listed) for n in range(most)]
