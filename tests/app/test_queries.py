"""Queries about past runs, in process."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.app import queries
from runner.app.estimates import expected, expected_of_preview, tell
from runner.app.queries import (
    coverage,
    events_of,
    events_page,
    events_to_send_round,
    list_runs,
    rehearsed,
    runs_and_holds,
    view_of,
)
from runner.app.session import Session
from runner.errors import NoState, PreflightRefused, UsageError
from runner.execution.judge import AFTER
from runner.model import Covered, EventFilter, EventPage, Function, Selectors, Trigger
from runner.model.function import Rest
from runner.output.page import run_page
from tests.support import Recorder, make_plan, repos, start_journal, write_plan
from tests.support import let_go as process_dies

JOBS = """\
def done(event):
    if event["data"]["repo"] == "o/r1":
        raise ValueError("not this one")
"""
BODY = (
    repos(5) + 'handlers: {app/sync: "jobs:done", app/embed: "jobs:done"}\non_failure: continue\n'
    "operations: [sync, embed]\n"
    "coverage: {issues: {query: 'select item, total, done from c where total > :least',"
    " params: {least: '{{ vars.least }}'}}}\nvars: {least: 0}\n"
)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two operations on five repositories, one of which always fails; pages have two rows."""
    monkeypatch.setattr("runner.app.queries.PAGE", 2)
    (tmp_path / "jobs.py").write_text(JOBS)
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.executescript(
            "create table c (item text, total integer, done integer);"
            "insert into c values ('o/r0', 4, 1);"
        )
    database.close()
    return write_plan(tmp_path, BODY)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}"}
    with Session(str(tmp_path / "state.db"), environ=environ) as session:
        yield session


def ran(plan: Path, limit: int | None = None) -> str:
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{plan.parent / 'app.db'}"}
    with runner.Session(str(plan.parent / "state.db"), environ=environ) as session:
        chosen = Selectors(limit=limit) if limit else None
        return session.run(session.plan(plan, selectors=chosen)).run_id


def changed(plan: Path, what: str) -> None:
    with sqlite3.connect(plan.parent / "app.db") as database:
        database.execute(what)
    database.close()


def test_what_came_of_events_is_told_by_pages_and_choices(session: Session, plan: Path) -> None:
    run, store = ran(plan), session.reader
    view = view_of(store, store.find(run))
    wanted = EventFilter(stage=1)
    pages = [events_page(store, view, wanted, number) for number in (1, 2, 3)]
    assert [[one.item for one in page.events] for page in pages] == [
        ["o/r0", "o/r1"],
        ["o/r2", "o/r3"],
        ["o/r4"],
    ]
    assert [(page.number, page.first, page.more) for page in pages] == [
        (1, 1, True),
        (2, 3, True),
        (3, 5, False),
    ]
    assert not events_page(store, view, wanted._replace(text="r1"), 1).more
    assert events_page(store, view, EventFilter(outcome="failed"), 1).more is False
    sent_round = [(one.operation, one.item) for one in events_to_send_round(store, view, 4)]
    assert sent_round == [("sync", "o/r1"), ("embed", "o/r1"), ("sync", "o/r0"), ("sync", "o/r2")]

    def of(**chosen: Any) -> list[tuple[str, str]]:
        record, events = events_of(session, run, **chosen)
        assert record.id == run
        return [(one.operation, one.item) for one in events]

    assert len(of()) == 10
    assert of(operations=["embed"], patterns=["*0", "*/r4"]) == [
        ("embed", "o/r0"),
        ("embed", "o/r4"),
    ]
    assert of(outcomes=["failed"]) == [("sync", "o/r1"), ("embed", "o/r1")]
    with pytest.raises(UsageError, match="has no operation `fire`") as refused:
        of(operations=["fire"])
    assert refused.value.hint == "it has embed, sync"


