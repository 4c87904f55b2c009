"""Whether a run that has begun may go on, and with which plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.inngest.target import resolve
from runner.adapters.journal.leases import park
from runner.app.begun import Begun, still_open
from runner.app.queries import how_to_go_on
from runner.app.session import Session
from runner.errors import LockHeld, PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.ports import Control
from runner.model import Selectors
from runner.planning.build import build_execution_plan
from runner.planning.parts import select
from runner.spec.load import load_plan
from tests.support import CATALOG, REQUEST, Recorder, change_leases, repos, write_plan
from tests.support import let_go as process_dies

EMBEDDED = resolve("embedded", {})
BODY = repos(3) + "operations: [sync]\n"
DRAIN = "until: {query: select 1 as n, expect: {column: n, at_most: 0}}"
Begin = Callable[..., Path]


@pytest.fixture
def begin(session: Session, tmp_path: Path) -> Begin:
    """Begin a run that sent its first events and whose process died."""

    def make(
        status: str | None = None,
        *,
        catalog: str = CATALOG,
        selectors: Selectors | None = None,
        **record: Any,
    ) -> Path:
        path = write_plan(tmp_path, BODY, catalog=catalog)
        loaded = load_plan(str(path))
        plan = build_execution_plan(loaded)
        plan = select(loaded, plan, selectors) if selectors else plan
        lease = session.store.lock(plan.name, EMBEDDED.address, "RUN1")
        known = {"target": "embedded", "address": EMBEDDED.address, "variables": {}}
        journal = session.store.start("RUN1", plan, lease, **{**known, "follow": True, **record})
        assert journal.begin_chunk(REQUEST, Control())
        if status == "parked":
            park(lease, time.time() + 3600, "the workers")
            return path
        if status:
            journal.end(status)  # type: ignore[arg-type]
        process_dies(session.store)
        return path

    return make


def goes_on(session: Session, *, from_journal: bool = False, **options: Any) -> Begun | None:
    with still_open(session, "RUN1", RunOptions(**options), from_journal=from_journal) as found:
        return found


def test_a_run_whose_files_are_as_they_were_goes_on_with_its_plan(
    session: Session, begin: Begin, heard: Recorder
) -> None:
    begin()
    found = goes_on(session)
    assert found
    assert (found.plan.events, found.target, found.record.id) == (3, EMBEDDED, "RUN1")
    assert heard.notes == []


@pytest.mark.parametrize("by", ["the journal", "being a retry"])
def test_what_was_reviewed_then_is_sent_whatever_its_files_are_now(
    session: Session, begin: Begin, by: str
) -> None:
    begin().write_text("nonsense\n")
    if by == "being a retry":
        with session.store._database.write() as connection:
            connection.change("UPDATE runs SET parent = 'RUN0'")
    found = goes_on(session, from_journal=by == "the journal")
    assert found
    assert found.plan.events == 3


@pytest.mark.parametrize(
    ("count", "note"),
    [
        (5, "the plan has changed after what was sent: 4 events are left to send now, 2 before"),
        (2, "the plan has changed after what was sent: 1 event is left to send now, 2 before"),
    ],
)
def test_what_has_changed_only_after_what_was_sent_is_sent_as_it_is_now(
    session: Session, begin: Begin, heard: Recorder, count: int, note: str
) -> None:
    path = begin()
    path.write_text(path.read_text().replace(BODY, repos(count) + "operations: [sync]\n"))
    found = goes_on(session)
    assert found
    assert (found.plan.events, heard.notes) == (count, [note])
    heard.notes.clear()
    path.write_text(path.read_text().replace(repos(count), repos(3)) + "# a comment\n")
    assert goes_on(session)
    assert heard.notes == []


@pytest.mark.parametrize(
    ("demands", "refused"),
    [
        ("approval: {required: true}\n", "test needs an approval"),
        ("approval: {required: true, over_events: 4}\n", "test needs an approval"),
        ("", "the policy does not allow test: `small`"),
    ],
)
def test_what_has_changed_needs_what_a_new_run_of_it_needs(
    session: Session, begin: Begin, demands: str, refused: str
) -> None:
    path = begin()
    before = path.read_text()
    path.write_text(before.replace(BODY, repos(5) + "operations: [sync]\n" + demands))
    project = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    if not demands:
        project += "policy: [{name: small, require: totals.events <= 4}]\n"
    (path.parent / "backfill.yaml").write_text(project)
    with pytest.raises(PreflightRefused, match=refused) as error:
        goes_on(session)
    assert str(error.value).startswith(f"{path} has changed since run RUN1 began: ")
    assert "backfill resume RUN1 --from-journal" in (error.value.hint or "")
    kept = goes_on(session, from_journal=True)
    assert kept
    assert kept.plan.events == 3
    if demands:
        (path.parent / "approvals").mkdir()
        digest = build_execution_plan(load_plan(str(path))).digest
        (path.parent / "approvals" / "one").write_text(digest)
    else:
        (path.parent / "backfill.yaml").unlink()
        session.forget_projects()
    found = goes_on(session)
    assert found
    assert found.plan.events == 5


def test_a_part_of_a_plan_stays_that_part(session: Session, begin: Begin) -> None:
    path = begin(selectors=Selectors(limit=2))
    path.write_text(path.read_text().replace(BODY, repos(9) + "operations: [sync]\n"))
    found = goes_on(session)
    assert found
    assert found.plan.events == 2


def test_what_was_sent_cannot_change(session: Session, begin: Begin) -> None:
    path = begin()
    text = path.read_text()
    path.write_text(text.replace("o/r0", "o/r9"))
    with pytest.raises(StalePlan) as changed:
        goes_on(session)
    assert str(changed.value) == (
        f"{path} no longer begins with what run RUN1 has sent: "
        "event 1 of the plan, `sync` of o/r0, is now that of o/r9"
    )
    path.unlink()
    with pytest.raises(StalePlan, match=r"the plan of run RUN1, .*, no longer exists") as gone:
        goes_on(session)
    for error in (changed.value, gone.value):
        assert "backfill resume RUN1 --from-journal" in (error.hint or "")


def test_a_run_goes_on_where_it_has_sent_to(session: Session, begin: Begin) -> None:
    begin(target="dev")
    with pytest.raises(StalePlan, match="run RUN1 was started on http://embedded, and `dev` is"):
        goes_on(session)


def test_what_is_over_does_not_go_on(session: Session, begin: Begin, heard: Recorder) -> None:
    begin("completed")
    assert goes_on(session) is None
    assert heard.notes == ["run RUN1 has completed: there is nothing to resume"]


def test_what_was_cancelled_is_so_for_good(session: Session, begin: Begin) -> None:
    begin("cancelled")
    with pytest.raises(UsageError, match="run RUN1 was cancelled and cannot be resumed") as refused:
        goes_on(session)
    assert "`backfill status RUN1`" in str(refused.value.hint), "a command that can be copied"


@pytest.mark.parametrize("state", ["incomplete", "running"])
def test_what_was_to_be_cancelled_as_its_process_died_is_cancelled_and_sends_nothing(
    session: Session, begin: Begin, state: str
) -> None:
    begin(state)
    session.store.request_cancel("RUN1")
    told = how_to_go_on(session.store, session.store.find("RUN1"), "continues it")
    assert told == "`backfill cancel RUN1` completes the cancellation that was requested"
    for _ in range(2):
        with pytest.raises(UsageError, match="run RUN1 was cancelled and cannot be resumed"):
            goes_on(session)
        assert session.store.find("RUN1").status == "cancelled"


@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_is_with_the_workers_goes_on_there_unless_they_do_not_come(
    session: Session, begin: Begin, late: bool
) -> None:
    begin("parked")
    if late:
        change_leases(session.store, "expires_at = 1")
        assert goes_on(session)
    else:
        with pytest.raises(LockHeld, match="run RUN1 is under way: it is left to the workers"):
            goes_on(session)


@pytest.mark.parametrize("where", ["a process", "the workers"])
def test_a_run_that_is_paused_elsewhere_goes_on_there(
    session: Session, begin: Begin, heard: Recorder, where: str
) -> None:
    begin("parked")
    if where == "a process":
        change_leases(session.store, "workers = FALSE, holder = 'somebody'")
    session.store.request_pause("RUN1")
    assert goes_on(session) is None
    assert session.store.find("RUN1").wanted is None
    who = "somebody drives it" if where == "a process" else "it is left to the workers ("
    assert heard.notes[0].startswith(f"run RUN1 continues: {who}")


@pytest.mark.parametrize(
    "options", [{"max_rounds": 7}, {"max_time": 60.0}, {"max_rounds": 7, "max_time": 60.0}]
)
def test_a_drain_is_given_more(session: Session, begin: Begin, options: dict[str, Any]) -> None:
    begin(catalog=CATALOG.replace("done: completed", f"done: completed, {DRAIN}"))
    found = goes_on(session, **options)
    assert found
    until: Any = found.plan.stages[0].until
    assert {name: getattr(until, name) for name in options} == options


@pytest.mark.parametrize("options", [{"max_rounds": 7}, {"max_time": 60.0}])
def test_what_is_for_drains_alone_is_refused_without_one(
    session: Session, begin: Begin, options: dict[str, Any]
) -> None:
    begin()
    (name,) = options
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: this run has no drain"):
        goes_on(session, **options)
