"""``python -m tests.simulation --seed N`` replays a seed exactly; ``--count`` and ``--full`` look
for one that shows a fault."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulation.old_faults import OLD_FAULTS
from tests.simulation.story import simulate

FULL = 10_000
FEW = 20  # seeds, up to which each verdict is printed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} seeds")
    parser.add_argument("--fault", choices=OLD_FAULTS, help="put an old fault back, and find it")
    parser.add_argument("--state", help="the URL of an empty schema in a PostgreSQL, for one seed")
    given = parser.parse_args()
    if given.state and (given.full or given.count > 1):
        parser.error("--state is for one seed")
    logging.disable(logging.CRITICAL)
    count = FULL if given.full else given.count
    fault = OLD_FAULTS.get(given.fault)
    then, where = (fault.put_back, fault.where) if fault else (None, lambda _story: True)
    began, broken, events, faults = time.process_time(), 0, 0, 0
    for seed in range(given.seed, given.seed + count):
        verdict = simulate(seed, then=then, where=where, server_state=given.state)
        events, faults = events + verdict.events, faults + verdict.faults
        if verdict.broken or count <= FEW:
            print(verdict, flush=True)
        broken += verdict.broken is not None
        if then and broken:
            break
    if count > 1:
        spent = time.process_time() - began
        print(
            f"{count:,} seeds: {events:,} events, {faults:,} faults, {spent:.0f}s: "
            f"{broken or 'none'} broken"
        )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
