"""Selectors on every command that shows or sends a plan: the run is partial, and says so wherever
it is shown."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import runner
from tests.cli.conftest import Jobs
from tests.support import repos, write_plan
from tests.types import Backfill

BODY = repos(4) + "operations: [sync, embed]\n"
COVERAGE = "coverage: {all: {query: 'select name as item, 1 as total, 1 as done from r\n  "
ASKED = COVERAGE + "where name in :repos'}}\n"
WORDS = "partial: --item '!*1' --limit 2; it does not count as applied"


def test_a_partial_run_says_so_everywhere_and_never_counts_as_applied(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    plan = write_plan(tmp_path, repos(4) + "operations: [sync]\n")
    chosen = ("--item", "!*1", "--limit", "2")
    shown = backfill("plan", plan, *chosen)
    done = backfill("run", plan, *chosen, "--target", url)
    assert done.status == 0, done.err
    assert jobs.items == ["o/r0", "o/r2"]
    assert WORDS in shown.out
    assert done.out.count(WORDS) == 2, "in the preview and in the summary"
    backfill("report", "--html", tmp_path / "page.html")
    told = [backfill(command).out for command in ("status", "report")]
    for text in (*told, (tmp_path / "page.html").read_text("utf-8")):
        assert "does not count as applied" in text
    assert "test (partial)" in backfill("runs").out
    for command in ("status", "runs"):
        found = json.loads(backfill(command, "--format", "json").out)
        assert (found["runs"][0] if command == "runs" else found)[
            "partial"
        ] == "--item '!*1' --limit 2"
    ledger = backfill("apply", plan, "--target", url, "--dry-run")
    assert ledger.out.splitlines()[1].startswith("partial")
    gate = backfill("check", plan, "--applied", "--target", url)
    assert gate.status == 1
    assert "was only for a part of the plan" in gate.out
    applied = backfill("apply", plan, "--target", url, "--yes")
    assert applied.status == 0, applied.err
    assert len(jobs.items) == 6, "the whole of it"
    assert backfill("apply", plan, "--target", url, "--dry-run").out.startswith("nothing is")


def test_selectors_mean_the_same_on_every_command(
    backfill: Backfill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute("CREATE TABLE r (name TEXT)")
        db.executemany("INSERT INTO r VALUES (?)", [(f"o/r{n}",) for n in range(4)])
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{tmp_path / 'app.db'}")
    plan = write_plan(tmp_path, BODY + ASKED)
    chosen = ("--skip", "embed", "--item", "o/*", "--item", "!*2", "--sample", "2", "--seed", "5")
    lines = backfill("plan", plan, *chosen, "--format", "jsonl").out.splitlines()
    items = [json.loads(line)["item"] for line in lines]
    assert len(items) == 2
    covered = json.loads(backfill("coverage", plan, *chosen, "--format", "json").out)["coverage"]
    assert sorted(row["item"] for row in covered["all"]["items"]) == sorted(items)
    checked = json.loads(backfill("check", plan, *chosen, "--format", "json").out)
    assert sorted(row["item"] for row in checked["coverage"]["all"]["items"]) == sorted(items)
    with runner.Session() as session:
        selectors = runner.Selectors(skip=("embed",), items=("o/*", "!*2"), sample=2, seed=5)
        prepared = session.plan(str(plan), selectors=selectors)
        assert [event.item for event in prepared.events()] == items
    other = tmp_path / "other.yaml"
    other.write_text(plan.read_text("utf-8").replace("o/r", "o/x"), "utf-8")
    same = backfill("diff", plan, plan, *chosen, "--exit-code")
    assert (same.status, backfill("diff", plan, other, "--limit", "1").status) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "2", "--sample", "2"), "--limit and --sample exclude each other"),
        (("--seed", "2"), "--seed does nothing without --sample"),
        (("--item", "o/z*"), "--item o/z* matches no item of the plan"),
        (("--only", "synk"), "did you mean `sync`?"),
    ],
)
def test_selectors_that_cannot_be_meant_are_refused(
    backfill: Backfill, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = backfill("plan", write_plan(tmp_path, BODY), *arguments)
    assert result.status == 2
    assert message in result.err


def test_a_part_can_be_saved_and_a_saved_plan_is_sent_as_it_is(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    plan, saved = write_plan(tmp_path, BODY), tmp_path / "saved.json"
    made = backfill("plan", plan, "--limit", "1", "--only", "sync", "--target", url, "-o", saved)
    assert made.status == 0, made.err
    for command in ("run", "plan"):
        refused = backfill(command, saved, "--limit", "1")
        assert refused.status == 2
        assert "--limit 1 does nothing for a saved plan" in refused.err
    assert backfill("run", saved, "--yes").status == 0
    assert jobs.items == ["o/r0"]
    assert json.loads(backfill("status", "--format", "json").out)["partial"]


def test_several_plans_are_not_selected_from_at_once(backfill: Backfill, tmp_path: Path) -> None:
    write_plan(tmp_path, BODY)
    result = backfill("plan", tmp_path, "--limit", "1")
    assert (result.status, "--limit 1 works for one plan at a time" in result.err) == (2, True)


@pytest.mark.parametrize("command", ["coverage", "check"])
def test_coverage_that_goes_by_no_items_says_that_selectors_leave_none_out(
    backfill: Backfill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute("CREATE TABLE r (name TEXT)")
        db.executemany("INSERT INTO r VALUES (?)", [(f"o/r{n}",) for n in range(4)])
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{tmp_path / 'app.db'}")
    said = "note: the query of the coverage `all` does not go by items: --limit 1 does not limit it"
    plan = write_plan(tmp_path, BODY + COVERAGE.rstrip() + "'}}\n")
    assert backfill(command, plan, "--limit", "1").err.count(said) == 1
    assert said not in backfill(command, plan).err
    assert said not in backfill(command, plan, "--skip", "embed").err
    bound = write_plan(tmp_path, BODY + ASKED)
    assert said not in backfill(command, bound, "--limit", "1").err
