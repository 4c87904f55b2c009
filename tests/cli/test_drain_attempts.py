"""A drain counts its attempts, and is judged by its goal."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.cli.test_database import BODY, CATALOG, Worker, database
from tests.support import write_plan
from tests.types import Backfill

__all__ = ["database"]  # a fixture


class Fragile:
    """The job of the repository with id 2 fails, `times` times."""

    def __init__(self, worker: Worker, times: int) -> None:
        self.worker, self.times = worker, times
        self.failed: Counter[str] = Counter()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["data"]["id"] == 2 and self.failed.total() < self.times:
            self.failed[event["id"]] += 1
            raise ValueError("not now")
        self.worker(event)


def test_a_drain_at_its_goal_is_completed_whatever_has_failed_on_the_way(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    fragile = Fragile(Worker(database), times=2)
    plan = write_plan(tmp_path, BODY + "on_failure: continue\n", catalog=CATALOG)
    with served(create_app({"app/drain": fragile})) as url:
        done = backfill("run", plan, "--target", url, "--format", "json")
        assert done.status == 0, done.err
        assert done.err.count("; done") == 1, "not after each round"
        summary = json.loads(done.out)
        assert (summary["status"], summary["totals"]["failed"]) == ("completed", 2)
        assert summary["failures"] == []
        note = "2 attempts did not take effect, and later ones have done the work"
        assert note in summary["notes"]
        retried = backfill("retry", "latest")
        again = backfill("apply", plan, "--target", url)
    assert retried.status == 4
    assert (again.status, "nothing is pending" in again.out) == (0, True)
    shown = backfill("status").out
    made_good = "id not take effect: 2 failed; 2 of them were made good by later attempts"
    assert made_good in shown
    assert made_good in backfill("report").out
    assert "backfill retry" not in shown
    junit = backfill("report", "--format", "junit").out
    assert junit.count("failed; a later attempt did the work") == 2
    assert "<failure" not in junit
    assert 'failures="0"' in junit.splitlines()[1]


def test_a_failure_in_the_round_that_reaches_the_goal_stops_nothing(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    """The plan stops on a failure, but meanwhile somebody else did the work."""

    def work(event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute("UPDATE repositories SET pending = 0")
        if event["data"].get("id") == 2:
            raise ValueError("not now")

    after = "  after: {event: app/after, for_each: repo, payload: {repo: '{{ repo.repo }}'}}\n"
    body = BODY.replace("operations: [drain]", "operations: [drain, after]")
    plan = write_plan(tmp_path, body, catalog=CATALOG + after)
    with served(create_app({"app/drain": work, "app/after": work})) as url:
        done = backfill("run", plan, "--target", url, "--format", "json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["totals"]["failed"] == 1
    assert json.loads(done.out)["totals"]["completed"] == 3


@pytest.mark.parametrize("times", [2, 9])
def test_a_retry_of_a_drain_sends_for_an_item_once_and_not_for_those_that_are_done(
    backfill: Backfill, tmp_path: Path, database: Path, times: int
) -> None:
    """Of four rounds, o/b failed in two or in all."""
    worker = Worker(database)
    fragile = Fragile(worker, times)
    catalog = CATALOG.replace("stalled_after: 2", "max_rounds: 4\n      stalled_after: 9")
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET pending = 60 WHERE id = 1")
    plan = write_plan(tmp_path, BODY + "on_failure: continue\n", catalog=catalog)
    with served(create_app({"app/drain": fragile})) as url:
        first = backfill("run", plan, "--target", url, "--format", "json")
        assert first.status == 7, first.err
        assert json.loads(first.out)["totals"]["failed"] == min(times, 4)
        fragile.times = 0
        retried = backfill("retry", "latest", "--format", "json")
    if times == 2:
        assert retried.status == 4, "a later round has made it good"
    else:
        assert json.loads(retried.out)["totals"]["planned"] == 1


def test_where_the_pause_before_the_next_batch_takes_a_drains_time_all_say_how_to_go_on(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    catalog = CATALOG.replace("stalled_after: 2", "max_time: 20s")
    body = BODY.replace("delay: 0s", "delay: 1m\nbatch_size: 1")
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        ended = backfill("run", plan, "--target", url)
    assert ended.status == 7, ended.err
    (line,) = [one for one in ended.out.splitlines() if one.startswith("to go on: ")]
    assert line.endswith(" --max-time 2m")
    assert line in backfill("status").out.splitlines()
    assert line.removeprefix("to go on: ") in backfill("report").out
