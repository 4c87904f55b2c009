"""`backfill check`: the gate that migrations and deploys wait at."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runner
import runner.execution.check
from runner.app.check import Checked, check
from runner.app.session import Session, Silent
from runner.errors import TargetDown
from tests.cli.conftest import Jobs
from tests.support import FakeClock, Recorder, write_plan
from tests.types import Backfill

BODY = "repos: [o/a, o/b]\noperations: [sync]\n"
CHECK = """\
checks:
  - name: synced
    query: select name as repo, pending from repositories where name in :repos
    expect: {column: pending, at_most: 0}
"""
MOVED = """\
  - name: moved
    query: select name as repo, pending from repositories where name in :repos
    expect: {column: pending, decreased: true}
"""
COVERAGE = """\
coverage:
  rows:
    query: >-
      select name as item, total, total - pending as done from repositories where name in :repos
"""
Change = Callable[[str], None]


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Change:
    """Run statements on the database that plans query; o/b is not done."""
    path = tmp_path / "app.db"
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{path}")

    def run(statement: str) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    run("CREATE TABLE repositories (name TEXT, total INTEGER, pending INTEGER)")
    run("INSERT INTO repositories VALUES ('o/a', 5, 0), ('o/b', 5, 3)")
    return run


def test_checks_of_operations_without_items_are_named(
    backfill: Backfill, tmp_path: Path, change: Change
) -> None:
    body = "repos: [{repo: o/a, skip: [sync]}]\noperations: [sync, embed]\n"
    after = CHECK.replace("- name: synced", "- name: synced\n    after: sync")
    result = backfill("check", write_plan(tmp_path, body + after))
    assert result.status == 4
    assert "has only checks of operations without items: synced\n" in result.err


@pytest.mark.parametrize("more", [CHECK, COVERAGE, CHECK + COVERAGE, CHECK + MOVED])
def test_it_ends_with_1_and_names_the_item_until_all_hold(
    backfill: Backfill, tmp_path: Path, change: Change, more: str
) -> None:
    plan = write_plan(tmp_path, BODY + more)
    before = backfill("check", plan)
    assert before.status == 1, before.err
    assert "does not hold: " in before.out
    assert "o/b" in before.out.splitlines()[-1]
    change("UPDATE repositories SET pending = 0")
    after = backfill("check", plan)
    assert (after.status, after.out.splitlines()[-1]) == (0, "all hold")
    assert ("skipped  moved: it compares with" in after.out) is (MOVED in more)


def test_where_a_check_says_how_much_is_enough_coverage_is_only_shown(
    backfill: Backfill, tmp_path: Path, change: Change
) -> None:
    change("UPDATE repositories SET pending = 2")
    plan = write_plan(tmp_path, BODY + CHECK.replace("at_most: 0", "at_most: 2") + COVERAGE)
    result = backfill("check", plan)
    assert result.status == 0, result.out
    assert "60.0 %" in result.out


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM repositories WHERE name = 'o/b'", "o/b has no row"),
        ("DELETE FROM repositories", "o/a has no row, and 1 other is not covered"),
        ("UPDATE repositories SET total = 0, pending = 0", "no data: there is nothing to cover"),
        ("UPDATE repositories SET pending = 0", None),
        ("UPDATE repositories SET total = total * (name = 'o/a'), pending = 0", None),
    ],
)
def test_coverage_alone_holds_where_every_item_is_covered_and_no_data_is_not_all(
    tmp_path: Path, change: Change, statement: str, reason: str | None
) -> None:
    change(statement)
    with runner.Session() as session:
        found = session.check(str(write_plan(tmp_path, BODY + COVERAGE)))
    assert found.unmet == ((f"the coverage `rows`: {reason}",) if reason else ())
    assert found.ok is (reason is None)


@pytest.mark.parametrize("more", ["", f"checks:\n{MOVED}"])
def test_a_plan_with_nothing_to_ask_is_refused_with_a_hint(
    backfill: Backfill, tmp_path: Path, change: Change, more: str
) -> None:
    change("UPDATE repositories SET pending = 0")
    result = backfill("check", write_plan(tmp_path, BODY + more))
    assert (result.status, result.out) == (4, "")
    assert "--applied" in result.err


def test_a_question_that_is_refused_is_no_answer(
    backfill: Backfill, tmp_path: Path, change: Change
) -> None:
    change("DROP TABLE repositories")
    result = backfill("check", write_plan(tmp_path, BODY + CHECK))
    assert result.status == 4
    assert "the check `synced` cannot be asked" in result.err


def test_an_invalid_plan_ends_with_3_and_a_database_that_is_away_with_6(
    backfill: Backfill, tmp_path: Path
) -> None:
    assert backfill("check", write_plan(tmp_path, "repos: [o/a]\noperations: [none]\n")).status == 3
    plan = write_plan(tmp_path, BODY + CHECK)
    away = f"sqlite:///{tmp_path}/nowhere/app.db"
    assert backfill("check", plan, env={"BACKFILL_DATABASE_URL": away}).status == 6


def test_the_json_says_what_holds_and_what_does_not(
    backfill: Backfill, tmp_path: Path, change: Change
) -> None:
    change("UPDATE repositories SET total = 4")
    plan = write_plan(tmp_path, BODY + CHECK + MOVED + COVERAGE)
    result = backfill("check", plan, "--format", "json")
    found: dict[str, Any] = json.loads(result.out)
    assert result.status == 1
    assert (found["apiVersion"], found["kind"], found["plan"]) == (
        "backfill/v1",
        "CheckResult",
        "test",
    )
    assert found["ok"] is False
    assert [(one["name"], one["ok"]) for one in found["checks"]] == [("synced", False)]
    assert [one["name"] for one in found["skipped"]] == ["moved"]
    assert "o/b" in found["unmet"][0]
    assert found["coverage"]["rows"]["total"]["missing"] == 3
    assert (found["target"], found["ledger"]) == (None, None)


def test_applied_wants_the_plan_unchanged_and_completed_on_that_target(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    """A plan without checks, too, is looked up in the ledger."""
    plan = write_plan(tmp_path, f"vars: {{days: 1}}\n{BODY}")

    def applied(*more: str) -> tuple[int, str, str]:
        result = backfill("check", plan, "--applied", "--format", "json", *more)
        found = json.loads(result.out)
        return result.status, found["ledger"]["state"], "; ".join(found["unmet"])

    here = ("--target", url)
    never = f"test is not applied to {url}: it has not been run there"
    assert applied(*here) == (1, "pending", never)
    assert not (tmp_path / ".backfill").exists()
    jobs.failing.add("o/b")
    assert backfill("run", plan, *here, "--yes").status == 1
    assert applied(*here)[:2] == (1, "failed")
    jobs.failing.clear()
    assert backfill("retry", "latest", "--yes").status == 0
    assert applied(*here) == (0, "applied", "")
    assert applied("--target", "http://127.0.0.1:9")[:2] == (1, "pending")
    assert applied(*here, "--var", "days=3")[:2] == (1, "changed")
    plan.write_text(plan.read_text("utf-8") + "delay: 1s\n", encoding="utf-8")
    status, state, unmet = applied(*here)
    assert (status, state) == (1, "changed")
    assert "its files or variables have changed since run" in unmet


def test_a_ledger_does_not_make_good_a_check_that_does_not_hold(
    backfill: Backfill, tmp_path: Path, change: Change, url: str
) -> None:
    change("UPDATE repositories SET pending = 0")
    plan = write_plan(tmp_path, BODY + CHECK)
    assert backfill("run", plan, "--target", url, "--yes").status == 0
    assert backfill("check", plan, "--applied", "--target", url).status == 0
    change("UPDATE repositories SET pending = 1")
    assert backfill("check", plan, "--applied", "--target", url).status == 1


def test_a_target_without_applied_is_said_to_do_nothing(
    backfill: Backfill, tmp_path: Path, change: Change
) -> None:
    change("UPDATE repositories SET pending = 0")
    result = backfill("check", write_plan(tmp_path, BODY + CHECK), "--target", "dev")
    assert result.status == 0
    assert "note: --target does nothing without --applied" in result.err


Happens = Callable[[], object]


class Later(FakeClock):
    """A clock at whose n-th sleep the n-th event happens."""

    def __init__(self, *events: Happens) -> None:
        super().__init__()
        self.events = iter(events)

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        await super().sleep(seconds, until)
        next(self.events, lambda: None)()


def waited(plan: Path, seconds: float, *events: Happens) -> tuple[Checked, FakeClock, list[str]]:
    clock, heard = Later(*events), Recorder()
    with Session(clock=clock, reporter=Silent(heard)) as session:
        return check(session, str(plan), wait=seconds), clock, heard.notes


def test_who_waits_asks_again_until_all_hold_and_hears_of_what_changes(
    tmp_path: Path, change: Change
) -> None:
    left = [lambda n=n: change(f"UPDATE repositories SET pending = {n}") for n in (2, 2, 1, 0)]
    found, clock, notes = waited(write_plan(tmp_path, BODY + CHECK), 1800, *left)
    assert found.ok
    assert clock.slept == [10] * 4
    assert len(notes) == 3, notes
    assert notes[0].startswith("waiting for 30m at most: the check `synced`: ")
    assert "o/b" in notes[0]
    assert all(note.startswith("still waiting: the check `synced`: ") for note in notes[1:])


@pytest.mark.parametrize(("after", "slept"), [(0, []), (2, [10, 10])])
def test_a_wait_that_is_given_up_asks_no_more(
    tmp_path: Path, change: Change, after: int, slept: list[int]
) -> None:
    """As by an agent's client, before the first wait or within one."""

    class Stopping(Silent):
        def say(self, message: str) -> None:  # noqa: ARG002
            if not after:
                session.stop()

    clock = Later(*(after - 1) * [lambda: None], lambda: session.stop())
    with Session(clock=clock, reporter=Stopping()) as session:
        plan = write_plan(tmp_path, BODY + CHECK)
        found = check(session, str(plan), wait=300)
    assert not found.ok
    assert clock.slept == slept


