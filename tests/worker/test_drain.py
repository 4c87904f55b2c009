"""Plans that find out items while they run: their files are found again where the worker is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.worker.request import EVENT
from tests.cli.conftest import Result, served, until
from tests.cli.test_database import STUCK
from tests.faults.test_kill_points_of_a_drain import BODY, CATALOG
from tests.support import write_plan
from tests.worker.test_serve import Site, submit


@pytest.fixture
def drained(
    warm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, Counter[str]]]:
    """A site whose jobs work off a backlog, ten at a time."""
    database, seen = tmp_path / "app.db", Counter[str]()
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE repositories (name TEXT, pending INTEGER)")
        db.executemany("INSERT INTO repositories VALUES (?, ?)", [("o/a", 35), ("o/b", 40)])
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{database}")

    def work(event: Mapping[str, Any]) -> None:
        seen[event["id"]] += 1
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute(
                "UPDATE repositories SET pending = max(0, pending - 10) WHERE name = ?",
                [event["data"]["name"]],
            )

    with ExitStack() as stack:
        site = Site(tmp_path, stack, warm)
        url = stack.enter_context(
            served(create_app({"app/drain": work, EVENT: site.engine.receive}))
        )
        site.url = site.env["INNGEST_BASE_URL"] = url
        yield site, seen


def _moved_after_submit(site: Site, backfill: Callable[..., Result]) -> Path:
    """Submit the plan from a checkout that is then moved; return where it is now."""
    here, there = site.folder / "ci", site.folder / "worker"
    here.mkdir()
    plan = write_plan(here, BODY, catalog=CATALOG)
    submit(backfill, site, plan)
    shutil.move(here, there)
    return there


def test_rounds_are_found_out_by_the_worker(
    drained: tuple[Site, Counter[str]], backfill: Callable[..., Result]
) -> None:
    site, seen = drained
    site.serve(str(_moved_after_submit(site, backfill)))
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "completed", ran.error
    assert set(seen.values()) == {1}
    assert len(seen) == 8


def test_without_the_files_the_run_is_incomplete_and_says_why(
    drained: tuple[Site, Counter[str]], backfill: Callable[..., Result]
) -> None:
    site, seen = drained
    _moved_after_submit(site, backfill)
    site.serve()
    (ran,) = site.engine.run_all()
    assert "to resolve its stages" in ran.error["message"]
    shown = backfill("status", env=site.env).out
    assert "INCOMPLETE" in shown
    reason = json.loads(backfill("status", "--format", "json", env=site.env).out)["reason"]
    assert "to resolve its stages" in reason
    assert f"why it ended: {reason}\n" in shown
    assert "\n\nWhy it ended: " in backfill("report", env=site.env).out
    backfill("report", "--html", str(site.folder / "run.html"), env=site.env)
    page = (site.folder / "run.html").read_text("utf-8")
    assert "Why it ended: " in page
    assert not seen


def test_a_drain_that_is_stalled_goes_on_by_the_workers_once_that_is_said(
    drained: tuple[Site, Counter[str]], backfill: Callable[..., Result]
) -> None:
    site, seen = drained
    database = site.folder / "app.db"
    catalog = CATALOG.replace("until:", "until:\n      stalled_after: 2")
    plan = write_plan(site.folder, BODY, catalog=catalog)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(STUCK)
    site.serve(str(site.folder))
    run_id = submit(backfill, site, plan)
    site.engine.run_all()
    stalled = len(seen)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("DROP TRIGGER stuck")
    again = backfill("resume", run_id, "--detach", "--past-failures", "--yes", env=site.env)
    assert again.status == 0, again.err
    until(lambda: bool(site.engine.events))
    (ran,) = site.engine.run_all()
    assert ran.output == {"run": run_id, "status": "completed"}, ran.error
    assert (stalled, set(seen.values())) == (4, {1})
