"""Runs that query a database (here SQLite): selection, lookups, drains, checks, resume."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Start, served
from tests.depth import crossed, paired
from tests.support import write_plan
from tests.types import Backfill

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  repository:
    query: select name as repo, id from repositories where name in :keys
    key: repo
    required: true
operations:
  drain:
    event: app/drain
    for_each: repo
    payload: {id: "{{ repo.id }}"}
    until:
      query: select sum(pending) as pending from repositories where name in :repos
      expect: {column: pending, at_most: 0}
      stalled_after: 2
"""
BODY = """\
repos: [{query: "select name as repo from repositories where pending > 0 order by name"}]
operations: [drain]
delay: 0s
"""


class Worker:
    """Takes 10 off a repository's backlog with each job; from the `hold`-th job on, jobs wait."""

    def __init__(self, database: Path, hold: int | None = None) -> None:
        self.database, self.hold = database, hold
        self.ids: Counter[str] = Counter()
        self.held, self.go_on = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def __call__(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self.ids[event["id"]] += 1
            wait = self.hold is not None and len(self.ids) > self.hold
        if wait:
            self.held.set()
            assert self.go_on.wait(60)
        with closing(sqlite3.connect(self.database, timeout=30)) as db, db:
            db.executemany(
                "UPDATE repositories SET pending = max(0, pending - 10) WHERE id = ?",
                [[one] for one in event["data"].get("ids", [event["data"].get("id")])],
            )


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE repositories (id INTEGER, name TEXT, pending INTEGER)")
        rows = [(1, "o/a", 35), (2, "o/b", 20), (3, "o/c", 0)]
        db.executemany("INSERT INTO repositories VALUES (?, ?, ?)", rows)
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"sqlite:///{path}")
    return path


