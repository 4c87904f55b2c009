"""Validate 10,000 inline repositories, against reading the YAML, and against another validator."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.inputs import plan_inline
from tests.benchmarks.measure import Figure, Goal, Sizes, in_turn, paired
from tests.benchmarks.process import ROOT, backfill, python, run

_COUNT, _ROUNDS = 10_000, 7
LOAD_YAML = "import sys, yaml; yaml.load(open(sys.argv[1], 'rb'), Loader=yaml.CSafeLoader)"
C_LOADER = "yaml.CSafeLoader"
SCHEMA = ROOT / "schemas" / "plan.v1.schema.json"


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    count = sizes.of(_COUNT)
    plan = plan_inline(folder, count, bare=False).name
    check = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA), plan]
    ours, limit, peer = (
        [process.wall for process in found]
        for found in in_turn(
            sizes.rounds(_ROUNDS),
            lambda: run(backfill("validate", plan), folder),
            lambda: run(python(LOAD_YAML, plan), folder),
            lambda: run(check, folder),
        )
    )
    work = f"validate {count:,} inline"
    return [
        Figure(work, "s", C_LOADER, paired(ours, limit), Goal("at most", 1.0)),
        Figure(work, "s", "check-jsonschema", paired(ours, peer), kind="peer"),
    ]
