"""A run that this process drives: who is notified, and how a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

import runner
from runner.adapters.embedded.server import create_app
from runner.adapters.journal.store import Store
from runner.app.drive import Noting
from runner.app.prepare import prepare
from runner.app.run import run
from runner.app.session import Session, Silent
from runner.execution.context import RunOptions
from runner.model import ExecutionPlan, Observer, Selectors, StageRecord, Summary, Waiting
from tests.cli.conftest import served
from tests.support import HurriedClock, Recorder, repos, write_plan

BODY = repos(5) + (
    'handlers: {app/sync: "jobs:work"}\noperations: [sync]\nbatch_size: 1\ndelay: 1ms\n'
)
SENT = "operations: [sync]\nbatch_size: 1\ndelay: 10s\n"
SLOW = BODY.replace("1ms", "10s")  # on a busy machine, too, the signal arrives during a delay


class Interrupting(Recorder):
    """An observer that raises signals as soon as something was sent."""

    def __init__(self, *numbers: signal.Signals) -> None:
        super().__init__()
        self.left = list(numbers)

    def progress(self, progress: StageRecord) -> None:
        super().progress(progress)
        while progress.sent and self.left:
            signal.raise_signal(self.left.pop(0))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[runner.Session]:
    (tmp_path / "jobs.py").write_text("def work(event):\n    pass\n")
    with runner.Session(str(tmp_path / "state.db"), environ={}) as session:
        yield session


def assert_goes_on(session: runner.Session, run_id: str) -> None:
    with runner.Session(session.state, environ={}, clock=HurriedClock()) as later:
        again = later.resume(run_id)
    assert again
    assert (again.status, again.totals.completed) == ("completed", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_in_order_and_it_can_go_on(
    session: runner.Session, tmp_path: Path, number: signal.Signals
) -> None:
    plan = session.plan(write_plan(tmp_path, SLOW))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(one) for one in numbers]
    heard = Interrupting(number)
    stopped = session.run(plan, heard)
    assert (stopped.status, stopped.interrupted) == ("incomplete", number == signal.SIGINT)
    assert 0 < stopped.totals.accepted < 5
    assert heard.run_id == stopped.run_id
    assert "stopping after the request in flight" in heard.notes
    assert [signal.getsignal(one) for one in numbers] == before
    record = session.status(stopped.run_id).record
    assert (record.status, record.reason) == ("incomplete", f"stopped by {number.name}")
    assert_goes_on(session, stopped.run_id)


class Impatient(Recorder):
    """An observer that sends a signal while a guard is waited for."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def note(self, message: str) -> None:
        super().note(message)
        if message == "waiting: for the guard `command sleep` to answer":
            signal.raise_signal(self.number)


@pytest.mark.usefixtures("heard")
def test_a_signal_does_not_wait_for_a_guard(session: runner.Session, tmp_path: Path) -> None:
    """It took as long as the guard may take, and then the guard was what had refused the run."""
    path = write_plan(tmp_path, BODY + 'guards: [{command: [sleep, "60"]}]\n')
    stopped = session.run(session.plan(path), Impatient(signal.SIGTERM))
    assert (stopped.status, stopped.totals.accepted) == ("incomplete", 0)
    with pytest.raises(KeyboardInterrupt):
        session.run(session.plan(path), Impatient(signal.SIGINT))
    assert len(session.runs()) == 1, "nothing was begun"


class Killing(Recorder):
    """An observer that sends ^C to the process, once, after something was sent."""

    killed = False

    def progress(self, progress: StageRecord) -> None:
        super().progress(progress)
        if progress.sent and not self.killed:
            self.killed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def heard() -> Iterator[None]:
    """Hear ^C as a program does that a person starts: one in the background inherits that it is
    ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


class Stopped(Recorder):
    """An observer that tells when a stop was heard."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def note(self, message: str) -> None:
        super().note(message)
        if message == "stopping after the request in flight":
            self.stopped.set()


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_request_in_flight_have_its_answer(
    session: runner.Session, tmp_path: Path, number: signal.Signals
) -> None:
    """^C at a terminal cancelled it, and whether its events were accepted was not known."""
    app, heard = create_app({"app/sync": lambda _: None}), Stopped()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/e/"):
            os.kill(os.getpid(), number)
            await asyncio.to_thread(heard.stopped.wait, 30)
        await app(scope, receive, send)

    with served(slow) as url:
        plan = session.plan(write_plan(tmp_path, repos(5) + SENT), target=url)
        stopped = session.run(plan, heard)
    assert (stopped.status, stopped.interrupted) == ("incomplete", number == signal.SIGINT)
    assert stopped.totals.accepted == 1
    assert stopped.notes == ("4 events are not sent yet",)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("kind", ["a notebook's loop", "asyncio.run"])
