"""Planning: 10,000 repositories written inline, 1,000,000 in a CSV file; three operations."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.inputs import plan_csv, plan_inline
from tests.benchmarks.measure import Figure, Goal, backfill, figure, in_turn, python, run

_INLINE, _INLINE_PAIRS = 10_000, 9
_CSV, _CSV_PAIRS = 1_000_000, 2
_LOAD_YAML = "import sys, yaml; yaml.load(open(sys.argv[1], 'rb'), Loader=yaml.CSafeLoader)"
_READ_CSV = "import sys, csv; sum(1 for _ in csv.reader(open(sys.argv[1], newline='')))"


def measure_inline(folder: Path) -> list[Figure]:
    return [
        _inline(folder, "mappings", Goal("at most", 2)),
        _inline(folder, "bare names", None),
    ]


def _inline(folder: Path, form: str, goal: Goal | None) -> Figure:
    plan = plan_inline(folder, _INLINE, bare=form == "bare names").name
    pairs = in_turn(
        lambda: run(backfill("plan", plan), folder),
        lambda: run(python(_LOAD_YAML, plan), folder),
        _INLINE_PAIRS,
    )
    return figure(f"plan {_INLINE:,} inline, {form}", pairs, "yaml.CSafeLoader", goal=goal)


def measure_csv(folder: Path) -> list[Figure]:
    plan = plan_csv(folder, _CSV)
    pairs = in_turn(
        lambda: run(backfill("plan", plan.name), folder),
        lambda: run(python(_READ_CSV, "csv.csv"), folder),
        _CSV_PAIRS,
    )
    work, against = f"plan {_CSV:,} from CSV", "csv.reader"
    goal = Goal("under", 300, of="ours")
    return [
        figure(f"{work}, peak memory", pairs, against, goal=goal, memory=True),
        figure(f"{work}, time", pairs, against),
    ]
