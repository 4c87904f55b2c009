"""A retry killed at any named point, and resumed: each of an item's events takes effect once."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.journal.store import Store
from runner.model import RETRIED
from tests.cli.conftest import served
from tests.faults.conftest import Kill
from tests.support import CATALOG, repos, write_plan
from tests.types import Backfill

ITEMS, TIMES = 3, 2
_KILLS = [
    (point, when)
    for when in ("before", "after")
    for point in (
        "run-record 1",
        "chunk-record 2",
        "request 1",
        "accepted 2",
        "job-record 1",
        "run-end 1",
    )
]


@pytest.mark.parametrize(("point", "when"), _KILLS)
def test_nothing_is_lost_and_nothing_doubled_by_a_retry_that_is_killed(
    backfill: Backfill, killed: Kill, tmp_path: Path, point: str, when: str
) -> None:
    """Each item has two events, of which one failed; of one item, both failed."""
    good, seen, lock = Counter[str](), Counter[str](), threading.Lock()
    failing = {"o/r0": 2, "o/r1": 1, "o/r2": 1}

    def handler(event: Mapping[str, Any]) -> None:
        repo = event["data"]["repo"]
        with lock:
            seen[event["id"]] += 1
            if failing[repo]:
                failing[repo] -= 1
                raise ValueError("not now")
            good[repo] += 1

    catalog = CATALOG.replace("done: completed}", f"done: completed, repeat: {TIMES}}}")
    body = repos(ITEMS) + "operations: [sync]\nbatch_size: 2\ndelay: 0s\non_failure: continue\n"
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/sync": handler})) as url:
        first = backfill("run", plan, "--target", url, "--format", "json")
        run = json.loads(first.out)["run_id"]
        assert json.loads(first.out)["totals"]["failed"] == 4
        assert killed(point, when, "retry", run, "--format", "json") == -9
        latest = json.loads(backfill("status", "--format", "json").out)["run_id"]
        finished = backfill(*(("retry", run) if latest == run else ("resume", latest)))
        assert finished.status == 0, finished.err
        assert backfill("retry", run).status == 4, "nothing is left"
    assert good == {f"o/r{number}": TIMES for number in range(ITEMS)}
    assert set(seen.values()) == {1}
    with Store() as store:
        assert store.retriable(store.find(run), RETRIED, ()) == {}
        chain = store.reading(store.find(run)).chain()
        assert chain
        assert (chain.totals.planned, chain.totals.completed) == (6, 6)
        (ledger,) = store.ledger("test", store.find(run).address)
        assert ledger.done
