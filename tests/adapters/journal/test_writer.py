"""Every write of a run is fenced by its lease, and none lets a key through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.adapters.journal.reader import JournalReader
from runner.adapters.journal.writer import JournalWriter
from runner.errors import LeaseLost
from runner.execution.ports import Answer, Control, Observation
from runner.execution.seeds import internal_ids
from runner.model import CheckResult, ExecutionPlan, Job, Round, SentEvent, SyncRecord, Waiting
from tests.support import REQUEST, change_leases, make_plan, new_store, repos, start_journal

pytestmark = pytest.mark.usefixtures("state")

BODY = repos(1) + "operations: [sync]\n"
KEY = "signkey-prod-0123456789abcdef"
JOB = Job("j", "f", "Failed", ended=True, message=f"401 for {KEY}")
EVENT = SentEvent(0, 1, "sync", "o/r0", "app/sync", 0, next(internal_ids(REQUEST.seed, 1)))
SEEN = Observation(EVENT, (JOB,), "failed", f"401 for {KEY}")
CHECK = CheckResult("c", "after", None, ok=False, expected="1", seen="0", message=f"with {KEY}")


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
    assert text.count("***") == 7
    assert KEY not in text


def _all(store: object) -> dict[str, list[object]]:
    tables = ("runs", "chunks", "outcomes", "jobs", "notes", "waits", "answers", "rounds", "syncs")
    with store._database.read() as connection:  # type: ignore[attr-defined]
        return {name: sorted(connection.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}
