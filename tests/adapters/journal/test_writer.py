"""Every write of a run is fenced by its lease, and none stores a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.reader import JournalReader
from runner.adapters.journal.views import waits_of
from runner.adapters.journal.writer import JournalWriter
from runner.errors import LeaseLost
from runner.execution.ports import Answer, Chunk, Control, Ended, Observation
from runner.execution.seeds import internal_ids
from runner.model import (
    CheckResult,
    ExecutionPlan,
    Hook,
    Job,
    Outcome,
    Round,
    SentEvent,
    SyncRecord,
    Waiting,
)
from tests.support import (
    REQUEST,
    FakeClock,
    change_leases,
    lines_of,
    make_plan,
    new_store,
    repos,
    start_journal,
)

pytestmark = pytest.mark.usefixtures("state")

BODY = repos(1) + "operations: [sync]\n"
KEY = "signkey-prod-0123456789abcdef"
JOB = Job("j", "f", "Failed", ended=True, message=f"401 for {KEY}")
ID = internal_ids(REQUEST.seed, range(1))[0]
EVENT = SentEvent(0, 1, "sync", "o/r0", "app/sync", 0, ID, REQUEST.sent_at)
SEEN = Observation(EVENT, (JOB,), "failed", f"401 for {KEY}")
CHECK = CheckResult(
    "c", "after", None, ok=False, expected="1", seen=KEY, message=f"with {KEY}", note=f"also {KEY}"
)


def _accept_and_settle(journal: JournalWriter) -> None:
    journal.accept(REQUEST, Answer((EVENT.internal_id,)))
    journal.settle()


PLAN: list[ExecutionPlan] = []

WRITES: dict[str, Callable[[JournalWriter], object]] = {
    "begin_chunk": lambda journal: journal.begin_chunk(REQUEST, Control()),
    "accept": lambda journal: journal.accept(REQUEST, Answer((), "no")),
    "settle": _accept_and_settle,
    "drive": lambda journal: journal.drive(),
    "rest": lambda journal: journal.rest(),
    "withdraw": lambda journal: journal.withdraw(REQUEST),
    "record": lambda journal: journal.record([SEEN]),
    "complete": lambda journal: journal.complete([Ended(0, 1, "acme/x")]),
    "note": lambda journal: journal.note("a note"),
    "waiting": lambda journal: journal.waiting(1, Waiting("a reason")),
    "keep_lease": lambda journal: journal.keep_lease(),
    "end": lambda journal: journal.end("completed"),
    "remember": lambda journal: journal.remember("a", 1),
    "keep_check": lambda journal: journal.keep_check(CHECK),
    "begin_round": lambda journal: journal.begin_round(PLAN[0], Round(1, 1, 0, 1, None, 0.0), {}),
    "reach": lambda journal: journal.reach(1, 0.0),
    "reopen_undecided": lambda journal: journal.reopen_undecided(),
    "requeue": lambda journal: journal.requeue(lambda: "2,AAAAAAAAAAAAAA=="),
}


def test_every_method_that_writes_is_tried_below() -> None:
    own = {name for name in vars(JournalWriter) if not name.startswith("_")}
    assert own - set(dir(JournalReader)) == set(WRITES)


@pytest.mark.parametrize("write", WRITES)
def test_who_has_lost_a_run_writes_nothing_more(tmp_path: Path, write: str) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    PLAN[:] = [plan]
    journal = start_journal(store, plan)
    if write != "begin_chunk":
        assert journal.begin_chunk(REQUEST, Control())
    change_leases(store, "token = 'another'")
    before = _all(store)
    with pytest.raises(LeaseLost):
        WRITES[write](journal)
    assert _all(store) == before


def test_no_key_that_a_server_or_a_database_repeats_is_kept(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    journal = start_journal(store, plan)
    assert journal.begin_chunk(REQUEST, Control())
    journal.accept(REQUEST, Answer((EVENT.internal_id,)))
    journal.record([SEEN])
    journal.note(f"retried with {KEY}")
    journal.waiting(1, Waiting(f"for {KEY}"))
    journal.keep_check(CHECK)
    journal.end("incomplete", f"because of {KEY}")
    store.keep_sync(SyncRecord("s", "r", "b", "p", "t", 1.0, "h", 1.0, message=f"not {KEY}"))
    text = repr(_all(store))
    assert text.count("***") == 9
    assert KEY not in text


def _all(store: object) -> dict[str, list[object]]:
    tables = ("runs", "chunks", "outcomes", "jobs", "notes", "waits", "answers", "rounds", "syncs")
    with store._database.read() as connection:  # type: ignore[attr-defined]
        return {name: sorted(connection.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


class Two:
    """A run of two requests, of one event each, with a hook for failures."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = new_store(folder, self.clock.time)
        plan = make_plan(folder, repos(2) + "operations: [sync]\n")
        hook: Any = Hook("webhook", "URL", ("failed", "ended"))
        self.plan = plan
        self.journal = start_journal(self.store, plan, hooks=[hook])
        self.other = self.store.reading(self.store.find("RUN1"))

    def request(self, number: int) -> Chunk:
        positions = range(number, number + 1)
        seed, lines = f"{number + 1},AAAAAAAAAAAAAA==", lines_of(positions)
        return replace(REQUEST, number=number, seed=seed, positions=positions, lines=lines)

    def take(self, number: int, refused: str | None = None) -> SentEvent:
        chunk = self.request(number)
        assert self.journal.begin_chunk(chunk, self.journal.control())
        ids = () if refused else tuple(internal_ids(chunk.seed, range(1)))
        self.journal.accept(chunk, Answer(ids, refused))
        id_ = ids[0] if ids else ""
        return SentEvent(number, 1, "sync", f"o/r{number}", "app/sync", number, id_, chunk.sent_at)

    def told(self) -> list[str]:
        return [notice.body["event"] for notice in self.store.due_notices("RUN1")]


