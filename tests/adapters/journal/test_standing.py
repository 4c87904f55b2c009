"""Who holds a run, for people and for whoever wants to go on with it, and when it was driven."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.adapters.journal import leases, views
from runner.adapters.journal.leases import LATE, PARKED, SECONDS, WORKERS
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.errors import LeaseLost, LockHeld
from runner.model import Driven, Submission, Waiting
from tests.support import (
    ORIGIN,
    FakeClock,
    change_leases,
    make_plan,
    new_store,
    repos,
    start_journal,
)

BODY = repos(1) + "operations: [sync]\n"
NOBODY = 2**22 + 1  # no process has this number
NOON = 12 * 3600.0  # of the first day of 1970
GONE = "nobody just now, since its worker, me, has gone: the engine asks another"


def machine_of(store: Store) -> str:
    store.lock("another", "http://x", "RUN9")
    with store._database.read() as connection:
        return str(connection.value("SELECT machine FROM leases WHERE name LIKE 'another%'"))


def lease(expires: float, now: float = NOON, **how: Any) -> Any:
    """Return a row of the leases, held by a process on another machine."""
    given = {"run_id": "RUN1", "holder": "me", "machine": "elsewhere", "pid": NOBODY}
    given |= {"taken_at": NOON, "workers": False, "status": "running", **how}
    return SimpleNamespace(expires_at=expires, now=now, **given)


WAITS: dict[str, Any] = {"workers": True, "machine": PARKED, "holder": WORKERS, "pid": 0}


@pytest.mark.parametrize(
    ("held", "holder", "submission"),
    [
        (lease(NOON + 1), "me", None),
        (lease(NOON), "me", None),
        (lease(NOON - 1), None, None),
        (lease(NOON + 1, workers=True), "me", Submission(False, False, "me")),
        (lease(NOON - 1, workers=True), GONE, Submission(True, True, GONE)),
        (lease(NOON - LATE, workers=True), GONE, Submission(True, True, GONE)),
        (lease(NOON - LATE - 1, workers=True), None, Submission(True, True, GONE)),
        (
            lease(NOON + SECONDS + 5, **WAITS),
            "the workers, next at 12:00:05 UTC",
            Submission(True, False, "next at 12:00:05 UTC"),
        ),
        (
            lease(NOON + SECONDS, **WAITS),
            "the workers, due since 12:00:00 UTC",
            Submission(True, False, "due since 12:00:00 UTC"),
        ),
        (
            lease(NOON, **WAITS),
            "the workers, due since 11:59:00 UTC",
            Submission(True, False, "due since 11:59:00 UTC"),
        ),
        (
            lease(NOON - 1, **WAITS),
            "the workers, due since 11:58:59 UTC; none has come yet",
            Submission(True, True, "due since 11:58:59 UTC; none has come yet"),
        ),
        (
            lease(NOON + SECONDS + 5, **{**WAITS, "holder": "a schedule"}),
            "a schedule",
            Submission(True, False, "a schedule"),
        ),
    ],
)
def test_who_drives_a_run_or_is_to_is_told_for_people(
    held: Any, holder: str | None, submission: Submission | None
) -> None:
    assert leases.standing_of(held) == (holder, submission)
    assert leases.silent_since(held) == held.expires_at - SECONDS


@pytest.mark.parametrize(
    ("pid", "elsewhere", "alive"),
    [(os.getpid(), False, True), (NOBODY, False, False), (NOBODY, True, True)],
    ids=["of this one", "of none", "of another machine"],
)
def test_a_process_of_this_machine_is_seen_to_have_died(
    tmp_path: Path, pid: int, elsewhere: bool, alive: bool
) -> None:
    """Processes of another machine cannot be checked."""
    machine = "elsewhere" if elsewhere else machine_of(new_store(tmp_path))
    held = lease(NOON + 1, machine=machine, pid=pid)
    assert (leases.standing_of(held)[0] is not None) is alive


def test_a_process_of_another_user_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lease(NOON + 1, machine=machine_of(new_store(tmp_path)), pid=1)

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert leases.standing_of(held)[0] == "me"


@pytest.mark.parametrize(
    "name", ["/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"], ids=["boot", "container"]
)
def test_process_numbers_are_those_of_a_boot_and_a_container(tmp_path: Path, name: str) -> None:
    path = Path(name)
    if path.exists():  # on Linux
        tells = path.readlink() if path.is_symlink() else path.read_text().strip()
        assert str(tells) in machine_of(new_store(tmp_path))


def test_whoever_runs_a_process_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leases.who({}).startswith(f"{getpass.getuser()}@")
    assert leases.who({"GITHUB_ACTOR": "", "GITLAB_USER_LOGIN": "octo"}).startswith("octo@")
    assert leases.who({}).endswith(f"(process {os.getpid()})")
    assert leases.who({}, agent=True).endswith(f"(process {os.getpid()}, by an agent)")

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert leases.who({}).startswith(f"{os.getuid()}@")


@pytest.mark.parametrize(("ago", "words"), [(10, "10s ago"), (-30, "0s ago")])
def test_who_is_refused_is_told_how_long_the_holder_is_silent(
    tmp_path: Path, ago: float, words: str
) -> None:
    store = new_store(tmp_path)
    store.lock("plan", ORIGIN, "RUN1")
    change_leases(store, "expires_at = expires_at - :ago", ago=ago)
    with pytest.raises(LockHeld) as error:
        store.lock("plan", ORIGIN, "RUN2")
    assert str(error.value.hint) == (
        f"its last sign of life was {words}; `run`, `resume` and `retry` wait for it with "
        "--wait-lock 10m; `backfill cancel RUN1` ends it"
    )


def test_a_paused_run_is_not_to_be_waited_for(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    start_journal(store, make_plan(tmp_path, BODY), "RUN1")
    store.request_pause("RUN1")
    with pytest.raises(LockHeld) as error:
        store.lock("test", ORIGIN, "RUN2")
    assert str(error.value.hint).endswith("it is paused: `backfill resume RUN1` lets it go on")


def test_a_run_that_is_left_to_the_workers_is_theirs_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    store, plan = new_store(tmp_path, clock.time), make_plan(tmp_path, BODY)
    journal = start_journal(store, plan)
    journal.drive()
    held = journal._lease
    with store._database.read() as connection:
        now = float(connection.value("SELECT {now}"))
    parked = store.park(held, now + 100.0, WORKERS)
    for old in (lambda: store.park(held, now + 100.0, WORKERS), journal.keep_lease):
        with pytest.raises(LeaseLost):
            old()
    with pytest.raises(LockHeld, match=r"run RUN1 of this plan is left to the workers \(next at "):
        store.lock(plan.name, ORIGIN, "RUN2")
    mine = store.lock(plan.name, ORIGIN, "RUN1", worker=True)
    with leases.holding(parked):  # somebody has taken it over, so nothing is released
        pass
    mine.release()
    store.lock(plan.name, ORIGIN, "RUN2")


def test_a_lock_is_let_go_where_its_block_ends_also_by_an_error(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyError), leases.holding(store.lock("plan", ORIGIN, "RUN1")):
            raise KeyError


class Driving:
    """A run that is driven, and what others see of it."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.folder = FakeClock(), folder
        self.began = self.clock.now
        self.store = new_store(folder, self.clock.time)
        self.journal = start_journal(self.store, make_plan(folder, BODY))

    def at(self, seconds: float) -> JournalWriter:
        self.clock.now = self.began + seconds
        return self.journal

    def seen(self, of: Driven | None = None) -> list[tuple[float, float]]:
        found = of or self.store.reading(self.store.find("RUN1")).driven()
        return [(since - self.began, until - self.began) for since, until in found.intervals]