def test_an_interrupt_ends_a_run_also_where_a_loop_runs_already(
    session: runner.Session, tmp_path: Path, kind: str
) -> None:
    """In a notebook the cell gets what was done; a program whose loop handles ^C ends, too."""
    plan = session.plan(write_plan(tmp_path, SLOW))
    found: list[runner.Summary] = []

    async def cell() -> None:
        found.append(session.run(plan, Killing()))
        await asyncio.sleep(0)

    before = signal.getsignal(signal.SIGINT)
    if kind == "asyncio.run":
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(cell())
        loop.close()
    assert signal.getsignal(signal.SIGINT) is before
    (stopped,) = found
    assert (stopped.status, stopped.interrupted) == ("incomplete", True)
    assert 0 < stopped.totals.accepted < 5
    assert_goes_on(session, stopped.run_id)


class TakingOver(Recorder):
    """An observer that takes the run over, once, as another machine does after a minute."""

    def __init__(self, state: str) -> None:
        super().__init__()
        self.state, self.taken = state, False

    def progress(self, progress: StageRecord) -> None:
        super().progress(progress)
        if progress.waiting and not self.taken:  # what was sent is written down
            self.taken = True
            with Store(self.state) as store:
                with store._database.write() as connection:
                    connection.change("UPDATE leases SET expires_at = 0, machine = 'another'")
                record = store.find(self.run_id)
                lease = store.lock(record.plan, record.address, record.id)
                store.journal(record, lease).end("failed", "as the other process saw it")


class Ended(Silent):
    """A reporter that keeps the summaries of runs."""

    def __init__(self, observer: Recorder) -> None:
        super().__init__(observer)
        self.observer, self.summaries = observer, list[Summary]()

    def driving(self) -> AbstractContextManager[Observer]:
        return nullcontext(self.observer)

    def ended(self, summary: Summary) -> None:
        self.summaries.append(summary)


def test_a_process_whose_run_another_has_taken_over_does_not_say_how_it_ended(
    session: runner.Session, tmp_path: Path
) -> None:
    heard = TakingOver(session.state)
    reporter = Ended(heard)
    with Session(session.state, environ={}, reporter=reporter) as own:
        plan = write_plan(tmp_path, BODY.replace("1ms", "200ms"))
        prepared = prepare(own, str(plan), target="embedded")
        with pytest.raises(runner.errors.LockHeld, match="another process has taken over"):
            run(own, prepared, RunOptions())
    assert heard.taken
    assert reporter.summaries == []
    assert session.status(heard.run_id).record.status == "failed"


