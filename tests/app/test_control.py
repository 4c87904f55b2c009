"""What an operator does to a run, whether a process drives it or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.adapters.inngest.target import resolve
from runner.adapters.journal.writer import JournalWriter
from runner.app.control import cancel, hold, let_go, pause, tune
from runner.app.queries import events_page, view_of
from runner.app.retry import FailedEvents, plan_retry, retry
from runner.app.session import Session
from runner.errors import Incomplete, LockHeld, NoState, PreflightRefused, TargetDown, UsageError
from runner.execution.context import RunOptions
from runner.execution.ports import Control
from runner.model import EventFilter
from runner.output.page import run_page
from runner.output.run import run_markdown, write_view
from runner.planning.estimate import left
from tests.support import REQUEST, Recorder, change_leases, make_plan, repos, server_target
from tests.support import let_go as process_dies

EMBEDDED = resolve("embedded", {})
Begin = Callable[..., JournalWriter]


@pytest.fixture
def begin(session: Session, tmp_path: Path) -> Begin:
    """Begin a run that a process drives."""

    def make(operation: str = "sync", **record: Any) -> JournalWriter:
        plan = make_plan(tmp_path, f"{repos(3)}operations: [{operation}]\n")
        known = {"target": "embedded", "address": EMBEDDED.address, "variables": {}}
        lease = session.store.lock(plan.name, EMBEDDED.address, "RUN1")
        return session.store.start("RUN1", plan, lease, **{**known, "follow": True, **record})

    return make


def test_a_run_that_a_process_is_at_is_paused(session: Session, begin: Begin) -> None:
    begin()
    assert pause(session, "RUN1").holder == session.who
    assert session.store.find("RUN1").wanted == "pause"


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (None, "no process drives it", "`backfill resume RUN1` continues it"),
        ("incomplete", "it is incomplete", "`backfill resume RUN1` continues it"),
        ("completed", "it is completed", "`backfill status RUN1` shows how it ended"),
        ("failed", "it is failed", "`backfill status RUN1` shows how it ended"),
    ],
)
def test_a_run_that_is_not_under_way_is_not_paused_and_the_hint_says_what_can_be_done(
    session: Session, begin: Begin, status: Any, message: str, hint: str
) -> None:
    journal = begin()
    if status:
        journal.end(status)
    process_dies(session.store)
    with pytest.raises(UsageError) as refused:
        pause(session, "RUN1")
    assert str(refused.value) == f"run RUN1 is not under way: {message}"
    assert (refused.value.hint or "").startswith(hint)
    if status in ("completed", "failed"):
        with pytest.raises(UsageError, match=message):
            tune(session, "RUN1", batch_size=1)
    else:
        assert tune(session, "RUN1", batch_size=1).id == "RUN1"


@pytest.mark.parametrize(
    "pace",
    [{"batch_size": 7}, {"delay": 1.5}, {"max_in_flight": 3}, {"batch_size": 7, "delay": 0.0}],
)
def test_a_run_is_given_the_pace_that_is_named_and_keeps_the_rest(
    session: Session, begin: Begin, pace: dict[str, Any]
) -> None:
    begin()
    tune(session, "RUN1", **pace)
    record = session.store.find("RUN1")
    found = {name: getattr(record, name) for name in ("batch_size", "delay")}
    assert {name: value for name, value in found.items() if value is not None} == {
        name: value for name, value in pace.items() if name in found
    }


def test_a_pace_of_nothing_is_refused(session: Session, begin: Begin) -> None:
    begin()
    with pytest.raises(UsageError, match="nothing to change"):
        tune(session, "RUN1")


@pytest.mark.parametrize(
    ("operation", "record", "message"),
    [
        ("fire", {}, "run RUN1 waits for no jobs"),
        ("sync", {"follow": False}, "run RUN1 follows no jobs"),
        ("sync", {}, None),
    ],
)
def test_a_cap_is_taken_where_it_would_count_something(
    session: Session, begin: Begin, operation: str, record: dict[str, Any], message: str | None
) -> None:
    begin(operation, **record)
    if message is None:
        tune(session, "RUN1", max_in_flight=2)
    else:
        with pytest.raises(UsageError, match=message):
            tune(session, "RUN1", max_in_flight=2)
        tune(session, "RUN1", batch_size=2)


def test_a_target_is_held_with_a_reason_until_it_is_let_go(session: Session) -> None:
    with pytest.raises(UsageError, match="--reason is empty"):
        hold(session, "dev", " ")
    with pytest.raises(NoState):
        let_go(session, "dev")
    hold(session, "cloud", "x")
    with pytest.raises(UsageError, match="is not held"):
        let_go(session, "dev")
    let_go(session, "cloud")
    assert hold(session, "dev", "a deploy", 60.0).startswith("dev (")
    (held,) = session.store.holds()
    assert (held.reason, round((held.until or 0.0) - held.since)) == ("a deploy", 60)
    assert let_go(session, "dev").startswith("dev (")
    assert session.store.holds() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda session: pause(session, "RUN1"),
        lambda session: tune(session, "RUN1", batch_size=2),
    ],
    ids=["pause", "tune"],
)
def test_nothing_takes_the_place_of_a_cancel_that_its_process_has_not_seen_yet(
    session: Session, begin: Begin, change: Callable[[Session], object]
) -> None:
    """A request is in flight. The cancel wins, even over a pause, and even for a process that
    checked before it was requested."""
    journal = begin()
    pause(session, "RUN1")
    session.store.request_cancel("RUN1")
    noted = journal.notes()
    with pytest.raises(UsageError, match="is being cancelled, which cannot be undone") as refused:
        change(session)
    assert refused.value.hint == "`backfill logs RUN1` shows who requested it"
    assert not session.store.request_pause("RUN1")
    session.store.withdraw_pause("RUN1")
    assert session.store.find("RUN1").wanted == "cancel"
    assert journal.notes() == noted


def test_a_run_that_nobody_is_at_is_cancelled_at_once_for_good(
    session: Session, begin: Begin
) -> None:
    """Events whose answer was lost count as unanswered."""
    journal = begin()
    assert journal.begin_chunk(REQUEST, Control())
    process_dies(session.store)
    record, totals, unanswered, jobs = cancel(session, "RUN1")
    assert (record.id, totals.planned, unanswered, jobs) == ("RUN1", 3, 1, None)
    ended = session.store.find("RUN1")
    # The same reason as when its process ends it: status, report, pages and hooks show it.
    assert (ended.status, ended.reason) == ("cancelled", "cancelled by an operator")
    with pytest.raises(UsageError, match="run RUN1 has ended: it is cancelled"):
        cancel(session, "RUN1")


def test_a_process_that_is_at_a_run_is_waited_for_until_it_has_ended_it(
    session: Session, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, heard = begin(), Recorder()
    waits: list[float] = []

    def ends(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            journal.end("cancelled", "as it was asked to")
            process_dies(session.store)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=ends)
    monkeypatch.setattr("runner.app.control.time", clock)
    monkeypatch.setattr(session.reporter, "say", heard.note, raising=False)
    cancel(session, "RUN1")
    assert heard.notes == [f"waiting for the request in flight ({session.who})"]
    assert waits == [0.2, 0.2]


@pytest.mark.parametrize("how", ["parks", "dies"])
def test_a_run_that_its_worker_leaves_before_it_has_seen_the_cancel_is_ended_at_once(
    session: Session, begin: Begin, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its next step may be due hours later, or never come."""
    begin()
    process_dies(session.store)
    store = session.store
    lease = store.lock(store.find("RUN1").plan, EMBEDDED.address, "RUN1", worker=True)
    waits: list[float] = []

    def leaves(seconds: float) -> None:
        waits.append(seconds)
        if how == "parks":
            store.park(lease, time.time() + 3600, "the workers")
        else:
            change_leases(store, "expires_at = :now - 1", now=time.time())

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=leaves, time=time.time)
    monkeypatch.setattr("runner.app.control.time", clock)
    record, *_ = cancel(session, "RUN1")
    assert (record.status, waits) == ("cancelled", [0.2])


