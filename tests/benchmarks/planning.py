"""Plan three operations: 10,000 and 100,000 repositories inline, 1,000,000 from a data file.

The limit for a data file is what nobody can avoid: read each row by the standard library, write
three events of it as JSON, and compute one digest over their bytes.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.inputs import plan_csv, plan_inline, plan_jsonl
from tests.benchmarks.measure import Figure, Goal, Sizes, in_turn, paired
from tests.benchmarks.process import backfill, python, run, script
from tests.benchmarks.validating import C_LOADER, LOAD_YAML, SCHEMA

_INLINE, _INLINE_ROUNDS = 10_000, 7
_MORE, _MORE_ROUNDS = 100_000, 3
_ROWS, _ROWS_ROUNDS = 1_000_000, 2
_NEAR_YAML = Goal("at most", 1.0)
_MEMORY = Goal("at most", 150, of="ours")


def measure_inline(folder: Path, sizes: Sizes) -> list[Figure]:
    rounds = sizes.rounds(_INLINE_ROUNDS)
    return [
        *_inline(folder, sizes.of(_INLINE), rounds, straight=True),
        *_inline(folder, sizes.of(_INLINE), rounds, bare=True),
        *_inline(folder, sizes.of(_MORE), sizes.rounds(_MORE_ROUNDS)),
    ]


def _inline(
    folder: Path, count: int, rounds: int, *, bare: bool = False, straight: bool = False
) -> list[Figure]:
    plan = plan_inline(folder, count, bare=bare).name
    works = [
        lambda: run(backfill("plan", plan), folder),
        lambda: run(python(LOAD_YAML, plan), folder),
    ]
    if straight:
        works.append(lambda: run(script("straight.py", plan, str(SCHEMA)), folder))
    ours, limit, *peer = ([process.wall for process in found] for found in in_turn(rounds, *works))
    work = f"plan {count:,} inline, {'bare names' if bare else 'mappings'}"
    figures = [Figure(work, "s", C_LOADER, paired(ours, limit), None if bare else _NEAR_YAML)]
    goal = Goal("at most", 0.5)
    return figures + [
        Figure(work, "s", "written straight", paired(ours, wall), goal, "peer") for wall in peer
    ]


def measure_csv(folder: Path, sizes: Sizes) -> list[Figure]:
    plan_csv(folder, sizes.of(_ROWS))
    return _rows(folder, sizes, "csv", "csv, json, sha256", Goal("at most", 2))


def measure_jsonl(folder: Path, sizes: Sizes) -> list[Figure]:
    plan_jsonl(folder, sizes.of(_ROWS))
    return _rows(folder, sizes, "jsonl", "json, json, sha256", None)


def _rows(folder: Path, sizes: Sizes, form: str, limit: str, goal: Goal | None) -> list[Figure]:
    ours, theirs = in_turn(
        sizes.rounds(_ROWS_ROUNDS),
        lambda: run(backfill("plan", f"plan-{form}.yaml"), folder),
        lambda: run(script("rows.py", f"{form}.{form}"), folder),
    )
    work = f"plan {sizes.of(_ROWS):,} from {form.upper()}"
    walls = paired([one.wall for one in ours], [one.wall for one in theirs])
    peaks = paired([one.peak_mb for one in ours], [one.peak_mb for one in theirs])
    return [
        Figure(work, "s", limit, walls, goal),
        Figure(f"{work}, peak memory", "MB", limit, peaks, _MEMORY),
    ]
