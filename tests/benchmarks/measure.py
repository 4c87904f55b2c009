"""Whole processes, measured in turn with their yardstick, and the figures that come of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

# What of the user's environment children see: no keys, no proxies (all traffic is on loopback).
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


class BenchmarkFailed(Exception):
    """Something that was to be measured did not do its work."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one child process took: seconds of wall clock and of CPU, and its peak memory.

    On Linux the peak is at least what this harness held when it started the child: about 25 MB.
    """

    wall: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Goal:
    """`of` the ratio, or of our own value where the goal is an absolute one."""

    bound: Literal["at most", "at least", "under"]
    value: float
    of: Literal["ratio", "ours"] = "ratio"

    def reached(self, value: float) -> bool:
        if self.bound == "at least":
            return value >= self.value
        return value < self.value if self.bound == "under" else value <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was measured in each pair, ours first."""

    work: str
    unit: Literal["s", "MB", "events/s", "requests"]
    against: str
    pairs: tuple[tuple[float, float], ...]
    goal: Goal | None = None

    @property
    def ours(self) -> float:
        return median(ours for ours, _ in self.pairs)

    @property
    def yardstick(self) -> float:
        return median(theirs for _, theirs in self.pairs)

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios: what slowed the machine down slowed both of a pair."""
        return median(ours / theirs for ours, theirs in self.pairs)

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.goal.reached(self.ratio if self.goal.of == "ratio" else self.ours)

    def as_json(self) -> dict[str, Any]:
        return {
            "work": self.work,
            "unit": self.unit,
            "against": self.against,
            "ours": self.ours,
            "yardstick": self.yardstick,
            "ratio": self.ratio,
            "goal": self.goal and [self.goal.of, self.goal.bound, self.goal.value],
            "reached": self.reached,
            "pairs": [list(pair) for pair in self.pairs],
        }


def backfill(*arguments: str) -> list[str]:
    """The console script, run by this interpreter, as its first line would have it."""
    script = Path(sys.executable).with_name("backfill")
    start = [str(script)] if script.exists() else ["-m", "runner"]
    return [sys.executable, *start, *arguments]


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"NO_COLOR": "1"}


def run(command: Sequence[str], folder: Path, *, expect: int = 0) -> Process:
    """Run one child to its end; its output goes nowhere, its last words into the error."""
    with tempfile.TemporaryFile() as words:
        start = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != expect:
            words.seek(0)
            said = words.read().decode(errors="replace")[-2000:]
            message = f"{' '.join(command)} exits {child.returncode}:\n{said}"
            raise BenchmarkFailed(message)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, else in KB
    return Process(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1.024 / unit)


def in_turn(ours: Callable[[], T], theirs: Callable[[], T], pairs: int) -> list[tuple[T, T]]:
    """A B A B ...; one pair to warm up is thrown away (bytecode, the disk's cache)."""
    ours(), theirs()
    return [(ours(), theirs()) for _ in range(pairs)]


def figure(
    work: str,
    pairs: Sequence[tuple[Process, Process]],
    against: str,
    *,
    goal: Goal | None = None,
    memory: bool = False,
) -> Figure:
    if memory:
        values = tuple((ours.peak_mb, theirs.peak_mb) for ours, theirs in pairs)
    else:
        values = tuple((ours.wall, theirs.wall) for ours, theirs in pairs)
    return Figure(work, "MB" if memory else "s", against, values, goal)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