def test_while_another_run_of_its_plan_is_under_way_a_run_is_not_cancelled_and_may_go_on(
    session: Session, begin: Begin
) -> None:
    """A refused cancel leaves no request that the next resume would obey."""
    begin().end("incomplete")
    process_dies(session.store)
    store = session.store
    store.lock(store.find("RUN1").plan, EMBEDDED.address, "RUN2")
    with pytest.raises(LockHeld) as refused:
        cancel(session, "RUN1")
    assert "`backfill cancel RUN2` ends it" in (refused.value.hint or "")
    assert (store.find("RUN1").status, store.find("RUN1").wanted) == ("incomplete", None)


def test_a_worker_that_comes_before_the_cancel_has_the_lock_ends_the_run(
    session: Session, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    process_dies(session.store)
    store = session.store
    plan = store.find("RUN1").plan
    store.park(store.lock(plan, EMBEDDED.address, "RUN1"), time.time(), "the workers")
    request = type(store).request_cancel

    def comes(self: Any, run: str) -> None:
        request(self, run)
        lease = store.lock(plan, EMBEDDED.address, "RUN1", worker=True)
        store.journal(store.find("RUN1"), lease).end("cancelled", "as requested")
        lease.release()

    monkeypatch.setattr(type(store), "request_cancel", comes)
    record, *_ = cancel(session, "RUN1")
    assert (record.status, record.reason) == ("cancelled", "as requested")


@pytest.mark.parametrize("worker", [False, True])
def test_of_a_run_that_was_to_be_cancelled_as_its_driver_died_each_surface_says_how_it_ends(
    session: Session, begin: Begin, worker: bool
) -> None:
    """A resume would have nothing to go on with: the run is cancelled for good."""
    begin()
    process_dies(session.store)
    store = session.store
    if worker:
        store.lock(store.find("RUN1").plan, EMBEDDED.address, "RUN1", worker=True)
        change_leases(store, "expires_at = :now - 1", now=time.time())
    store.request_cancel("RUN1")
    view = view_of(store, store.find("RUN1"))
    text = StringIO()
    write_view(view, text, color=False)
    page = run_page(view, events_page(store, view, EventFilter(), 1), standalone=True)
    for shown in (text.getvalue(), run_markdown(view), page):
        assert "backfill cancel RUN1" in shown
        assert "backfill resume" not in shown


def test_no_time_left_is_told_of_a_run_whose_target_is_held_before_its_next_step(
    session: Session, tmp_path: Path
) -> None:
    """Its worker comes back later, and sees the hold only then."""
    plan = make_plan(tmp_path, repos(3) + "operations: [sync]\nbatch_size: 1\ndelay: 40s\n")
    store = session.store
    lease = store.lock(plan.name, EMBEDDED.address, "RUN1")
    record = {"target": "embedded", "address": EMBEDDED.address, "variables": {}, "follow": True}
    store.start("RUN1", plan, lease, **record)
    store.park(lease, time.time() + 40, "the workers")
    assert left(store.glance(store.find("RUN1")))
    hold(session, "embedded", "incident 42")
    assert left(store.glance(store.find("RUN1"))) is None


def test_a_process_that_does_not_end_is_named_and_the_run_stays_cancelled(
    session: Session, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    monkeypatch.setattr("runner.app.control._PATIENCE", -1.0)
    with pytest.raises(Incomplete, match="its process has not done so yet") as refused:
        cancel(session, "RUN1")
    assert refused.value.hint == f"look at that process: {session.who}"
    assert session.store.find("RUN1").wanted == "cancel"


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_jobs_that_ended_with_their_process_are_not_cancelled(
    session: Session, begin: Begin, status: Any
) -> None:
    """On the embedded target; a run that is over may have other jobs that go on."""
    begin().end(status)
    process_dies(session.store)
    with pytest.raises(PreflightRefused, match="end with its process"):
        cancel(session, "RUN1", jobs=True)
    assert session.store.find("RUN1").status == status, "it is refused before anything is done"


def test_jobs_of_a_server_that_is_away_are_cancelled_by_the_same_command(
    session: Session, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint named `resume`, which a cancelled run refuses."""
    begin().end("sent")
    process_dies(session.store)

    async def away(*_: object) -> None:
        raise TargetDown("no answer", hint="once it answers again, resume")

    monkeypatch.setattr("runner.execution.cancel.cancel_jobs", away)
    monkeypatch.setattr("runner.app.control._with_jobs", lambda *_: server_target())
    with pytest.raises(TargetDown, match="no answer") as down:
        cancel(session, "RUN1", jobs=True)
    assert "`backfill cancel RUN1 --jobs`" in (down.value.hint or "")


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("sent", "`backfill resume RUN1` follows its jobs, to find out what failed"),
        ("incomplete", "`backfill resume RUN1` sends what was not sent"),
        (None, "`backfill resume RUN1` sends what was not sent"),
        ("completed", "`backfill status RUN1` shows how it ended, and which runs retry it"),
    ],
)
def test_where_nothing_has_failed_the_hint_says_what_can_be_done_instead(
    session: Session, begin: Begin, status: Any, hint: str
) -> None:
    journal = begin()
    if status:
        journal.end(status)
    process_dies(session.store)
    for ask in (retry, plan_retry):
        with pytest.raises(PreflightRefused, match="run RUN1 has nothing to retry") as no:
            ask(session, FailedEvents("RUN1"), RunOptions())
        assert no.value.hint == hint
