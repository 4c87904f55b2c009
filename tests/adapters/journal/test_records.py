"""Finding runs again: by plan, target, state, and result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.leases import WORKERS
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.errors import LeaseLost
from runner.execution.ports import Control
from runner.model import (
    ExecutionPlan,
    Job,
    Partial,
    Round,
    RunStatus,
    Selectors,
    SyncRecord,
    Waiting,
)
from tests.adapters.journal.lives import Life
from tests.support import (
    ORIGIN,
    FakeClock,
    change_leases,
    let_go,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

BODY = repos(2) + "operations: [sync]\n"
OTHER = "http://other"


class Runs:
    """A state with runs, one after another."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.began = self.clock.now
        self.store = new_store(folder, self.clock.time)
        self.plan = make_plan(folder, BODY)

    def add(
        self, run_id: str, status: RunStatus = "running", plan: str = "test", **how: Any
    ) -> ExecutionPlan:
        self.clock.now += 10
        address = how.pop("address", ORIGIN)
        made = replace(self.plan, name=plan, partial=how.pop("partial", None))
        lease = self.store.lock(plan, address, run_id)
        given = {"target": how.pop("target", "here"), "address": address, "variables": {}}
        journal = self.store.start(run_id, made, lease, **given, follow=True, **how)
        if status == "completed" and not how.get("baseline"):
            life = self.life(journal)
            life.take(1, range(2))
            for position in range(2):
                life.see(position, "completed")
        if status != "running":
            journal.end(status)
        let_go(self.store)
        return made

    def life(self, journal: JournalWriter) -> Life:
        return Life.of(self, journal)

    def listed(self, **wanted: Any) -> list[str]:
        return [line.record.id for line in self.store.runs(**wanted)]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    made = Runs(tmp_path)
    made.add("A", "completed")
    made.add("B", "failed", target="there", address=OTHER)
    made.add("C", "cancelled", plan="other")
    made.add("D", plan="tests", target="there")
    return made


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "DCBA"),
        ({"limit": 2}, "DC"),
        ({"limit": 0}, ""),
        ({"plan": "test"}, "BA"),
        ({"plan": "te*"}, "DBA"),
        ({"target": "there"}, "DB"),
        ({"states": ("failed", "cancelled")}, "CB"),
        ({"states": ("sent",)}, ""),
        ({"target": "there", "states": ("dead",), "plan": "*"}, "D"),
        ({"states": ("running",)}, ""),  # nobody drives them
    ],
)
def test_runs_are_found_by_plan_target_and_state(
    runs: Runs, wanted: dict[str, Any], found: str
) -> None:
    assert runs.listed(**wanted) == [*found]


def test_runs_since_a_moment_include_the_one_of_that_moment(runs: Runs) -> None:
    assert runs.listed(since=runs.began + 30) == ["D", "C"]
    assert runs.listed(since=runs.began + 30.1) == ["D"]


def test_a_run_is_known_by_exactly_its_id(runs: Runs) -> None:
    found = runs.store.known("A")
    assert found
    assert (found.id, found.status, found.follow) == ("A", "completed", True)
    assert runs.store.known("a") is None


@pytest.mark.parametrize(
    ("status", "is_unfinished"),
    [("running", True), ("incomplete", True), ("failed", False), ("completed", False)],
)
def test_a_run_that_was_not_brought_to_its_end_is_unfinished(
    tmp_path: Path, status: RunStatus, *, is_unfinished: bool
) -> None:
    runs = Runs(tmp_path)
    assert runs.store.unfinished("test", ORIGIN) is None
    runs.add("A")
    runs.add("B", status)
    found = runs.store.unfinished("test", ORIGIN)
    assert (found and found.record.id) == ("B" if is_unfinished else None), "the latest counts"
    assert runs.store.unfinished("test", OTHER) is None


def test_whether_an_event_has_started_jobs_is_known_from_the_last_run_that_sent_it(
    tmp_path: Path,
) -> None:
    runs = Runs(tmp_path)
    assert runs.store.last_seen("app/sync", ORIGIN) is None
    for run_id in ("A", "B"):
        runs.add(run_id)
        journal = reopen(runs.store, runs.plan, run_id)
        life = runs.life(journal)
        life.take(1, range(2))
        assert runs.store.last_seen("app/sync", ORIGIN) == (run_id, False)
        life.see(1, None, jobs=[Job("j", "f", "Running", ended=False)])
        assert runs.store.last_seen("app/sync", ORIGIN) == (run_id, True)
        let_go(runs.store)
    assert runs.store.last_seen("app/fire", ORIGIN) is None
    assert runs.store.last_seen("app/sync", OTHER) is None


