"""Runs that are sent and not followed: they count as completed only after somebody followed
them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, served
from tests.support import repos, write_plan
from tests.types import Backfill

DEPENDENT = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: dependent, depends_on: [test]}
catalog: catalog.yaml
repos: [o/after]
operations: [sync]
"""


SCHEDULED = "pacing: scheduled\nbatch_size: 2\ndelay: 100ms\n"


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize(("failing", "ends"), [(False, "completed"), (True, "failed")])
def test_sent_is_a_state_of_its_own_until_resume_has_followed_it(
    backfill: Backfill,
    tmp_path: Path,
    url: str,
    jobs: Jobs,
    failing: bool,
    ends: str,
    scheduled: bool,
) -> None:
    """The command that sends a scheduled plan never follows it."""
    jobs.failing = {"o/r1"} if failing else set()
    body = repos(3) + "operations: [sync]\n" + (SCHEDULED if scheduled else "")
    plan, unfollowed = write_plan(tmp_path, body), [] if scheduled else ["--no-wait"]
    sent = backfill("run", plan, "--target", url, *unfollowed, "--format", "json")
    assert sent.status == 0
    summary = json.loads(sent.out)
    assert (summary["status"], summary["totals"]["completed"]) == ("sent", 0)
    run = summary["run_id"]
    assert f"`backfill resume {run}` follows them" in " ".join(summary["notes"])

    status = json.loads(backfill("status", "--format", "json").out)
    assert (status["state"], status["stages"][0]["sent"]) == ("sent", 3)
    assert f"to follow its jobs: backfill resume {run}" in backfill("status").out
    (listed,) = json.loads(backfill("runs", "--state-is", "sent", "--format", "json").out)["runs"]
    assert listed["run_id"] == run
    assert "**sent**" in backfill("report", "--format", "markdown").out
    assert 'the run is sent"' in backfill("report", "--format", "junit").out
    assert f"backfill resume {run}" in backfill("retry", run).err, "nobody knows what has failed"

    dependent = tmp_path / "later.yaml"
    dependent.write_text(DEPENDENT, encoding="utf-8")
    everything = ("apply", plan, dependent, "--target", url)
    entries = json.loads(backfill(*everything, "--dry-run", "--format", "json").out)["plans"]
    assert {entry["name"]: entry["state"] for entry in entries}["test"] == "sent"
    refused = backfill(*everything)
    assert refused.status == 7
    assert f"`backfill resume {run}` follows it to its end" in refused.err
    alone = backfill("apply", dependent, "--target", url)
    assert alone.status == 4
    jobs.wait_for(3)
    assert len(jobs.items) == 3, "nothing is sent again, and nothing that depends on it"

    resumed = backfill("resume", run, "--format", "json")
    assert resumed.status == (1 if failing else 0), resumed.err
    followed = json.loads(resumed.out)
    assert followed["status"] == ends
    assert followed["totals"]["completed"] == 3 - failing
    assert followed["totals"]["failed"] == int(failing)
    assert len(jobs.items) == 3
    assert json.loads(backfill("status", "--format", "json").out)["state"] == ends
    assert backfill(*everything).status == (1 if failing else 0)
    assert len(jobs.items) == 3 + (not failing)


def test_apply_follows_a_run_that_was_sent_when_it_is_told_to_resume(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    backfill("run", plan, "--target", url, "--no-wait")
    assert backfill("apply", plan, "--target", url, "--resume").status == 0
    assert len(jobs.items) == 2


def test_what_is_done_when_sent_has_completed_when_it_is_accepted(
    backfill: Backfill, tmp_path: Path, jobs: Jobs
) -> None:
    with served(create_app({"app/fire": jobs, "app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(3) + "operations: [fire]\n")
        done = backfill("run", plan, "--target", url, "--no-wait", "--format", "json")
        summary = json.loads(done.out)
        assert (summary["status"], summary["totals"]["completed"]) == ("completed", 3)
        assert summary["notes"] == []
        mixed = write_plan(tmp_path, repos(3) + "operations: [fire, sync]\n")
        done = backfill("run", mixed, "--target", url, "--no-wait", "--format", "json")
        summary = json.loads(done.out)
        assert (summary["status"], summary["totals"]["completed"]) == ("sent", 3)
        resumed = json.loads(backfill("resume", "latest", "--format", "json").out)
        assert (resumed["status"], resumed["totals"]["completed"]) == ("completed", 6)
