"""How long the command line takes to start."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.measure import Figure, Goal, backfill, figure, in_turn, python, run

_PAIRS = 25
_GOAL = Goal("at most", 2)


def measure(folder: Path) -> list[Figure]:
    click = python("import click")
    return [
        figure(
            f"backfill {option}",
            in_turn(
                lambda o=option: run(backfill(o), folder),  # type: ignore[misc]
                lambda: run(click, folder),
                _PAIRS,
            ),
            'python -c "import click"',
            goal=_GOAL,
        )
        for option in ("--version", "--help")
    ]
