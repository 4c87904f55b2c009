"""Figures, their goals, and how much to measure for one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class BenchmarkFailed(Exception):
    """Something to be measured did not do its work."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many events and rounds; `quick`: just enough to show that everything works."""

    quick: bool = False

    def of(self, full: int) -> int:
        if not self.quick:
            return full
        return full // (100 if full >= 500_000 else 10)

    def rounds(self, full: int) -> int:
        return min(full, 2) if self.quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal for the ratio, or for our own value if it is absolute (`of`)."""

    bound: Literal["at most", "at least", "under"]
    value: float
    of: Literal["ratio", "ours"] = "ratio"

    def reached(self, value: float) -> bool:
        if self.bound == "at least":
            return value >= self.value
        return value < self.value if self.bound == "under" else value <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: the measurements of each round, ours first.

    `kind`: what theirs is. A bound is a fixed number to compare with, neither limit nor peer.
    """

    work: str
    unit: Literal["s", "MB", "events/s", "requests", "jobs"]
    against: str
    pairs: tuple[tuple[float, float], ...]
    goal: Goal | None = None
    kind: Literal["limit", "peer", "bound"] = "limit"

    @property
    def ours(self) -> float:
        return median(ours for ours, _ in self.pairs)

    @property
    def theirs(self) -> float:
        return median(theirs for _, theirs in self.pairs)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: a slow machine slows down both values of a round."""
        return median(ours / theirs for ours, theirs in self.pairs)

    @property
    def more_is_better(self) -> bool:
        return self.unit in ("events/s", "jobs")

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.goal.reached(self.ratio if self.goal.of == "ratio" else self.ours)

    def as_json(self, *, judged: bool) -> dict[str, Any]:
        return {
            "work": self.work,
            "unit": self.unit,
            "kind": self.kind,
            "against": self.against,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "goal": self.goal and [self.goal.of, self.goal.bound, self.goal.value],
            "reached": self.reached if judged else None,
            "pairs": [list(pair) for pair in self.pairs],
        }


def in_turn(rounds: int, *works: Callable[[], T]) -> list[tuple[T, ...]]:
    """Run the works as A B C C B A A B C ..., so that their order does not matter; return what each
    gave. A first round warms up (bytecode, disk cache) and is discarded."""
    for work in works:
        work()
    found: list[list[T]] = []
    for number in range(rounds):
        order = works[::-1] if number % 2 else works
        come = [work() for work in order]
        found.append(come[::-1] if number % 2 else come)
    return list(zip(*found, strict=True))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(ours, theirs, strict=True))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
