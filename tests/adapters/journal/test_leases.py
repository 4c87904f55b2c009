"""One active run per plan and target, with a file and with PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.adapters.journal.leases import SECONDS
from runner.adapters.journal.requests import begin
from runner.adapters.journal.store import Store
from runner.errors import LeaseLost, LockHeld, TargetError
from runner.execution.ports import Control
from tests.support import ORIGIN, REQUEST, change_leases, make_plan, new_store, repos, start_journal

pytestmark = pytest.mark.usefixtures("state")

BODY = repos(1) + "operations: [sync]\n"


def test_a_second_start_is_told_who_holds_the_lock_since_when_and_from_where(
    tmp_path: Path,
) -> None:
    new_store(tmp_path).lock("plan", "http://x", "01AAA")
    with pytest.raises(
        LockHeld, match=rf"run 01AAA .*@.*\(process {os.getpid()}\).* since 20"
    ) as e:
        new_store(tmp_path).lock("plan", "http://x", "01BBB")
    assert "--wait-lock" in str(e.value.hint)


def test_if_its_target_is_held_the_holder_goes_on_once_that_is_released(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    plan = make_plan(tmp_path, BODY)
    start_journal(store, plan)
    store.hold(ORIGIN, "there", "incident", None)
    with pytest.raises(LockHeld) as held:
        store.lock(plan.name, ORIGIN, "01BBB")
    assert "there is held: `backfill resume --target there` releases it" in str(held.value.hint)
    store.let_go(ORIGIN)
    with pytest.raises(LockHeld) as waiting:
        store.lock(plan.name, ORIGIN, "01BBB")
    assert "--wait-lock" in str(waiting.value.hint)


def test_another_plan_or_target_is_another_lock(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.lock("plan", "http://x", "01AAA")
    store.lock("other", "http://x", "01BBB")
    store.lock("plan", "http://y", "01CCC")


def test_a_lock_that_was_released_is_free(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.lock("plan", "http://x", "01AAA").release()
    store.lock("plan", "http://x", "01BBB")


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "left as a zombie"])
def test_a_dead_process_on_this_machine_loses_its_lock_at_once(tmp_path: Path, asked: bool) -> None:
    """Also if its parent never asks how it ended, like a container's first process."""
    if not asked and not Path("/proc/self/stat").exists():
        pytest.skip("only Linux says that a process is a zombie")
    store = new_store(tmp_path)
    store.lock("plan", "http://x", "01AAA")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended
    if asked:
        os.waitpid(child, 0)
    change_leases(store, "pid = :pid", pid=child)
    try:
        store.lock("plan", "http://x", "01BBB")
    finally:
        if not asked:
            os.waitpid(child, 0)


def test_a_holder_that_is_looked_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signal 0 only asks whether the process exists; any other would act on it."""
    sent = []
    store = new_store(tmp_path)
    store.lock("plan", "http://x", "01AAA")
    monkeypatch.setattr(os, "kill", lambda pid, signal: sent.append((pid, signal)))
    with pytest.raises(LockHeld):
        store.lock("plan", "http://x", "01BBB")
    assert set(sent) == {(os.getpid(), 0)}


def test_a_silent_holder_on_another_machine_loses_its_lock_when_the_lease_runs_out(
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path)
    store.lock("plan", "http://x", "01AAA")
    change_leases(store, "machine = 'elsewhere', pid = 1")
    with pytest.raises(LockHeld):
        store.lock("plan", "http://x", "01BBB")
    change_leases(store, "expires_at = expires_at - :lease - 1", lease=SECONDS)
    store.lock("plan", "http://x", "01BBB")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_worker_that_died_at_the_end_of_its_run_holds_up_no_other_run(
    tmp_path: Path, status: str
) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan, "01AAA")
    change_leases(store, "workers = TRUE, machine = 'gone', expires_at = expires_at - 90")
    with pytest.raises(LockHeld, match="the engine asks another"):
        store.lock(plan.name, ORIGIN, "01BBB")
    with store._database.write() as connection:
        connection.change("UPDATE runs SET status = :status", status=status)
    store.lock(plan.name, ORIGIN, "01BBB")


def test_who_has_lost_the_lock_can_write_nothing_more(tmp_path: Path) -> None:
    """Such as a laptop that slept past its lease and wakes up beside the run that took over."""
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    journal = start_journal(store, plan)
    change_leases(store, "expires_at = 0")
    start_journal(store, plan, "RUN2")
    for write in (journal.keep_lease, lambda: journal.end("completed")):
        with pytest.raises(LeaseLost):
            write()
    assert store.find("RUN1").status == "running"


def test_every_write_is_a_sign_of_life(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    journal = start_journal(store, plan)
    change_leases(store, "expires_at = 0, machine = 'elsewhere'")
    journal.keep_lease()
    with pytest.raises(LockHeld):
        start_journal(store, replace(plan), "RUN2")


def test_an_unreachable_lock_store_fails_closed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with store._database.write() as connection:
        connection.change("DROP TABLE leases")
    with pytest.raises(TargetError, match="cannot be used"):
        store.lock("plan", "http://x", "01AAA")


def test_who_has_lost_the_lock_cannot_begin_a_request(tmp_path: Path) -> None:
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    journal = start_journal(store, plan)
    change_leases(store, "expires_at = 0")
    start_journal(store, plan, "RUN2")
    with pytest.raises(LeaseLost):
        journal.begin_chunk(REQUEST, Control())
    assert store.reading(store.find("RUN1")).next_chunk() == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.request_pause("RUN1"),
        lambda store: store.request_cancel("RUN1"),
        lambda store: store.set_pace("RUN1", batch_size=3),
        lambda store: store.set_pace("RUN1", delay=0.1),
    ],
)
def test_a_request_is_not_written_down_past_a_control_request_that_was_not_seen(
    tmp_path: Path, ask: Callable[[Store], None]
) -> None:
    store = new_store(tmp_path)
    journal = start_journal(store, make_plan(tmp_path, BODY))
    ask(store)
    assert not journal.begin_chunk(REQUEST, Control())
    assert journal.unanswered() == []
    assert journal.begin_chunk(REQUEST, journal.control())
    assert len(journal.unanswered()) == 1


def test_a_lock_cannot_be_taken_while_its_holder_begins_a_request(
    tmp_path: Path, state: str
) -> None:
    """Otherwise the process that takes it would not see the request, and would send its events
    again."""
    store, plan = new_store(tmp_path), make_plan(tmp_path, BODY)
    start_journal(store, plan)
    change_leases(store, "expires_at = 0")
    lease = store.lock(plan.name, ORIGIN, "RUN1")
    other = new_store(tmp_path)
    if state == "sqlite":
        with other._database.read() as connection:
            connection.value("PRAGMA busy_timeout=0")

    def take() -> None:
        with other._database.write() as connection:
            if state == "postgresql":
                connection.change("SET LOCAL lock_timeout = '100ms'")
            connection.change("UPDATE leases SET token = 'theirs'")

    with store._database.write() as holder:
        assert begin(holder, "RUN1", lease, REQUEST, Control())
        with pytest.raises(TargetError, match="lock"):
            take()