SIDE_BY_SIDE = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  one: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  two: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
"""


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"operations": ["two"]}, [("two", "o/r0"), ("two", "o/r1"), ("two", "o/r2")]),
        ({"operations": ["one + two"], "patterns": ["*/r0"]}, [("one", "o/r0"), ("two", "o/r0")]),
        ({"operations": ["one"], "patterns": ["!*/r1"]}, [("one", "o/r0"), ("one", "o/r2")]),
        ({"patterns": ["*/r[01]", "!*0"]}, [("one", "o/r1"), ("two", "o/r1")]),
        ({"operations": ["one"], "outcomes": ["failed"]}, [("one", "o/r1")]),
    ],
)
def test_events_are_chosen_by_operations_that_share_a_stage_and_by_globs(
    session: Session, plan: Path, chosen: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    """Retries choose items by globs in the same way."""
    body = repos(3) + 'flow: items\nhandlers: {app/sync: "jobs:done"}\noperations: [one, two]\n'
    write_plan(plan.parent, body + "on_failure: continue\n", catalog=SIDE_BY_SIDE)
    run = ran(plan)
    _, events = events_of(session, run, **chosen)
    assert [(one.operation, one.item) for one in events] == found
    record = session.reader.find(run)
    globs = chosen.get("patterns", ())
    again = session.store.retriable(record, ["failed"], globs)
    assert len(again) == (0 if globs and globs != ["*/r[01]", "!*0"] else 2)


def test_coverage_is_of_before_and_after_a_run_or_of_now(session: Session, plan: Path) -> None:
    (now,) = coverage(session, str(plan))["issues"]
    assert (now.total, now.done, now.before) == (4, 1, None)
    assert not coverage(session, str(plan), variables={"least": 4})["issues"]
    run = ran(plan)
    changed(plan, "update c set done = 3")
    store = session.reader
    kept = view_of(store, store.find(run)).coverage["issues"]
    assert kept == (Covered("issues", "o/r0", 4, 1, before=1),)
    assert list(coverage(session, str(plan), run=run)["issues"]) == list(kept)
    changed_plan = BODY.partition("coverage:")[0]
    write_plan(plan.parent, changed_plan)
    with pytest.raises(UsageError, match="has no coverage to ask for"):
        coverage(session, str(plan))
    bare = ran(plan)
    assert view_of(store, store.find(bare)).coverage == {}
    write_plan(plan.parent, BODY)
    with pytest.raises(UsageError, match="has no record of the coverage before it"):
        coverage(session, str(plan), run=bare)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("update c set done = null", "the coverage `issues` of o/r0: `done` is NULL"),
        ("update c set done = 1.5", "the coverage `issues` of o/r0: `done` is 1.5, which is no"),
        ("update c set item = null", "the coverage `issues`: `item` is NULL, which is not an item"),
        ("update c set done = 'none'", "the coverage `issues` of o/r0: `done` is no number"),
    ],
)
def test_a_run_whose_coverage_has_no_figures_has_a_report_that_says_so(
    session: Session, plan: Path, changes: str, words: str
) -> None:
    changed(plan, changes)
    run = ran(plan)
    view = view_of(session.reader, session.reader.find(run))
    assert view.coverage == {}
    when = [note.message.rpartition(" (")[2] for note in view.notes if words in note.message]
    assert when == ["before the run)", "after the run)"]


def test_a_run_that_stopped_is_compared_with_now(
    session: Session, plan: Path, tmp_path: Path
) -> None:
    """The run recorded what was there before it, but not what was there after it."""
    run = ran(plan)
    with sqlite3.connect(tmp_path / "state.db") as database:
        names = [name for (name,) in database.execute("select name from answers")]
        database.execute("delete from answers where name = ?", [max(names, key=_is_after)])
    database.close()
    changed(plan, "update c set done = 3")
    (found,) = coverage(session, str(plan), run=run)["issues"]
    assert (found.before, found.done) == (1, 3)
    store = session.reader
    view = view_of(store, store.find(run))
    assert view.coverage == {}, "the figures from before it are not those from after it"


@pytest.mark.parametrize(("status", "figures"), [("failed", [(1, 3)]), ("running", [])])
def test_a_run_has_figures_from_after_it_once_it_has_ended(
    session: Session, plan: Path, status: str, figures: list[tuple[int, int]]
) -> None:
    """A resumed run still has those from its earlier end."""
    run = ran(plan)
    with sqlite3.connect(plan.parent / "state.db") as database:
        names = [name for (name,) in database.execute("select name from answers")]
        later = '[["item", "total", "done"], [["o/r0", 4, 3]]]'
        database.execute(
            "update answers set value = ? where name = ?", [later, *filter(_is_after, names)]
        )
        database.execute("update runs set status = ?", [status])
    database.close()
    found = view_of(session.reader, session.reader.find(run)).coverage.get("issues", ())
    assert [(one.before, one.done) for one in found] == figures


def test_what_is_not_there_has_no_figures_on_a_page(session: Session, plan: Path) -> None:
    keyed = "'select item, total, done from c where item in (:repos)'"
    write_plan(
        plan.parent, BODY.partition("coverage:")[0] + f"coverage: {{issues: {{query: {keyed}}}}}\n"
    )
    run, store = ran(plan), session.reader
    page = run_page(view_of(store, store.find(run)), EventPage(()), standalone=True)
    row = page.replace("\u2013", "-").partition("<td>o/r1</td>")[2].partition("</tr>")[0]
    assert re.findall("<td[^>]*>([^<]*)</td>", row)[:4] == ["-"] * 4


def _is_after(name: str) -> bool:
    return AFTER in name


def test_runs_are_listed_by_their_state_the_latest_first(session: Session, plan: Path) -> None:
    with pytest.raises(NoState):
        runs_and_holds(session, limit=1)
    with Session(environ={}) as empty:
        assert runs_and_holds(empty, limit=1) == queries.Listed(), "by default, nothing yet"
    first, second = ran(plan), ran(plan)
    known = make_plan(plan.parent, BODY)
    start_journal(session.store, known, "RUN3")
    process_dies(session.store)
    store = session.reader

    def ids(*states: str, limit: int = 9) -> list[str]:
        return [one.record.id for one in list_runs(store, states=states, limit=limit)]

    assert ids() == ["RUN3", second, first]
    assert ids("failed") == [second, first]
    assert ids("failed", limit=1) == [second]
    (state,) = {one.state for one in list_runs(store, limit=1)}
    assert ids(state, limit=1) == ["RUN3"]
    assert ids(state, "failed", limit=2) == ["RUN3", second]
    start_journal(session.store, known, "RUN4").end("completed")
    process_dies(session.store)
    start_journal(session.store, known, "RUN5", baseline="by hand").end("completed")
    assert (ids("completed", limit=1), ids("baseline", limit=1)) == (["RUN4"], ["RUN5"])
    assert ids("completed", "baseline") == ["RUN5", "RUN4"]
    listed = runs_and_holds(session, limit=2)
    assert ([one.record.id for one in listed.runs], listed.more) == (["RUN5", "RUN4"], True)
    assert not runs_and_holds(session, limit=5).more
    session.store.hold("address", "dev", "a deploy", None)
    assert [one.reason for one in runs_and_holds(session, limit=3).holds] == ["a deploy"]


def test_a_rehearsal_is_of_the_same_plan(session: Session, plan: Path) -> None:
    run = ran(plan)
    assert rehearsed(session, run, str(plan))
    plan.write_text(plan.read_text().replace("name: test", "name: other"))
    with pytest.raises(PreflightRefused, match=f"run {run} is of the plan test, not of other"):
        rehearsed(session, run, str(plan))


def test_how_long_the_next_run_takes_is_told_by_those_before(
    session: Session, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run reads a state that exists, and creates none."""
    built = make_plan(plan.parent, BODY)
    heard = Recorder()
    monkeypatch.setattr(session.reporter, "say", heard.note, raising=False)
    tell(session, expected_of_preview(session, built))
    assert not session.has_state
    rests = Function(("slow",), (Trigger("app/sync"),), debounce=Rest(300.0))
    assert expected(session, built, [rests]).seconds == 300.0
    assert expected(session, built).seconds == 0.0
    run = ran(plan)
    for estimate in (expected(session, built), expected_of_preview(session, built)):
        assert f"its jobs as in run {run}" in estimate.basis
    assert heard.notes == []
    tell(session, estimate)
    assert heard.notes == [f"time: {estimate.words}"]


