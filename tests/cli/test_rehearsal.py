"""`report --compare-with`: what a run of some items tells about the whole plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Result
from tests.support import repos, write_plan

HANDLERS = 'handlers: {app/sync: "json:dumps"}\n'


def test_a_sample_says_how_long_the_whole_will_take(
    backfill: Callable[..., Result], tmp_path: Path
) -> None:
    plan = write_plan(
        tmp_path, repos(40) + "operations: [sync]\nbatch_size: 1\ndelay: 90s\n" + HANDLERS
    )
    assert backfill("run", plan, "--sample", "1", "--yes").status == 0
    done = backfill("report", "latest", "--compare-with", plan, "--format", "json")
    found = json.loads(done.out)
    assert found["events"] == {"run": 1, "plan": 40}
    (operation,) = found["operations"]
    assert (operation["operation"], operation["completed"]) == ("sync", 1)
    assert 0 <= operation["p50_s"] == operation["p95_s"] < 60
    assert 39 * 90 <= found["whole"]["seconds"] < 39 * 90 + 120
    assert "its jobs as in run" in found["whole"]["basis"]
    text = backfill("report", "latest", "--compare-with", plan).out
    assert text.startswith("### Rehearsal of `test`: 1 of 40 events\n")
    assert "| sync | 1 | 40 | 1 |" in text
    junit = backfill("report", "latest", "--compare-with", plan, "--format", "junit")
    assert junit.status == 2


def test_a_run_of_another_plan_rehearses_nothing(
    backfill: Callable[..., Result], tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n" + HANDLERS)
    assert backfill("run", plan, "--yes").status == 0
    plan.write_text(plan.read_text("utf-8").replace("name: test", "name: other"), encoding="utf-8")
    done = backfill("report", "latest", "--compare-with", plan)
    assert (done.status, "is of the plan test, not of other" in done.err) == (4, True)