def test_a_run_is_driven_until_its_driver_rests(tmp_path: Path) -> None:
    made = Driving(tmp_path)
    assert made.seen(made.at(5.0).driven()) == []
    made.at(10.0).drive()
    made.at(13.0)
    assert made.seen() == [(10.0, 10.0)], "what others know"
    assert made.seen(made.journal.driven()) == [(10.0, 13.0)]
    made.journal.keep_lease()
    made.at(13.5)
    assert made.seen(made.journal.driven()) == [(10.0, 13.5)]
    made.journal.rest()
    assert made.seen() == [(10.0, 13.5)]
    made.at(20.0).rest()
    assert made.seen(made.at(30.0).driven()) == [(10.0, 13.5)]
    made.at(50.0).drive()
    made.at(60.0)
    assert made.seen(made.journal.driven()) == [(10.0, 13.5), (50.0, 60.0)]


@pytest.mark.parametrize(("after", "written"), [(0.0, 0.0), (0.9, 0.0), (1.0, 1.0), (7.0, 7.0)])
def test_what_is_written_says_once_a_second_that_the_run_is_driven(
    tmp_path: Path, after: float, written: float
) -> None:
    made = Driving(tmp_path)
    made.at(10.0).drive()
    made.at(10.0 + after).keep_lease()
    made.at(100.0)
    assert made.seen() == [(10.0, 10.0 + written)]


