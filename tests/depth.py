"""How deep the suite looks: enough for every push by default, everything with `pytest --full`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import combinations, product
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


def paired(*ways: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Every combination at full depth; else a few that have each pair of values of two ways."""
    listed = [list(way) for way in ways]
    every = list(product(*(range(len(way)) for way in listed)))
    if not depth(0, 1):
        left = {pair for one in every for pair in _pairs(one)}
        few: list[tuple[int, ...]] = []
        while left:
            few.append(max(every, key=lambda one: len(left & _pairs(one))))
            left -= _pairs(few[-1])
        every = few
    return [tuple(way[n] for way, n in zip(listed, one, strict=True)) for one in every]


def _pairs(one: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    return {*combinations(enumerate(one), 2)}
