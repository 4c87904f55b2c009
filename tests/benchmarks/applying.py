"""Apply a folder of 200 plans of 50 events each: CPU per plan.

The target is the embedded one, with a handler that does nothing; its server and jobs are included.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.inputs import plans_to_apply
from tests.benchmarks.measure import Figure, Goal, Sizes
from tests.benchmarks.process import backfill, run

_PLANS, _EVENTS, _MOST = 200, 50, 0.1  # seconds of CPU a plan


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    plans = sizes.of(_PLANS)
    plans_to_apply(folder, plans, _EVENTS)
    state = f"sqlite:///{folder}/state.db"
    cpu = run(backfill("apply", "plans", "--yes", "--state", state), folder).cpu / plans
    work = f"apply {plans} plans of {_EVENTS} events, CPU a plan"
    return [Figure(work, "s", f"{_MOST} s", ((cpu, _MOST),), Goal("at most", 1), "bound")]