def test_coverage_of_a_run_is_of_its_plan_and_of_the_items_that_are_selected(
    session: Session, plan: Path
) -> None:
    changed(plan, "insert into c values ('o/r1', 2, 2)")
    asked = '{query: "select item, total, done from c where item in :repos"}'
    write_plan(plan.parent, BODY.partition("coverage:")[0] + f"coverage: {{issues: {asked}}}\n")
    run, one = ran(plan), Selectors(items=("*/r1",))
    (found,) = coverage(session, str(plan), run=run, selectors=one)["issues"]
    assert (found.item, found.done, found.before) == ("o/r1", 2, 2)
    plan.write_text(plan.read_text("utf-8").replace("name: test", "name: other"), "utf-8")
    with pytest.raises(PreflightRefused, match="is of the plan test, not of other"):
        coverage(session, str(plan), run=run)


@pytest.mark.parametrize("limit", [1, None])
def test_coverage_of_a_run_is_of_its_items_though_the_plans_query_gives_others_by_now(
    session: Session, plan: Path, limit: int | None
) -> None:
    """A plan selects what is missing: after a run of a part of it, only the rest."""
    changed(plan, "insert into c values ('o/r1', 2, 0)")
    asked = '{query: "select item, total, done from c where item in :repos"}'
    missing = 'repos: [{query: "select item as repo from c where done < total order by item"}]\n'
    body = BODY.partition("coverage:")[0].replace(repos(5), missing)
    assert missing in body
    write_plan(plan.parent, body + f"coverage: {{issues: {asked}}}\n")
    run = ran(plan, limit)
    changed(plan, "update c set done = total where item = 'o/r0'")
    found = coverage(session, str(plan), run=run)["issues"]
    assert [one.item for one in found] == ["o/r0", "o/r1"][:limit]
    assert all(one.before is not None for one in found)