SOME = Partial(Selectors(limit=1))


def test_the_ledger_has_the_runs_of_a_plan_on_a_target_without_their_retries(
    tmp_path: Path, state: str
) -> None:
    runs = Runs(tmp_path)
    runs.add("A", "completed", environment="staging")
    runs.add("B", "completed", partial=SOME)
    runs.add("C", "failed", parent="A", environment="staging")
    runs.add("D", "completed", baseline="it was done by hand")
    runs.add("E", "failed", address=OTHER, environment="staging")
    here = runs.store.ledger("test", ORIGIN)
    assert [(one.run_id, one.done) for one in here] == [("D", True), ("B", False), ("A", True)]
    assert [one.baseline for one in here] == ["it was done by hand", None, None]
    assert [bool(one.partial) for one in here] == [False, True, False]
    elsewhere = runs.store.ledger("test", ORIGIN, environment="production")
    assert [one.run_id for one in elsewhere] == ["D", "B"], "what another one has run says nothing"
    there = runs.store.ledger("test", ORIGIN, environment="staging")
    assert [one.run_id for one in there] == ["D", "B", "A"]
    staging = runs.store.ledger("test", environment="staging")
    assert [(one.run_id, one.status) for one in staging] == [("E", "failed"), ("A", "completed")]


def test_a_plan_was_applied_by_its_last_whole_run_that_is_done(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.add("A", "completed", source="the first")
    runs.add("B", "completed", partial=SOME)
    runs.add("C", "failed")
    runs.add("D")
    found = runs.store.applied_before(runs.store.find("D"))
    assert found
    assert (found.run_id, found.planned, found.source) == ("A", 2, "the first")
    assert runs.store.applied_before(runs.store.find("A")) is None


def test_a_run_that_is_resumed_is_as_its_plan_is_then_and_paused_no_more(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.store.request_pause("RUN1")
    life.journal.end("incomplete", "its time was up")
    plan = make_plan(tmp_path, repos(3) + "operations: [sync]\n")
    journal = reopen(life.store, plan)
    record = life.record
    assert (record.status, record.ended_at, record.reason) == ("running", None, None)
    assert (record.wanted, record.planned, record.digest) == (None, 3, plan.digest)
    assert [event.item for event in life.store.plan_of(record).planned()] == [
        "o/r0",
        "o/r1",
        "o/r2",
    ]
    assert journal.notes() == ["pause requested", "resumed"]
    assert journal.control() == Control()


def test_a_run_that_is_resumed_looks_again_at_jobs_that_were_given_up(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.take(1, range(2))
    life.see(0, "timed_out")
    life.see(1, "failed")
    journal = reopen(life.store, life.plan)
    assert [one.position for one in journal.unsettled()] == [0]


@pytest.mark.parametrize(("given", "follow"), [(None, True), (True, True), (False, False)])
def test_a_run_that_is_resumed_is_followed_as_before_or_as_is_asked(
    tmp_path: Path, given: bool | None, *, follow: bool
) -> None:
    life = Life(tmp_path, BODY)
    let_go(life.store)
    lease = life.store.lock("test", ORIGIN, "RUN1")
    life.store.reopen(life.record, lease, life.plan, follow=given)
    assert life.record.follow is follow


def test_who_has_lost_the_lock_begins_and_resumes_no_run(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.journal.end("incomplete")
    let_go(life.store)
    lease = life.store.lock("test", ORIGIN, "RUN2")
    change_leases(life.store, "token = 'another'")
    given: dict[str, Any] = {"target": ORIGIN, "address": ORIGIN, "variables": {}, "follow": True}
    with pytest.raises(LeaseLost):
        life.store.start("RUN2", life.plan, lease, **given)
    with pytest.raises(LeaseLost):
        life.store.reopen(life.record, lease, life.plan)
    assert [(one.record.id, one.state) for one in life.store.runs()] == [("RUN1", "incomplete")]


@pytest.mark.parametrize(("drives", "until"), [(True, 7.0), (False, 0.0)])
def test_what_a_killed_process_waited_for_has_ended_when_it_was_last_seen(
    tmp_path: Path, *, drives: bool, until: float
) -> None:
    life = Life(tmp_path, BODY)
    if drives:
        life.journal.drive()
    life.journal.waiting(1, Waiting("for noon"))
    life.clock.now += 7
    life.journal.keep_lease()
    life.clock.now += 1_000
    reopen(life.store, life.plan)
    (wait,) = life.store.view(life.record).waits
    assert (wait.began, wait.ended) == (life.began, life.began + until)


def test_a_round_is_written_down_with_its_events(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    more = make_plan(tmp_path, repos(4) + "operations: [sync]\n")
    begun = Round(1, 2, 2, 2, 9.0, 5.0)
    life.journal.begin_round(more, begun, {2: 0, 3: 1})
    assert life.journal.rounds(1) == [begun]
    record = life.record
    assert (record.planned, len([*life.store.plan_of(record).planned()])) == (4, 4)
    life.plan = more
    life.take(1, range(4))
    for position, outcome in enumerate(("failed", "completed", "completed", "failed")):
        life.see(position, outcome)  # type: ignore[arg-type]
    assert life.store.retriable(life.record, ["failed"], []) == {3: 1}, "0 was made good by 2"


@pytest.mark.parametrize("stage", [1, 2])
def test_of_a_round_only_its_own_stage_is_written_anew(tmp_path: Path, stage: int) -> None:
    both = "operations: [sync, fire]\n"
    life = Life(tmp_path, repos(2) + both)
    more = make_plan(tmp_path, repos(3) + both).stages[stage - 1]
    stages = [more if one.number == stage else one for one in life.plan.stages]
    plan = replace(life.plan, stages=tuple(stages))
    life.journal.begin_round(plan, Round(stage, 1, 0, 3, 9.0, 5.0), {})
    found = life.store.plan_of(life.record)
    assert [[*one.planned()] for one in found.stages] == [[*one.planned()] for one in stages]


def test_a_run_that_is_left_to_the_workers_waits_for_nothing_once_its_pause_is_ended(
    tmp_path: Path,
) -> None:
    for parked, waits in ((True, False), (False, True)):
        folder = tmp_path / str(parked)
        folder.mkdir()
        life = Life(folder, BODY)
        life.store.request_pause("RUN1")
        life.journal.waiting(1, Waiting("paused by an operator"))
        if parked:
            life.store.park(life.journal._lease, life.began, WORKERS)
        life.store.withdraw_pause("RUN1")
        (wait,) = life.store.view(life.record).waits
        assert (wait.ended is None) is waits
        assert life.record.wanted is None


def test_only_a_pause_that_was_requested_is_ended_and_noted(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.store.withdraw_pause("RUN1")
    assert life.journal.notes() == []


def test_a_pace_is_noted_as_it_was_requested_and_what_was_not_stays(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.store.set_pace("RUN1", batch_size=5_000)
    life.store.set_pace("RUN1", delay=0.0, max_in_flight=1_000)
    assert life.journal.control() == Control(None, 5_000, 0.0, 1_000)
    assert life.journal.notes() == [
        "another pace requested: batch size 5,000",
        "another pace requested: delay 0s, at most in flight 1,000",
    ]


def test_a_target_is_held_until_it_is_let_go_or_its_time_is_up(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    assert (life.store.holds(), life.store.let_go(ORIGIN)) == ([], False)
    life.store.hold(ORIGIN, "here", "a deploy", None)
    life.store.hold(ORIGIN, "here", "an incident", 3600)
    life.store.hold(OTHER, "there", "it is over", -1)
    (hold,) = life.store.holds()
    assert (hold.address, hold.target, hold.reason) == (ORIGIN, "here", "an incident")
    assert hold.until is not None
    assert hold.until - hold.since == pytest.approx(3600)
    assert life.journal.control().hold == "here is held: an incident"
    assert life.store.let_go(ORIGIN)
    assert (life.store.holds(), life.journal.control().hold) == ([], None)


def test_a_branch_that_is_followed_is_listed_as_it_was_looked_at_last(tmp_path: Path) -> None:
    store: Store = new_store(tmp_path)
    first = SyncRecord("a", "repo", "main", "plans", "here", 60.0, "me", 1.0)
    store.keep_sync(first)
    store.keep_sync(replace(first, id="b", checked_at=2.0))
    store.keep_sync(replace(first, checked_at=3.0, message="it failed"))
    assert [(one.id, one.checked_at, one.message) for one in store.syncs()] == [
        ("a", 3.0, "it failed"),
        ("b", 2.0, None),
    ]


def test_a_retry_is_noted_in_the_run_that_it_retries(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.journal.end("failed")
    let_go(life.store)
    retry = start_journal(life.store, life.plan, "RUN2", parent="RUN1", origins={0: 1})
    assert life.store.reading(life.record).notes() == ["retried as run RUN2"]
    assert retry.notes() == []
    again = Life.of(life, retry)
    again.take(1, range(1))
    again.see(0, "failed")
    assert life.store.retriable(again.record, ["failed"], []) == {0: 1}
    assert new_store(tmp_path).identity == life.store.identity