def test_an_answer_is_written_with_what_comes_next_and_its_own_run_reads_it_at_once(
    tmp_path: Path,
) -> None:
    made = Two(tmp_path)
    made.take(0)
    assert made.other.totals().accepted == 0
    assert len(made.other.unanswered()) == 1
    assert made.journal.totals().accepted == 1


def test_an_answer_that_is_owed_is_not_lost_by_the_next_one(tmp_path: Path) -> None:
    made = Two(tmp_path)
    made.take(0)
    made.take(1)
    assert made.other.totals().accepted == 1
    made.journal.keep_lease()
    assert (made.other.totals().accepted, made.other.unanswered()) == (2, [])


def test_answers_to_two_requests_that_are_made_again_are_both_kept(tmp_path: Path) -> None:
    made = Two(tmp_path)
    chunks = [made.request(0), made.request(1)]
    assert all(made.journal.begin_chunk(one, made.journal.control()) for one in chunks)
    for one in chunks:
        made.journal.accept(one, Answer(tuple(internal_ids(one.seed, range(1)))))
    made.journal.keep_lease()
    assert (made.other.totals().accepted, made.other.unanswered()) == (2, [])


@pytest.mark.parametrize(("passed", "kept"), [(0.9, False), (1.0, True), (90.0, True)])
def test_requests_alone_keep_the_lease_each_second(
    tmp_path: Path, passed: float, kept: bool
) -> None:
    made = Two(tmp_path)
    made.journal.drive()
    change_leases(made.store, "expires_at = 0")
    made.clock.now += passed
    made.take(0)
    with made.store._database.read() as connection:
        assert (connection.value("SELECT expires_at FROM leases") > 0) is kept


def test_a_refusal_is_written_and_told_at_once_and_a_second_one_is_not_told(
    tmp_path: Path,
) -> None:
    made = Two(tmp_path)
    made.take(0, refused="no")
    assert [one.message for one in made.other.failures()] == ["no"]
    made.take(1, refused="no")
    assert made.other.totals().rejected == 2
    assert made.told() == ["failed"]


@pytest.mark.parametrize(
    ("jobs", "outcome", "told"),
    [
        ((), "no_job", ["failed"]),
        ((JOB,), "failed", ["failed"]),
        ((replace(JOB, status="Completed"),), "completed", []),
        ((replace(JOB, status="Running", ended=False),), None, []),
    ],
)
def test_what_is_seen_of_an_event_is_kept_and_a_failure_is_told(
    tmp_path: Path, jobs: tuple[Job, ...], outcome: Outcome | None, told: list[str]
) -> None:
    made = Two(tmp_path)
    event = made.take(0)
    made.journal.record([Observation(event, jobs, outcome, "why")])
    assert made.other.totals().outcomes == ({outcome: 1} if outcome else {})
    assert made.other.totals().jobs == len(jobs)
    assert {*made.other.going_on()} == (set() if outcome else {0})
    assert made.told() == told


def test_a_wait_ends_with_the_next_one_and_with_the_run(tmp_path: Path) -> None:
    made = Two(tmp_path)

    def waits() -> list[tuple[str, bool]]:
        view = made.store.glance(made.store.find("RUN1"))
        with made.store._database.read() as connection:
            found = waits_of(connection, view.record.id)
        return [(wait.reason, wait.ended is not None) for wait in found]

    made.journal.waiting(1, Waiting("a", "jobs"))
    made.journal.waiting(1, Waiting("a", "jobs", item="o/r0"))
    assert waits() == [("a", False)], "one wait, however often what is said of it changes"
    made.journal.waiting(1, Waiting("b", "pace"))
    assert waits() == [("a", True), ("b", False)]
    made.journal.end("completed")
    assert waits() == [("a", True), ("b", True)]
    assert made.told() == ["ended"]


def test_answers_rounds_and_goals_are_kept(tmp_path: Path) -> None:
    made = Two(tmp_path)
    made.journal.remember("a", {"b": 1})
    assert made.other.remembered("a") == {"b": 1}
    begun = Round(1, 1, 0, 2, 7.0, 3.0)
    made.journal.begin_round(made.plan, begun, {})
    assert made.other.rounds(1) == [begun]
    assert made.other.reached() == frozenset()
    made.journal.reach(1, 0.0)
    assert made.other.reached() == {1}
    assert made.other.rounds(1) == [begun]


def test_a_goal_that_is_reached_before_any_round_is_kept_with_a_round_of_nothing(
    tmp_path: Path,
) -> None:
    made = Two(tmp_path)
    made.journal.reach(1, 5.0, made.plan)
    assert made.other.reached() == {1}
    assert made.other.rounds(1) == [Round(1, 1, 0, 0, 5.0, made.clock.now)]


def test_what_was_withdrawn_given_up_or_lost_with_its_server_is_open_again(tmp_path: Path) -> None:
    made = Two(tmp_path)
    event = made.take(0)
    made.journal.record([Observation(event, (), "timed_out", "why")])
    assert made.other.unsettled() == []
    made.journal.reopen_undecided()
    assert [one.position for one in made.other.unsettled()] == [0]
    made.journal.requeue(lambda: "2,AAAAAAAAAAAAAA==")
    assert [one.started_again for one in made.other.unanswered()] == [True]
    made.journal.withdraw(made.request(0))
    assert (made.other.unanswered(), made.other.next_position()) == ([], 0)