def pending(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT sum(pending) FROM repositories").fetchone()[0])


def test_a_drain_sends_rounds_until_the_backlog_is_empty(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    worker = Worker(database)
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)
    with served(create_app({"app/drain": worker})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 0, result.err
    assert pending(database) == 0
    assert json.loads(result.out)["totals"]["completed"] == 8, "4 rounds of both repositories"
    assert set(worker.ids.values()) == {1}


@pytest.mark.parametrize("killed_in", [1, 3, 5])
def test_a_run_that_is_killed_in_a_round_goes_on_in_it(
    backfill: Backfill, start: Start, tmp_path: Path, database: Path, killed_in: int
) -> None:
    """Every event of every round takes effect once, and the repositories are those of the start,
    although the query would give others by then."""
    worker = Worker(database, hold=killed_in)
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)
    with served(create_app({"app/drain": worker})) as url:
        process = start("run", plan, "--target", url)
        assert worker.held.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        worker.hold = None
        worker.go_on.set()
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute("INSERT INTO repositories VALUES (4, 'o/new', 7)")
        result = backfill("resume", "latest", "--format", "json")
    assert result.status == 0, result.err
    assert pending(database) == 7, "of the one that came after the run had begun"
    assert set(worker.ids.values()) == {1}, "no event has started twice"
    assert json.loads(result.out)["totals"]["completed"] == len(worker.ids) == 8


def test_what_failed_in_a_drain_is_sent_once_more_and_proved_again(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    """A retry knows its events: it queries no backlog, and makes the plan's checks again."""
    worker = Worker(database)

    def fragile(event: Mapping[str, Any]) -> None:
        if event["data"]["id"] == 2 and not mended.is_set():
            raise ValueError("no such repository")
        worker(event)

    mended = threading.Event()
    body = BODY + CHECK % (30, "")
    with served(create_app({"app/drain": fragile})) as url:
        first = backfill("run", write_plan(tmp_path, body, catalog=CATALOG), "--target", url)
        assert first.status == 1
        assert "no such repository" in first.out
        mended.set()
        retried = backfill("retry", "latest", "--format", "json")
    assert retried.status == 1
    summary = json.loads(retried.out)
    assert summary["totals"]["completed"] == 1
    assert [check["ok"] for check in summary["checks"]] == [False], "35 of 55 are left"


STUCK = "CREATE TRIGGER stuck BEFORE UPDATE ON repositories BEGIN SELECT RAISE(IGNORE); END"


@pytest.mark.parametrize(
    "more", ["", "  tell: {event: app/drain, for_each: once, after: [drain], payload: {id: 0}}\n"]
)
def test_a_drain_that_is_stalled_goes_on_once_that_is_said(
    backfill: Backfill, tmp_path: Path, database: Path, more: str
) -> None:
    """The run's last lines, `status`, `report`, the page and `apply` name the flag that does it;
    without the flag the resumed run ends at once."""
    body = BODY.replace("[drain]", "[drain, tell]") if more else BODY
    plan, worker = write_plan(tmp_path, body, catalog=f"{CATALOG}{more}"), Worker(database)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(STUCK)
    with served(create_app({"app/drain": worker})) as url:
        ended = backfill("run", plan, "--target", url)
        assert (ended.status, len(worker.ids)) == (1, 4)
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("DROP TRIGGER stuck")
        run_id = json.loads(backfill("status", "--format", "json").out)["run_id"]
        suites = ElementTree.fromstring(backfill("report", "--format", "junit").out)  # noqa: S314
        assert suites.get("failures") == "1", "no event failed, and the run did"
        assert "failure" in [one.tag for one in suites.iter()]
        backfill("report", "--html", "run.html")
        said = [
            ended.out,
            backfill("status").out,
            backfill("report").out,
            Path("run.html").read_text("utf-8"),
            backfill("apply", plan, "--target", url).err,
        ]
        command = f"backfill resume {run_id} --past-failures"
        assert [command in text for text in said] == [True] * 5
        assert backfill("resume", run_id).status == 1
        assert len(worker.ids) == 4
        assert backfill("resume", run_id, "--past-failures").status == 0
    assert pending(database) == 0
    assert set(worker.ids.values()) == {1}


@pytest.mark.parametrize("use", ["drain", "drain, tell"])
def test_a_drain_that_stopped_on_a_failure_goes_on_by_itself_once_that_is_made_good(
    backfill: Backfill, tmp_path: Path, database: Path, use: str
) -> None:
    """The drain is not stalled, so that no other failure needs to be passed over."""
    failing = threading.Event()
    failing.set()
    worker = Worker(database)

    def fragile(event: Mapping[str, Any]) -> None:
        if failing.is_set() and event["data"]["id"] == 2:
            raise ValueError("not now")
        worker(event)

    catalog = f"{CATALOG}  tell: {{event: app/drain, for_each: once, payload: {{id: 0}}}}\n"
    plan = write_plan(tmp_path, BODY.replace("[drain]", f"[{use}]"), catalog=catalog)
    with served(create_app({"app/drain": fragile})) as url:
        first = backfill("run", plan, "--target", url)
        assert first.status == 1
        assert "short of its goal: `pending` is 45; nothing more is sent" in first.err
        run_id = json.loads(backfill("status", "--format", "json").out)["run_id"]
        assert f"`backfill resume {run_id} --past-failures`" in first.out
        assert f"backfill resume {run_id} --past-failures\n" in backfill("status").out
        failing.clear()
        assert backfill("retry", run_id).status == 0
        assert f"backfill resume {run_id}\n" in backfill("status", run_id).out
        assert backfill("resume", run_id).status == 0
    assert pending(database) == 0


def test_a_goal_that_is_reached_already_is_said(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET pending = 0")
    plan = write_plan(tmp_path, BODY.replace(" where pending > 0", ""), catalog=CATALOG)
    worker = Worker(database)
    with served(create_app({"app/drain": worker})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 0
    assert "0 of 0 events accepted" in result.out, "what was planned for today is not left over"
    assert "note: `drain` has nothing to do: `pending` is 0 already" in result.err
    assert not worker.ids


@pytest.mark.parametrize("moment", ["after: drain", "at: end"])
@pytest.mark.parametrize(
    ("query", "expect"),
    [
        ("select name as repo, pending as n from", "column: n, decreased: true"),
        ("select name as repo, '2000-01-01' as n from", "column: n, newer_than: run.started_at"),
    ],
)
def test_a_drain_with_nothing_to_do_proves_no_change(
    backfill: Backfill, tmp_path: Path, database: Path, moment: str, query: str, expect: str
) -> None:
    """Another run may have done it between the plan and the start."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET pending = 0")
    check = f'{{name: c, query: "{query} repositories where name in :repos", expect: {{{expect}}}}}'
    catalog = CATALOG + f"    checks: [{check[:-1]}, {moment}}}]\n".replace(
        "after: drain", "timeout: 1s"
    )
    plan = write_plan(tmp_path, BODY.replace(" where pending > 0", ""), catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 0, result.out + result.err
    assert "nothing was sent for it, so there is nothing to prove" in result.out


def test_a_drain_is_followed_or_refused(backfill: Backfill, tmp_path: Path, database: Path) -> None:
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)
    result = backfill("run", plan, "--no-wait", "--target", "http://127.0.0.1:1", "--yes")
    assert result.status == 4
    assert "its backlog is empty, which cannot be known without following the jobs" in result.err
    plan = write_plan(tmp_path, BODY + "pacing: scheduled\n", catalog=CATALOG)
    result = backfill("plan", plan)
    assert result.status == 3
    assert "`pacing: scheduled` sends everything at once" in result.err


@pytest.mark.parametrize("limit", ["max_rounds: 2", "max_time: 0s"])
def test_a_drain_that_reaches_its_limit_is_incomplete(
    backfill: Backfill, tmp_path: Path, database: Path, limit: str
) -> None:
    catalog = CATALOG.replace("stalled_after: 2", limit)
    plan = write_plan(tmp_path, BODY, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 7
    assert "INCOMPLETE" in result.out
    assert pending(database) > 0
    option = "--max-rounds 4" if "rounds" in limit else "--max-time 2s"
    run_id = re.search(r"run (\w+)$", result.out, re.MULTILINE)[1]  # type: ignore[index]
    advice = f"to go on: backfill resume {run_id} {option}"
    assert advice in result.out
    assert advice in backfill("status").out
    assert advice.removeprefix("to go on: ") in backfill("report").out


@pytest.mark.parametrize("how", ["by an option", "in the plan's files"])
@pytest.mark.parametrize(
    ("few", "more", "option"),
    [
        ("max_rounds: 2", "max_rounds: 9", ["--max-rounds", "9"]),
        ("max_time: 0s", "max_time: 1h", ["--max-time", "1h"]),
    ],
)
def test_a_drain_that_is_given_more_goes_on(
    backfill: Backfill,
    tmp_path: Path,
    database: Path,
    few: str,
    more: str,
    option: list[str],
    how: str,
) -> None:
    plan = write_plan(tmp_path, BODY, catalog=CATALOG.replace("stalled_after: 2", few))
    worker = Worker(database)
    with served(create_app({"app/drain": worker})) as url:
        assert backfill("run", plan, "--target", url).status == 7
        assert backfill("resume", "latest").status == 7, "it has no more than before"
        if how == "by an option":
            result = backfill("resume", "latest", *option)
        else:
            write_plan(tmp_path, BODY, catalog=CATALOG.replace("stalled_after: 2", more))
            result = backfill("resume", "latest")
    assert result.status == 0, result.err + result.out
    assert pending(database) == 0
    assert set(worker.ids.values()) == {1}
    assert result.err.count("; done") == 1, result.err


def test_a_backlog_that_cannot_be_asked_is_not_clear(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    """The column is gone after the first round."""

    one_at_a_time = threading.Lock()

    def spoil(_event: Mapping[str, Any]) -> None:
        with one_at_a_time, closing(sqlite3.connect(database, timeout=30)) as db, db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(repositories)")]
            if "pending" in columns:
                db.execute("ALTER TABLE repositories RENAME COLUMN pending TO waiting")

    body = BODY.replace(" where pending > 0", "")
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    with served(create_app({"app/drain": spoil})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 7
    assert "its backlog cannot be read: no such column: pending" in result.out


def test_a_question_that_fails_in_a_later_round_leaves_the_run_incomplete(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    """The lookup's table is gone after the first round, which does not make the plan invalid."""

    def change(statement: str) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute(statement)

    def work_and_spoil(event: Mapping[str, Any]) -> None:
        worker(event)
        change("DROP TABLE IF EXISTS labels")

    worker, labels = Worker(database), "CREATE TABLE labels AS SELECT id, name FROM repositories"
    change(labels)
    catalog = CATALOG.replace("id from repositories", "id from labels")
    plan = write_plan(tmp_path, BODY, catalog=catalog)
    with served(create_app({"app/drain": work_and_spoil})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 7, result.err
    assert "`drain` cannot be resolved: the database refuses the query: no such table" in result.out
    assert len(worker.ids) == 2, "of the first round"


def test_a_dry_run_shows_the_queries_their_rows_and_what_is_found_out_later(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)
    result = backfill("plan", plan, "--timings")
    assert result.status == 0
    assert "repositories: 2 rows" in result.out
    assert "select name as repo from repositories where pending > 0" in result.out
    assert "lookup repository: 2 rows" in result.out
    assert "until pending at most 0, 100 rounds at most" in result.out
    assert "the figures above are today's" in result.out
    assert re.search(r"database: 2 questions in \d+\.\d{3}s", result.err)
    assert re.search("select name as repo, id from repositories where name in :keys\n", result.err)
    assert pending(database) == 55


def test_the_digest_pins_the_rows_that_the_plan_was_built_from(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    plan = write_plan(tmp_path, BODY, catalog=CATALOG)

    def digest() -> str:
        return str(json.loads(backfill("plan", plan, "--format", "json").out)["digest"])

    before = digest()
    assert digest() == before
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET id = 9 WHERE id = 1")
    assert digest() != before


WORKSPACES = """\
vars: {least: 2, most: 60}
workspaces:
  - 3f1c9b1e
  - query: select name as workspace, pending from repositories where id >= :least order by id
operations:
  - {use: embeddings, when: workspace.pending | default(1) > 0, batch_size: 10, delay: 1s}
checks:
  - name: small
    at: before
    query: select sum(pending) as pending from repositories where name in :workspaces
    each: false
    expect: {column: pending, at_most: "{{ vars.most }}"}
"""


def test_workspaces_come_from_a_query_with_their_attributes_and_bounds_are_templates(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    plan = write_plan(tmp_path, WORKSPACES)
    plan.write_text(plan.read_text("utf-8").replace("catalog: catalog.yaml", ""), "utf-8")
    lines = backfill("plan", plan, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["item"] for line in lines] == ["3f1c9b1e", "o/b"]
    preview = backfill("plan", plan).out
    assert "workspaces: 2 rows" in preview
    assert "check small (before): pending at most 60" in preview
    assert "at most 7" in backfill("plan", plan, "--var", "most=7").out
    wrong = backfill("plan", plan, "--var", "most=many")
    assert wrong.status == 3
    assert "`at_most` gives `many`, which is not a number" in wrong.err


CHECK = (
    "checks: [{name: emptied, query: select sum(pending) as pending from repositories, "
    "expect: {column: pending, at_most: %s}%s}]\n"
)


def test_a_check_that_does_not_hold_fails_a_run_whose_jobs_all_completed(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    catalog = CATALOG[: CATALOG.index("    until:")]
    plan = write_plan(tmp_path, BODY + CHECK % (0, ""), catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 1
    summary = json.loads(result.out)
    assert summary["status"] == "failed"
    assert summary["totals"]["completed"] == 2
    (check,) = summary["checks"]
    assert (check["ok"], check["seen"]) == (False, "pending 35")
    page = tmp_path / "run.html"
    assert backfill("report", "--html", page).status == 0
    assert "`pending` is 35, above 0" in page.read_text("utf-8")


def test_completed_but_nothing_changed_is_a_failure_unless_the_plan_allows_it(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    catalog = CATALOG[: CATALOG.index("    until:")]
    with served(create_app({"app/drain": lambda _event: None})) as url:
        for more, status in (("", 1), (", unchanged: allow", 0)):
            plan = write_plan(tmp_path, BODY + CHECK % (60, more), catalog=catalog)
            result = backfill("run", plan, "--target", url)
            assert result.status == status
            assert ("completed but nothing changed: pending 55, as before" in result.out) == (
                status == 1
            )


def test_a_query_may_use_the_time_at_which_the_run_started(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    check = "select :run_started_at as at, '2020' as before"
    body = BODY + "checks: [{name: c, query: \"%s\", expect: {column: at, newer_than: '2026'}}]\n"
    body = body.replace("'2026'", "'2026-01-01'") % check
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    assert backfill("doctor", plan).status == 0
    with served(create_app({"app/drain": Worker(database)})) as url:
        assert backfill("run", plan, "--target", url).status == 0


def test_a_check_that_cannot_be_asked_refuses_the_run_before_anything_is_sent(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    worker = Worker(database)
    body = BODY + CHECK.replace("(pending)", "(pendign)") % (0, ", unchanged: allow")
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    with served(create_app({"app/drain": worker})) as url:
        result = backfill("run", plan, "--target", url)
    assert result.status == 4
    assert "check emptied: no such column: pendign" in result.err
    assert not worker.ids
    assert not Path(".backfill").exists(), "a run that is refused leaves none behind"


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        (None, 4, "set BACKFILL_DATABASE_URL"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", 6, "cannot be reached"),
        ("mysql://u:hunter2@h/x", 2, "names a database that is not supported"),
    ],
)
def test_a_database_that_only_checks_need_is_missed_before_the_run_begins(
    backfill: Backfill, tmp_path: Path, url: str | None, status: int, words: str
) -> None:
    plan = write_plan(tmp_path, "repos: [o/a]\noperations: [sync]\n" + CHECK % (0, ""))
    env = {"BACKFILL_DATABASE_URL": url} if url else {}
    result = backfill("run", plan, env=env)
    assert result.status == status
    assert words in result.err
    assert "hunter2" not in result.out + result.err
    assert not Path(".backfill").exists()


def test_without_a_database_the_plan_says_what_to_set(backfill: Backfill, tmp_path: Path) -> None:
    result = backfill("plan", write_plan(tmp_path, BODY, catalog=CATALOG))
    assert result.status == 4
    assert "set BACKFILL_DATABASE_URL" in result.err


def test_a_database_that_is_not_there_is_6_and_none_is_made(
    backfill: Backfill, tmp_path: Path
) -> None:
    env = {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    result = backfill("plan", write_plan(tmp_path, BODY, catalog=CATALOG), env=env)
    assert result.status == 6
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_check_after_a_drain_is_for_the_items_that_the_drain_has_sent(
    backfill: Backfill, tmp_path: Path, database: Path, *, grouped: bool
) -> None:
    """Items that had nothing to do when the stage started could not move either."""
    catalog = CATALOG.replace("as repo, id from", "as repo, id, pending from").replace(
        "    payload:", "    when: repo.pending > 0\n    payload:"
    )
    if grouped:
        payload = "{ids: \"{{ rows | map(attribute='id') | list }}\"}\n    group: 2"
        catalog = catalog.replace('{id: "{{ repo.id }}"}', payload)
    body = """\
repos: [o/a, o/b, o/c]
operations: [drain]
delay: 0s
checks:
  - name: less
    after: drain
    query: select name as repo, pending from repositories where name in :repos
    expect: {column: pending, decreased: true}
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 0, result.err
    (check,) = json.loads(result.out)["checks"]
    assert (check["ok"], check["seen"]) == (True, "pending 0 in 2 rows")


FOUND_OUT = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  make: {event: app/make, for_each: once, payload: {}}
  tidy: {event: app/tidy, for_each: once, after: [drain], payload: {}}
  drain:
    event: app/drain
    for_each: left
    resolve: stage
    after: [make]
    payload: {}
"""


@pytest.mark.parametrize(
    ("which", "group", "stuck"),
    paired(["after: drain, ", "after: tidy, ", "", "key: item, "], ["false", "2"], [None, "n/3"]),
)
def test_a_check_is_for_the_items_that_a_stage_finds_out_as_it_starts(
    backfill: Backfill, tmp_path: Path, database: Path, group: str, which: str, stuck: str | None
) -> None:
    """None of them existed when the run was planned: the checks had no items then."""

    def work(event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            if event["name"] == "app/make":
                new = [(number, f"n/{number}", 10) for number in range(1, 4)]
                db.executemany("INSERT INTO repositories VALUES (?, ?, ?)", new)
            else:
                db.execute("UPDATE repositories SET pending = 0 WHERE name IS NOT ?", [stuck])

    body = f"""\
collections:
  left: {{query: "select name from repositories where name like 'n/%'", item: "{{{{ row.name }}}}"}}
operations: [make, {{use: drain, group: {group}}}, tidy]
if_empty: ok
delay: 0s
checks:
  - name: done
    {which.replace(", ", "")}
    query: select name as item, pending from repositories where name in :left
    expect: {{column: pending, at_most: 0}}
"""
    plan = write_plan(tmp_path, body, catalog=FOUND_OUT)
    with served(create_app({"app/drain": work, "app/make": work, "app/tidy": work})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
        assert result.out, result.err
        (check,) = json.loads(result.out)["checks"]
        assert (result.status, check["ok"]) == ((1, False) if stuck else (0, True)), result.err
        assert check["seen"] == ("pending 0 to 10 in 3 rows" if stuck else "pending 0 in 3 rows")
        assert (check["message"] or "").endswith("(n/3)" if stuck else "")
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("UPDATE repositories SET pending = 0")
        if stuck:  # the items found by the stage are remembered
            again = backfill("resume", "latest", "--format", "json")
            (check,) = json.loads(again.out)["checks"]
            assert (again.status, check["seen"]) == (0, "pending 0 in 3 rows")


@pytest.mark.parametrize("of", ["left", "cells"])
@pytest.mark.parametrize("which", ["after: drain", "at: end", "key: item"])
def test_a_check_is_not_about_items_that_are_gone_when_their_stage_starts(
    backfill: Backfill, tmp_path: Path, database: Path, which: str, of: str
) -> None:
    """The operation before has done the work of one; nothing is sent for it, and it stays. The
    items may be parts of those of the stage."""

    def work(event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            if event["name"] == "app/make":
                db.execute("UPDATE repositories SET name = 'old/1' WHERE name = 'n/1'")
            elif event["name"] == "app/drain":
                db.execute("UPDATE repositories SET pending = 0 WHERE name LIKE 'n/%'")

    with closing(sqlite3.connect(database)) as db, db:
        new = [(number, f"n/{number}", 10) for number in range(1, 4)]
        db.executemany("INSERT INTO repositories VALUES (?, ?, ?)", new)
    body = f"""\
collections:
  left: {{query: "select name from repositories where name like 'n/%'", item: "{{{{ row.name }}}}"}}
  cells: {{matrix: {{one: left, kind: kinds}}}}
  kinds: [x, y]
operations: [make, drain, tidy]
delay: 0s
checks:
  - name: done
    {which}
    query: select name as item, pending from repositories where name in :left
    expect: {{column: pending, at_most: 0}}
"""
    if of == "left":
        body = "".join(line for line in body.splitlines(keepends=True) if "kind" not in line)
    catalog = FOUND_OUT.replace("for_each: left", f"for_each: {of}")
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app(dict.fromkeys(("app/drain", "app/make", "app/tidy"), work))) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    (check,) = json.loads(result.out)["checks"]
    assert (result.status, check["seen"]) == (0, "pending 0 in 2 rows"), check["message"]


@pytest.mark.parametrize("edit", ["query", "value", "another", "about"])
@pytest.mark.parametrize("after", ["after: drain", "at: end"])
def test_a_check_that_is_mended_before_a_resume_is_about_the_items_that_were_sent(
    backfill: Backfill, tmp_path: Path, database: Path, after: str, edit: str
) -> None:
    """By then its collection is empty: a check of what it gives today would hold for nothing."""

    def work(_event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute("UPDATE repositories SET id = 0")

    body = f"""\
collections:
  left: {{query: select name from repositories where id > 0, item: "{{{{ row.name }}}}"}}
operations: [drain]
vars: {{more: 100}}
if_empty: ok
delay: 0s
checks:
  - name: done
    {after}
    query: select name as item, pending + :more as pending from repositories where name in :left
    expect: {{column: pending, at_most: 20}}
    unchanged: allow
"""
    if edit == "about":
        body = body.replace(" where name in :left", "\n    each: false")
    plan = write_plan(tmp_path, body, catalog=FOUND_OUT)
    with served(create_app({"app/drain": work})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
        (check,) = json.loads(result.out)["checks"]
        assert (result.status, check["seen"]) == (1, "pending 100 to 135 in 3 rows"), result.err
        text = plan.read_text(encoding="utf-8")
        text = text.replace("more: 100", "more: 0") if edit == "value" else text
        text = text.replace("+ :more", "+ 0 * :more") if edit != "value" else text
        text = text.replace("name: done", "name: another") if edit == "another" else text
        text = (
            text.replace("\n    each: false", " where name in :left") if edit == "about" else text
        )
        plan.write_text(text, encoding="utf-8")
        again = backfill("resume", "latest", "--format", "json")
    *_, check = json.loads(again.out)["checks"]
    assert (again.status, check["seen"]) == (1, "pending 0 to 35 in 3 rows"), again.err
    assert check["message"].endswith("(o/a)")


@pytest.mark.parametrize("only", [(), ("--only", "make", "--only", "drain")])
def test_a_check_that_is_not_about_what_a_stage_finds_does_not_keep_it_from_starting(
    backfill: Backfill, tmp_path: Path, database: Path, only: tuple[str, ...]
) -> None:
    """It goes by ids; the new item has none, and is none of its own, or it is not even asked."""

    def work(event: Mapping[str, Any]) -> None:
        if event["name"] == "app/make":
            with closing(sqlite3.connect(database, timeout=30)) as db, db:
                db.execute("INSERT INTO repositories VALUES (NULL, 'n/1', 0)")

    body = """\
collections:
  left: {query: "select id, name from repositories", item: "{{ row.name }}"}
operations: [make, drain, {use: tidy, for_each: left}]
delay: 0s
checks:
  - name: known
    after: tidy
    each: false
    query: select count(*) as n from repositories where id in :ids
    expect: {column: n, at_least: 3}
    unchanged: allow
"""
    plan = write_plan(tmp_path, body, catalog=FOUND_OUT)
    with served(create_app({"app/drain": work, "app/make": work, "app/tidy": work})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json", *only)
    assert result.status == 0, result.err
    assert json.loads(result.out)["totals"]["completed"] == (5 if only else 8)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("group", ["false", "2"])
def test_a_stage_that_finds_its_items_as_it_starts_sends_those_that_are_selected(
    backfill: Backfill, tmp_path: Path, database: Path, group: str, checked: bool
) -> None:
    came: list[str] = []

    def work(event: Mapping[str, Any]) -> None:
        came.append(json.dumps(event["data"]))
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            db.execute("UPDATE repositories SET pending = 0 WHERE name IN ('n/2', 'n/3')")

    with closing(sqlite3.connect(database)) as db, db:
        new = [(number, f"n/{number}", 10) for number in range(1, 4)]
        db.executemany("INSERT INTO repositories VALUES (?, ?, ?)", new)
    payload = "{of: \"{{ rows | map(attribute='name') | join(' ') }}\"}"
    catalog = FOUND_OUT.replace("    payload: {}\n", f"    payload: {payload}\n")
    body = f"""\
collections:
  left: {{query: "select name from repositories where name like 'n/%'", item: "{{{{ row.name }}}}"}}
operations: [{{use: drain, group: {group}}}]
delay: 0s
"""
    if group == "false":
        catalog = catalog.replace(payload, '{of: "{{ row.name }}"}')
    if checked:
        body += """\
checks:
  - {name: done, after: drain, expect: {column: pending, at_most: 0},
     query: "select name as item, pending from repositories where name in :left"}
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": work})) as url:
        result = backfill("run", plan, "--target", url, "--item", "n/2", "--item", "n/3")
    assert result.status == 0, result.err
    one, two = '{"of": "n/2"}', '{"of": "n/3"}'
    assert sorted(came) == (['{"of": "n/2 n/3"}'] if group == "2" else [one, two])


@pytest.mark.parametrize("selector", ["--item o/a/mon", "--limit 1"])
@pytest.mark.parametrize("resolve", ["plan", "stage"])
def test_of_a_product_the_parts_of_what_is_selected_are_proved(
    backfill: Backfill, tmp_path: Path, database: Path, resolve: str, selector: str
) -> None:
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  fill:
    event: app/fill
    for_each: cells
    resolve: {resolve}
    payload: {{id: "{{{{ row.left.id }}}}"}}
"""
    body = """\
collections:
  left: [{name: o/a, id: 1}, {name: o/b, id: 2}]
  days: [mon]
  cells: {matrix: {left: left, day: days}}
operations: [fill]
delay: 0s
checks:
  - name: done
    after: fill
    query: select name as item, pending from repositories where name in :left
    expect: {column: pending, decreased: true}
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/fill": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json", *selector.split())
    assert result.status == 0, result.err
    (check,) = json.loads(result.out)["checks"]
    assert check["seen"] == "pending 25", "of the first only"


@pytest.mark.parametrize(
    ("there", "raised"), [(0, ["--max-rounds", "9"]), (1, ["--max-rounds", "9"]), (1, [])]
)
@pytest.mark.parametrize(
    ("for_each", "goes_by"),
    [("left", "name in :left"), ("left", "id in :ids"), ("cells", "name in :left")],
)
def test_a_goal_is_about_the_items_that_a_stage_finds_out_as_it_starts(
    backfill: Backfill,
    tmp_path: Path,
    database: Path,
    for_each: str,
    goes_by: str,
    there: int,
    raised: list[str],
) -> None:
    """Of those that were `there` when the run was planned, the backlog is soon 0."""
    worker = Worker(database)

    def work(event: Mapping[str, Any]) -> None:
        if event["name"] == "app/drain":
            worker(event)
            return
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            new = [(number, f"n/{number}", 20) for number in range(11, 14)]
            db.executemany("INSERT INTO repositories VALUES (?, ?, ?)", new)

    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET pending = 0")
        db.executemany("INSERT INTO repositories VALUES (?, ?, 10)", [(10, "n/10")] * there)
    of, key, goes_by_each = "", "id", goes_by
    if for_each == "cells":  # whose items are called by both parts
        of, key, goes_by_each = "left.", "name || '/mon'", "name || '/mon' in :cells"
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  make: {{event: app/make, for_each: once, payload: {{}}}}
  drain:
    event: app/drain
    for_each: {for_each}
    after: [make]
    payload: {{id: "{{{{ row.{of}id }}}}"}}
    until:
      query: select count(*) as n from repositories where pending > 0 and {goes_by}
      expect: {{column: n, at_most: 0}}
      max_rounds: 1
    checks:
      - name: each
        query: select {key} as item, pending from repositories where {goes_by_each}
        expect: {{column: pending, at_most: 0}}
      - name: together
        query: select count(*) as n from repositories where name in :left and pending = 0
        each: false
        expect: {{column: n, at_least: {there + 3}, at_most: {there + 3}}}
"""
    body = """\
collections:
  left: {query: "select id, name from repositories where pending > 0", item: "{{ row.name }}"}
  days: [mon]
  cells: {matrix: {left: left, day: days}}
operations: [make, drain]
delay: 0s
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": work, "app/make": work})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
        assert (result.status, pending(database)) == (7, 30), result.err
        if not raised:
            file = tmp_path / "catalog.yaml"
            file.write_text(catalog.replace("max_rounds: 1", "max_rounds: 9"), encoding="utf-8")
        again = backfill("resume", "latest", *raised, "--format", "json")
    assert (again.status, pending(database)) == (0, 0), again.err
    summary = json.loads(again.out)
    assert summary["totals"]["completed"] == 1 + there + 3 + 3
    assert summary["checks"][0]["seen"] == f"pending 0 in {there + 3} rows"


@pytest.mark.parametrize(
    ("for_each", "parameter", "item", "items"),
    [
        ("repo", "repos", "repo", "repos: [{repo: o/a, id: 1}, {repo: o/b, id: 2, deep: false}]"),
        (
            "left",
            "left",
            "row",
            "collections: {left: [{name: o/a, id: 1}, {name: o/b, deep: false}]}",
        ),
    ],
)
def test_a_goal_is_not_about_items_that_the_operation_skips(
    backfill: Backfill,
    tmp_path: Path,
    database: Path,
    for_each: str,
    parameter: str,
    item: str,
    items: str,
) -> None:
    """Their backlog stays as it is: the drain would never end."""
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  drain:
    event: app/drain
    for_each: {for_each}
    when: {item}.deep | default(true)
    payload: {{id: "{{{{ {item}.id }}}}"}}
    until:
      query: select sum(pending) as n from repositories where name in :{parameter}
      expect: {{column: n, at_most: 0}}
"""
    plan = write_plan(tmp_path, f"{items}\noperations: [drain]\ndelay: 0s\n", catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["totals"]["completed"] == 4
    assert pending(database) == 20


@pytest.mark.parametrize("goes_by", ["name in :repos", "id in :ids"])
@pytest.mark.parametrize("edited", [False, True])
def test_a_goal_is_not_about_repositories_that_a_lookup_has_the_operation_skip(
    backfill: Backfill, tmp_path: Path, database: Path, goes_by: str, edited: bool
) -> None:
    """Neither in the first rounds, nor once a resume has raised a limit; nor if all are skipped."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("ALTER TABLE repositories ADD COLUMN deep INTEGER")
        db.execute("UPDATE repositories SET deep = (id = 1)")
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  repository:
    query: select name as repo, id, deep from repositories where name in :keys
    key: repo
    required: true
operations:
  drain:
    event: app/drain
    for_each: repo
    when: repo.deep == 1
    payload: {{id: "{{{{ repo.id }}}}"}}
    until:
      query: select sum(pending) as n from repositories where {goes_by}
      expect: {{column: n, at_most: 0}}
      max_rounds: 1
"""
    body = "repos: [o/a, o/b]\noperations: [drain]\ndelay: 0s\n"
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        first = backfill("run", plan, "--target", url, "--format", "json")
        assert first.status == 7, first.err
        assert "`n` is 25" in first.err, "of the first only"
        if edited:
            file = tmp_path / "catalog.yaml"
            file.write_text(catalog.replace("max_rounds: 1", "max_rounds: 9"), encoding="utf-8")
        raised = [] if edited else ["--max-rounds", "9"]
        again = backfill("resume", "latest", *raised, "--format", "json")
        assert again.status == 0, again.err
        assert json.loads(again.out)["totals"]["completed"] == 4
        assert pending(database) == 20, "the second one's"
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("UPDATE repositories SET deep = 0")
        none = backfill("run", plan, "--target", url)
    assert none.status == 0, none.err
    assert "`drain` has nothing to do: `n` is 0 already" in none.err


@pytest.mark.parametrize(("stuck", "status"), [(False, 0), (True, 7)])
def test_a_drain_has_reached_its_goal_also_where_a_lookup_finds_its_repositories_no_more(
    backfill: Backfill, tmp_path: Path, database: Path, stuck: bool, status: int
) -> None:
    """As in a queue from which work is removed once it is done."""

    def work(event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            new = "o/stuck" if stuck else "o/done"
            db.execute("UPDATE repositories SET name = ? WHERE id = ?", [new, event["data"]["id"]])

    catalog = CATALOG.replace("sum(pending) as pending", "count(*) as pending").replace(
        "name in :repos", "name in :repos or name = 'o/stuck'"
    )
    plan = write_plan(tmp_path, "repos: [o/a, o/b]\noperations: [drain]\n", catalog=catalog)
    with served(create_app({"app/drain": work})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == status, result.err
    assert json.loads(result.out)["totals"]["completed"] == 2
    assert ("`drain` cannot be resolved: the lookup" in result.err) == stuck


@pytest.mark.parametrize(
    ("how", "each", "moment", "for_each"),
    [
        ("", "false", "after", "repo"),
        *crossed(
            (
                "resolve: stage",
                "resolve: stage\n    group: 2",
                "until: {query: GOAL, expect: {column: n, at_most: 0}}",
            ),
            ("false", "true"),
            ("after", "end"),
            ("repo", "workspace"),
        ),
        ("resolve: stage", "false", "end", "workspace"),
    ],
)
def test_a_check_of_an_operation_is_not_about_what_a_lookup_has_it_skip(
    backfill: Backfill,
    tmp_path: Path,
    database: Path,
    how: str,
    each: str,
    moment: str,
    for_each: str,
) -> None:
    """Whether that is found with the plan or when the stage starts. The second one's stay 20."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("ALTER TABLE repositories ADD COLUMN deep INTEGER")
        db.execute("UPDATE repositories SET deep = (id = 1)")
    left = 0 if "until" in how else 25
    goal = "select sum(pending) as n from repositories where name in :repos"
    item = "rows[0]" if "group" in how else for_each
    query = "name as repo, pending" if each == "true" else "sum(pending) as pending"
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  known:
    for: {for_each}
    query: select name as repo, name as workspace, id as nr, deep from repositories
      where name in :keys
    key: {for_each}
operations:
  fill:
    event: app/fill
    for_each: {for_each}
    payload: {{id: "{{{{ {item}.nr }}}}"}}
    when: {for_each}.deep == 1
    {how.replace("GOAL", goal)}
    checks:
      - name: done
        at: {moment}
        each: {each}
        query: select {query} from repositories where name in :repos
        expect: {{column: pending, at_least: {left}, at_most: {left}}}
"""
    body = """\
repos: [{repo: o/a, workspace: o/a}, {repo: o/b, workspace: o/b}]
operations: [fill]
delay: 0s
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/fill": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 0, result.err
    assert [one["ok"] for one in json.loads(result.out)["checks"]] == [True]


def test_a_goal_is_not_about_workspaces_that_a_lookup_has_the_operation_skip(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("ALTER TABLE repositories ADD COLUMN deep INTEGER")
        db.execute("UPDATE repositories SET deep = (id = 1)")
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  there:
    for: workspace
    query: select name as workspace, id as nr, deep from repositories where name in :keys
    key: workspace
operations:
  drain:
    event: app/drain
    for_each: workspace
    when: workspace.deep == 1
    payload: {id: "{{ workspace.nr }}"}
    until:
      query: select sum(pending) as n from repositories where name in :workspaces
      expect: {column: n, at_most: 0}
"""
    body = "workspaces: [o/a, o/b]\noperations: [drain]\ndelay: 0s\n"
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        result = backfill("run", plan, "--target", url, "--format", "json")
    assert result.status == 0, result.err
    assert pending(database) == 20


def test_a_sum_over_no_items_is_a_goal_that_is_reached_and_a_check_that_holds(
    backfill: Backfill, tmp_path: Path, database: Path
) -> None:
    """SQL has it that it is NULL; a drain that has done its work can be run again."""
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  drain:
    event: app/drain
    for_each: left
    payload: {id: "{{ row.id }}"}
    until:
      query: select sum(pending) as n from repositories where name in :left
      expect: {column: n, at_most: 0}
    checks:
      - name: whole
        each: false
        query: select sum(pending) as n from repositories where name in :left
        expect: {column: n, at_most: 0}
"""
    body = """\
collections:
  left: {query: "select id, name from repositories where pending > 0", item: "{{ row.name }}"}
operations: [drain]
delay: 0s
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/drain": Worker(database)})) as url:
        first = backfill("run", plan, "--target", url)
        again = backfill("run", plan, "--target", url)
    assert (first.status, again.status) == (0, 0), again.err
    assert "`drain` has nothing to do: `n` is 0 already" in again.err


OTHER_ITEMS = [
    ("resolve: stage, when: row.id == 1", "select 1"),  # o/b is skipped
    ("resolve: stage", "UPDATE repositories SET pending = 0 WHERE id = 2"),  # it is gone
    ("resolve: stage", "INSERT INTO repositories VALUES (4, 'o/new', 40)"),
]


@pytest.mark.parametrize(
    ("other", "works", "expect", "goes_by"),
    paired(
        OTHER_ITEMS,
        [False, True],
        ["decreased: true", "at_most: 1000"],
        ["", "'o/x' in :repos and "],
    ),
)
def test_a_figure_of_the_whole_is_compared_with_one_of_the_same_items(
    backfill: Backfill,
    tmp_path: Path,
    database: Path,
    other: tuple[str, str],
    works: bool,
    expect: str,
    goes_by: str,
) -> None:
    """With other items, it moves although no job has done anything."""
    how, meanwhile = other
    worker = Worker(database)

    def work(event: Mapping[str, Any]) -> None:
        if event["name"] == "app/op" and works:
            worker(event)
        if event["name"] == "app/make":
            with closing(sqlite3.connect(database, timeout=30)) as db, db:
                db.execute(meanwhile)

    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  make: {{event: app/make, for_each: once, payload: {{}}}}
  op:
    event: app/op
    for_each: left
    after: [make]
    {how.replace(", ", chr(10) + "    ")}
    payload: {{id: "{{{{ row.id }}}}"}}
    checks:
      - name: moved
        each: false
        query: select sum(pending) as n from repositories where {goes_by}name in :left
        expect: {{column: n, {expect}}}
"""
    body = """\
collections:
  left: {query: "select id, name from repositories where pending > 0", item: "{{ row.name }}"}
operations: [make, op]
delay: 0s
"""
    body = f"repos: [o/x]\n{body}" if goes_by else body
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/op": work, "app/make": work})) as url:
        done = backfill("run", plan, "--target", url, "--format", "json")
    assert done.status == (0 if works else 1), done.err
    (check,) = json.loads(done.out)["checks"]
    assert works or "completed but nothing changed" in check["message"]


@pytest.mark.parametrize(
    ("works", "how", "expect"),
    paired([False, True], ["resolve: stage", "until: GOAL"], ["decreased: true", "at_most: 1000"]),
)
def test_an_item_that_a_stage_finds_as_it_starts_must_have_moved(
    backfill: Backfill, tmp_path: Path, database: Path, works: bool, how: str, expect: str
) -> None:
    """Its row was there before the run, but the check was not about it then."""
    worker = Worker(database)

    def work(event: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as db, db:
            if event["name"] == "app/make":
                db.execute("UPDATE repositories SET name = 'o/new' WHERE name = 'x/new'")
            elif works or event["data"]["id"] != 4:
                worker(event)
            if event["name"] == "app/op":
                db.execute("INSERT INTO done VALUES (?)", [event["data"]["id"]])

    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE repositories SET pending = 30")
        db.execute("INSERT INTO repositories VALUES (4, 'x/new', 40)")
        db.execute("CREATE TABLE done (id INTEGER)")
    goal = """
      query: >-
        select count(*) as n from repositories
        where name in :left and id not in (select id from done)
      expect: {column: n, at_most: 0}"""
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  make: {{event: app/make, for_each: once, payload: {{}}}}
  op:
    event: app/op
    for_each: left
    after: [make]
    {how.replace("GOAL", goal)}
    payload: {{id: "{{{{ row.id }}}}"}}
    checks:
      - name: moved
        query: select name as item, pending from repositories where name in :left
        expect: {{column: pending, {expect}}}
"""
    body = """\
collections:
  left: {query: "select id, name from repositories where name like 'o/%'", item: "{{ row.name }}"}
operations: [make, op]
delay: 0s
"""
    plan = write_plan(tmp_path, body, catalog=catalog)
    with served(create_app({"app/op": work, "app/make": work})) as url:
        done = backfill("run", plan, "--target", url, "--format", "json")
    (check,) = json.loads(done.out)["checks"]
    assert (done.status, check["ok"]) == ((0, True) if works else (1, False)), done.err
    assert works or "(o/new)" in check["message"]


@pytest.mark.parametrize("group", ["false", "2"])
def test_coverage_is_of_the_items_that_a_stage_finds_out_as_it_starts(
    backfill: Backfill, tmp_path: Path, database: Path, group: str
) -> None:
    def work(event: Mapping[str, Any]) -> None:
        if event["name"] == "app/make":
            with closing(sqlite3.connect(database, timeout=30)) as db, db:
                db.execute("INSERT INTO repositories VALUES (4, 'n/1', 1), (5, 'n/2', 0)")

    body = f"""\
collections:
  left: {{query: "select name from repositories where name like 'n/%'", item: "{{{{ row.name }}}}"}}
operations: [make, {{use: drain, group: {group}}}]
if_empty: ok
delay: 0s
coverage:
  all:
    query: >-
      select name as item, 1 as total, pending = 0 as done from repositories where name in :left
"""
    plan = write_plan(tmp_path, body, catalog=FOUND_OUT)
    with served(create_app({"app/drain": work, "app/make": work})) as url:
        assert backfill("run", plan, "--target", url, "--yes").status == 0
    report = json.loads(backfill("report", "latest", "--format", "json").out)
    total = report["coverage"]["all"]["total"]
    assert (total["total"], total["done"]) == (2, 1)
