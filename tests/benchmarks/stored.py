"""A limit: ``stored.py PLAN STATE`` reads a saved plan by our own reader, writes it to a state by
our own store, and does nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.adapters.journal.leases import holding
from runner.adapters.journal.store import Store
from runner.app.saved import load_saved


def main(path: Path, state: str) -> None:
    saved = load_saved(str(path))
    assert saved is not None
    plan, run_id = saved.plan, saved.run_id
    record = {"target": saved.target, "address": saved.address, "variables": {}, "follow": True}
    with Store(state) as store, holding(store.lock(plan.name, saved.address, run_id)) as lease:
        store.start(run_id, plan, lease, **record)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
