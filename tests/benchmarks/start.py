"""Measure the start of the command line: for --version, for help, and for each press of TAB."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.measure import Figure, Goal, Sizes, in_turn, paired
from tests.benchmarks.process import Process, backfill, python, run

_ROUNDS = 25
_GOAL = Goal("at most", 1.3)
# What bash sets when TAB is pressed after `backfill r`.
_TAB = {"_BACKFILL_COMPLETE": "bash_complete", "COMP_WORDS": "backfill r", "COMP_CWORD": "1"}


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    click = python("import click")
    version, help_, tab, limit = in_turn(
        sizes.rounds(_ROUNDS),
        lambda: run(backfill("--version"), folder),
        lambda: run(backfill("--help"), folder),
        lambda: run(backfill(), folder, _TAB),
        lambda: run(click, folder),
    )
    works = {"backfill --version": version, "backfill --help": help_, "completion": tab}
    return [_figure(work, ours, limit) for work, ours in works.items()]


def _figure(work: str, ours: tuple[Process, ...], limit: tuple[Process, ...]) -> Figure:
    pairs = paired([one.wall for one in ours], [one.wall for one in limit])
    return Figure(work, "s", 'python -c "import click"', pairs, _GOAL)