def test_when_the_time_is_up_what_does_not_hold_is_the_answer(
    tmp_path: Path, change: Change
) -> None:  # the last query is made as the time ends
    found, clock, notes = waited(write_plan(tmp_path, BODY + CHECK), 25, lambda: None)
    assert not found.ok
    assert clock.slept == [10, 10, 5]
    assert len(notes) == 1


def test_who_does_not_wait_or_need_not_asks_once(tmp_path: Path, change: Change) -> None:
    plan = write_plan(tmp_path, BODY + CHECK)
    found, clock, notes = waited(plan, 0)
    assert (found.ok, clock.slept, notes) == (False, [], [])
    change("UPDATE repositories SET pending = 0")
    found, clock, notes = waited(plan, 1800)
    assert (found.ok, clock.slept, notes) == (True, [], [])


def away(monkeypatch: pytest.MonkeyPatch) -> Happens:
    def refuse(*_given: object) -> None:
        raise TargetDown("the database is away")

    return lambda: monkeypatch.setattr("runner.execution.check.ask_now", refuse)


def test_a_database_that_goes_away_meanwhile_is_waited_for(
    tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_now = runner.execution.check.ask_now

    def back() -> None:
        monkeypatch.setattr("runner.execution.check.ask_now", ask_now)
        change("UPDATE repositories SET pending = 0")

    plan = write_plan(tmp_path, BODY + CHECK)
    found, clock, notes = waited(plan, 1800, away(monkeypatch), lambda: None, back)
    assert found.ok
    assert clock.slept == [10] * 3
    assert notes[1:] == ["still waiting: the database is away"]


def test_one_that_stays_away_or_never_was_there_is_an_error(
    tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, gone = write_plan(tmp_path, BODY + CHECK), away(monkeypatch)
    with pytest.raises(TargetDown):
        waited(plan, 30, gone)
    with pytest.raises(TargetDown):
        waited(plan, 1800)


def test_the_option_takes_a_duration(backfill: Backfill, tmp_path: Path, change: Change) -> None:
    plan = write_plan(tmp_path, BODY + CHECK)
    result = backfill("check", plan, "--wait", "100ms")
    assert result.status == 1
    assert "waiting for" in result.err
    assert backfill("check", plan, "--wait", "long").status == 2