def test_where_the_clock_is_put_back_another_drive_begins(tmp_path: Path) -> None:
    made = Driving(tmp_path)
    made.at(10.0).drive()
    for at in (12.0, 11.0, -50.0, -47.0):
        made.at(at).keep_lease()
    assert made.seen(made.journal.driven()) == [(10.0, 11.0), (-50.0, -47.0)]
    made.at(-45.0).end("completed")
    assert made.seen() == [(10.0, 11.0), (-50.0, -45.0)]


@given(st.lists(st.floats(-100, 100), max_size=6), st.booleans())
def test_no_time_in_which_a_run_is_driven_or_waits_is_less_than_none(
    steps: list[float], ends: bool
) -> None:
    """Whatever the clock does meanwhile, and later, when somebody looks."""
    with TemporaryDirectory() as folder:
        made = Driving(Path(folder))
        made.at(0.0).drive()
        for number, at in enumerate(steps):
            made.at(at).waiting(1, Waiting(f"reason {number}"))
        made.journal.end("completed") if ends else made.journal.rest()
        for at in (-200.0, 0.0, 200.0):
            made.clock.now = made.began + at
            drives = made.seen(made.journal.driven())
            assert all(since <= until for since, until in [*drives, *made.seen()])
        with made.store._database.read() as connection:
            waits = views.waits_of(connection, "RUN1")
        assert all(wait.ended is None or wait.began <= wait.ended for wait in waits)


def test_nobody_drives_what_was_not_begun(tmp_path: Path) -> None:
    made = Driving(tmp_path)
    made.at(10.0).keep_lease()
    assert made.seen() == []


def test_a_run_that_is_left_to_the_workers_is_driven_until_they_are_due_or_it_goes_on(
    tmp_path: Path,
) -> None:
    made = Driving(tmp_path)
    made.at(10.0).drive()
    lease = made.store.park(made.journal._lease, made.began + 40.0, WORKERS)
    made.at(20.0)
    assert made.seen() == [(10.0, 20.0)]
    made.at(60.0)
    assert made.seen() == [(10.0, 40.0)]
    journal = JournalWriter(lease, "RUN1", made.began, made.clock.time)
    made.at(30.0)
    journal.drive()
    made.at(60.0)
    assert made.seen() == [(10.0, 30.0), (30.0, 30.0)]


def test_a_run_that_is_over_is_driven_no_more(tmp_path: Path) -> None:
    made = Driving(tmp_path)
    made.at(10.0).drive()
    lease = made.store.park(made.journal._lease, made.began + 40.0, WORKERS)
    made.at(20.0)
    JournalWriter(lease, "RUN1", made.began, made.clock.time).end("cancelled")
    made.at(60.0)
    assert made.seen() == [(10.0, 20.0)]


@pytest.mark.parametrize("name", ["GITHUB_ACTOR", "LOGNAME"])
def test_a_user_whose_name_is_not_utf8_can_be_written_down(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "a\udcff")
    assert leases.who({name: "a\udcff"}).encode().startswith(b"a?@")