def test_who_runs_one_plan_after_the_other_hears_of_the_signal_too(
    session: runner.Session, tmp_path: Path
) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        session.run(session.plan(write_plan(tmp_path, BODY)), Interrupting(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


def test_what_was_asked_to_be_passed_over_is(session: runner.Session, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = session.run(session.plan(write_plan(tmp_path, BODY)), Interrupting(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.status == "completed"


class Reporter(Silent):
    """A reporter, which hears of a run besides its observer."""

    def __init__(self) -> None:
        super().__init__(Recorder())
        self.heard: list[object] = []

    def planned(self, plan: ExecutionPlan, target: str) -> None:
        self.heard.append((plan.events, target))

    def ended(self, summary: Summary) -> None:
        self.heard.append((summary.status, summary.partial))


@pytest.mark.parametrize(
    ("selectors", "heard"),
    [
        (None, [(5, "embedded"), ("completed", None)]),
        (Selectors(limit=2), [(2, "embedded"), ("completed", "--limit 2")]),
    ],
)
def test_a_reporter_hears_what_is_sent_and_what_came_of_it(
    tmp_path: Path, selectors: Selectors | None, heard: list[object]
) -> None:
    (tmp_path / "jobs.py").write_text("def work(event):\n    pass\n")
    path, reporter = str(write_plan(tmp_path, BODY)), Reporter()
    with Session(str(tmp_path / "state.db"), environ={}, reporter=reporter) as session:
        run(session, prepare(session, path, selectors=selectors), RunOptions(yes=True))
    assert reporter.heard == heard


def test_a_guard_that_cannot_be_asked_leaves_no_run_behind(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("def work(event):\n    pass\n")
    path = write_plan(tmp_path, BODY + "guards: [{github: {remaining: 10}}]\n")
    environ = {"GITHUB_TOKEN": "x", "GITHUB_API_URL": "http://127.0.0.1:9"}
    with runner.Session(str(tmp_path / "state.db"), environ=environ) as session:
        plan = session.plan(path)
        with pytest.raises(runner.PreflightRefused, match=r"the guard `.*` cannot be asked"):
            session.run(plan)
        assert session.runs() == []


def test_how_a_run_was_asked_for_is_noted_in_it(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("def work(event):\n    pass\n")
    path = str(write_plan(tmp_path, BODY))
    options = RunOptions(yes=True, skip_preflight=True)
    with Session(str(tmp_path / "state.db"), environ={}) as known:
        done = run(known, prepare(known, path), options)
        notes = known.reader.notes(known.reader.find(done.run_id))
    assert "the preflight was skipped (--skip-preflight)" in [note.message for note in notes]


class Journal:
    """The notes and waits that a run records."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.waits: list[tuple[int, Waiting | None]] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def waiting(self, stage: int, wait: Waiting | None) -> None:
        self.waits.append((stage, wait))


PACE, AWAY = Waiting("for the delay", "pace"), Waiting("for the server", "away")
SENDING = StageRecord(1, "sync", 5, sent=2, left=9.0)


def test_notes_and_each_change_of_a_wait_are_written_down_once_there_is_a_journal() -> None:
    heard, kept = Recorder(), Journal()
    journal: Any = kept
    noting = Noting(heard)
    noting.note("before")
    noting.progress(SENDING._replace(waiting=AWAY))
    noting.journal = journal
    noting.note("then")
    for wait in (PACE, PACE, None, None, PACE):
        noting.progress(SENDING._replace(waiting=wait))
    noting.progress(SENDING._replace(number=2, waiting=PACE))
    assert (heard.notes, kept.notes) == (["before", "then"], ["then"])
    assert kept.waits == [(1, PACE), (1, None), (1, PACE), (2, PACE)]
    assert len(heard.progresses) == 7


@pytest.mark.parametrize(
    ("goes_on", "then", "kept_waits"),
    [
        (True, SENDING._replace(sent=SENDING.sent + 1), [None, PACE]),
        (True, SENDING._replace(done=True), [None, PACE]),
        (True, SENDING, [PACE]),
        (False, SENDING._replace(sent=SENDING.sent + 1), [PACE]),
    ],
)
def test_a_step_ends_the_wait_of_the_one_before_where_it_sends(
    goes_on: bool, then: StageRecord, kept_waits: list[Waiting | None]
) -> None:
    """Otherwise a delay that was waited for twice is shown as one of twice the length."""
    kept = Journal()
    journal: Any = kept
    noting = Noting(Recorder(), journal, goes_on=goes_on)
    for progress in (SENDING, then, then, then._replace(waiting=PACE)):
        noting.progress(progress)
    assert [wait for _, wait in kept.waits] == kept_waits


def test_while_a_server_does_not_answer_nothing_else_is_waited_for() -> None:
    heard = Recorder()
    noting = Noting(heard)
    noting.away(AWAY)
    assert heard.progresses == [], "nothing is under way yet"
    noting.progress(SENDING._replace(waiting=PACE))
    noting.progress(SENDING._replace(done=True))
    noting.progress(SENDING)
    noting.away(None)
    shown = [(one.waiting, one.left) for one in heard.progresses]
    assert shown == [(AWAY, None), (None, 9.0), (AWAY, None), (None, 9.0)]
