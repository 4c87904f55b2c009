"""Tell the story of a seed's world, and check what must hold whatever happens."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import inngest
import psycopg

from runner.adapters import http
from runner.adapters.database import open as databases
from runner.adapters.journal.store import Store
from runner.adapters.worker.function import RETRIES, create_firing, create_function
from runner.adapters.worker.request import EVENT
from runner.app import drive
from runner.app.apply import ApplyOptions, apply
from runner.app.control import cancel, hold, let_go, pause, tune
from runner.app.plan_files import plans_to_apply
from runner.app.prepare import prepare
from runner.app.resume import resubmit, resume
from runner.app.retry import FailedEvents, retry
from runner.app.run import run, submit
from runner.app.schedules import Firing, scheduled
from runner.app.session import Session, Silent
from runner.app.worker import Worker
from runner.errors import (
    BackfillError,
    Incomplete,
    InvalidPlan,
    PreflightRefused,
    RunFailed,
    TargetDown,
)
from runner.execution.context import RunOptions
from runner.execution.pacing import LONGEST_DELAY
from runner.model import RETRIED, RunRecord
from tests.simulation import plans, postgresql
from tests.simulation.clockwork import (
    Broken,
    Crash,
    Process,
    Scheduler,
    Stuck,
    current,
    installed,
)
from tests.simulation.judge import compare, judged
from tests.simulation.server import (
    HOOK,
    WORKER,
    Data,
    Network,
    Row,
    Server,
    ServerClock,
    events_of,
)
from tests.support import EVENT_KEY, ORIGIN, SIGNING_KEY

_MEMORY = "/dev/shm"  # noqa: S108 - a memory disk; if there is none, the default is used
PATIENCE = 600.0  # `give_up_after`
_FRAGILE = 0.002  # the chance that a connection breaks at a statement, before or after it
MOST = 8 * 86_400.0  # seconds that a story may take
ATTEMPTS = 60  # processes that a run may need
OPEN = ("running", "incomplete", "sent")
_FENCED = (  # only with the run's lock; except notes by operators, who need no lock
    "INSERT INTO notes",
    "INSERT INTO waits",
    "INSERT INTO outcomes",
    "INSERT INTO rounds",
    "INSERT INTO checks",
)


class Verdict(NamedTuple):
    seed: int
    events: int
    faults: int
    processes: int
    waits: int
    broken: str | None
    trace: str
    written: int  # transactions

    def __str__(self) -> str:
        verdict = self.broken or "holds"
        return (
            f"seed {self.seed}: {self.events} events, {self.faults} faults, {self.processes} "
            f"processes, {self.waits} waits, trace {self.trace}: {verdict}"
        )


class Sent(NamedTuple):
    """A request, as recorded."""

    at: float
    run: str
    number: int
    stage: int
    batch: int
    first: int  # event
    process: int


@cache
def _client() -> inngest.Inngest:
    """Create the client once: it reads certificates, which takes longer than most worlds last."""
    return inngest.Inngest(app_id="backfill", is_production=False)


class World(Scheduler):
    """The scheduler, with the state's disk, whose statements are observed here."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.story: Story | None = None
        self.written = 0  # transactions
        self.kill: tuple[int, bool] | None = None  # the transaction to die at, and whether after it

    def disk(self, sql: str) -> str | None:
        process = current()
        return self.story.disk(sql) if self.story and process and process.mortal else None

    def breaks(self) -> str | None:
        process = current()
        if not self.story or self.story.calm or not process or not process.mortal:
            return None
        fate = process.random.random()
        self.story.faults += fate < 2 * _FRAGILE
        return "before" if fate < _FRAGILE else "after" if fate < 2 * _FRAGILE else None

    def wrote(self, sql: str, given: dict[str, Any], rows: int, ask: Callable[..., Any]) -> None:
        if self.story:
            self.story.wrote(sql, given, rows, ask)

    def commits(self) -> bool:
        process = current()
        if not self.story or not process or not process.mortal:
            return False
        self.written += 1
        if self.kill and self.written == self.kill[0]:
            if not self.kill[1]:
                self.die()
            return True
        fate = process.random.random()
        if not self.story.calm and fate < self.story.deadly:
            self.story.faults += 1
            self.note("dies before a commit", process.name)
            self.die()
        return not self.story.calm and fate > 1 - self.story.deadly


@dataclass
class Story:
    """`calm`: no more faults from now on."""

    seed: int
    folder: Path
    world: World
    random: Random
    server: Server = field(init=False)
    network: Network = field(init=False)
    data: Data = field(init=False)
    calm: bool = False
    faults: int = 0
    deadly: float = 0.0  # chance of death at a commit
    sleepy: float = 0.0  # chance of a pause beyond the lease at a wait
    mortal: float = 0.0  # chance of death at a wait
    steps: bool = False
    busy: float = 0.0  # until when the disk is busy, away, or full
    lost: float = 0.0
    full: float = 0.0
    wide: Random | None = None  # set in worlds with more kinds of plans and faults
    begun: dict[str, float] = field(default_factory=dict)  # by run: when it was recorded
    kind: str = "run"
    written: list[plans.Written] = field(default_factory=list)
    chunks: list[Sent] = field(default_factory=list)
    first_seen: dict[str, tuple[float, int]] = field(default_factory=dict)  # by event: when, pid
    wanted: dict[str, tuple[str | None, float]] = field(default_factory=dict)
    held: bool = False
    tuned: bool = False
    operated: bool = False
    cancelled: bool = False
    decided: bool = False  # an operator has decided about unanswered requests
    processes: int = 0
    slept: dict[int, float] = field(default_factory=dict)  # by pid
    asked_again: int = 0
    server_state: str | None = None  # the URL of a PostgreSQL schema; None for SQLite

    @property
    def state(self) -> str:
        return self.server_state or f"sqlite:///{self.folder / 'state.db'}"

    @property
    def has_state(self) -> bool:
        if self.server_state:
            return bool(self.read("SELECT to_regclass('runs')")[0][0])
        return (self.folder / "state.db").exists()

    def environ(self) -> dict[str, str]:
        return {
            "INNGEST_EVENT_KEY": EVENT_KEY,
            "INNGEST_SIGNING_KEY": SIGNING_KEY,
            "INNGEST_BASE_URL": ORIGIN,
            "BACKFILL_DATABASE_URL": "sqlite:///model",
            "HOOK_URL": f"http://{HOOK}/hook",
        }

    def session(self, state: str | None = None) -> Session:
        return Session(state or self.state, environ=self.environ(), reporter=Silent())

    # -- the world's faults

    def fault(self, process: Process) -> float:
        if self.calm:
            return 0.0
        fate = process.random.random()
        if fate < self.mortal:
            self.faults += 1
            self.world.note("dies", process.name)
            self.world.die()
        if fate > 1 - self.sleepy:
            self.faults += 1
            self.world.note("sleeps", process.name)
            seconds = process.random.choice([5.0, 30.0, 65.0, 200.0])
            self.slept[process.pid] = self.slept.get(process.pid, 0.0) + seconds
            return seconds
        return 0.0

    def disk(self, sql: str) -> str | None:
        if self.calm:
            return None
        now, begins = self.world.now, sql.startswith(("BEGIN", "CONNECT"))
        if begins and now < self.busy:
            return "busy"
        if begins and now < self.lost:
            return "away"
        full = now < self.full and sql.lstrip().startswith(("INSERT", "UPDATE"))
        return "full" if full else None

    # -- observations of the real code, from outside

    def wrote(self, sql: str, given: dict[str, Any], rows: int, ask: Callable[..., Any]) -> None:
        process = current()
        if process is None:
            return
        if sql.lstrip().startswith("INSERT INTO chunks"):
            if not rows:  # from a process that has lost its run
                return
            at, run, number = self.world.now, given["run"], given["number"]
            what = given["stage"], given["batch"], given["first"]
            self.chunks.append(Sent(at, run, number, *what, process.pid))
        elif sql.lstrip().startswith("INSERT INTO runs"):
            self.begun[given["id"]] = self.world.now
        elif sql.startswith("UPDATE runs SET wanted"):
            self.wanted[given["run"]] = given.get("wanted"), self.world.now
        elif sql.startswith("UPDATE runs SET status = 'running'"):  # a resume
            self.wanted[given["run"]] = None, self.world.now
        elif sql.startswith(_FENCED) and "run" in given and "who" not in given and process.mortal:
            query = f"SELECT pid FROM leases WHERE run_id = '{given['run']}'"
            found = ask(query).fetchone()
            if found is None or found[0] not in (process.pid, 0):
                raise Broken(f"{process.name} writes for a run whose lock it lost: {sql[:40]}")

    def sees(self, process: Process, request: httpx.Request) -> None:
        new = [one for one in events_of(request) if one["id"] not in self.first_seen]
        for event in new:
            self.first_seen[event["id"]] = self.world.now, process.pid
        ours = [event for event in new if event["name"] != EVENT]
        if not ours:
            return
        run_id = ours[0]["id"].split(":")[0]
        wanted, since = self.wanted.get(run_id, (None, 0.0))
        latest = max((one.at for one in self.chunks if one.run == run_id), default=0.0)
        if wanted and latest > since:
            raise Broken(f"a request is made after the run was asked to {wanted}")
        if self.held and latest > self.held_at:
            raise Broken("a request is made while the target is held")
        self._in_window(run_id, latest)
        self._capped(run_id, ours)

    def _in_window(self, run_id: str, at: float) -> None:
        """Check the plan's window; `at`: when the request was recorded."""
        closed = next((one.closed for one in self.written if one.closed), None)
        if closed is None or self.steps or not at:
            return
        with Store(self.state) as store:
            name = store.find(run_id).plan
        (written,) = [one for one in self.written if one.name == name]
        if written.closed and written.closed[0] + 1 < at < written.closed[1] - 1:
            raise Broken("a request is made outside the plan's window")

    held_at: float = 0.0

    def _capped(self, run_id: str, events: list[dict[str, Any]]) -> None:
        self.server.go_on()
        query = f"SELECT max_in_flight, plan, follow FROM runs WHERE id = '{run_id}'"
        found = next(iter(self.read(query)), None)
        if found is None:
            return
        tuned, name, follow = found
        written = next(one for one in self.written if one.name == name)
        operation = events[0]["id"].split(":")[1]
        cap = tuned or (written.cap if operation in written.waits else None)
        if not cap or not follow or operation not in written.waits:
            return
        out = self.server.open_of(run_id, events[0]["name"])
        if out + len(events) > cap and not self.cap_changed:
            raise Broken(f"{out} jobs are out, {len(events)} more are sent: the cap is {cap}")

    cap_changed: bool = False

    def read(self, query: str) -> list[Any]:
        """Query the state as it is, beside everything else."""
        if self.server_state:
            with psycopg.connect(self.server_state) as other:
                return other.execute(query).fetchall()
        path = self.folder / "state.db"
        with closing(sqlite3.Connection(f"file:{path}?mode=rw", uri=True)) as connection:
            return connection.execute(query).fetchall()

    # -- processes

    def spawn(
        self, name: str, work: Callable[[], Any], *, mortal: bool = True, after: float = 0.0
    ) -> Process:
        self.processes += 1
        return self.world.spawn(name, work, mortal=mortal, after=after)

    def go(self, name: str, work: Callable[[], Any], *, mortal: bool = True) -> Process:
        """Run a process until it ends; ending with an error that is not allowed is a fault."""
        process = self.spawn(name, work, mortal=mortal)
        self.world.join(process)
        self.judge_end(process)
        return process

    def judge_end(self, process: Process) -> None:
        error = process.error
        if error is None or isinstance(error, Crash):
            return
        if not isinstance(error, BackfillError):
            raise error
        impatient = isinstance(error, TargetDown) or (
            isinstance(error, Incomplete) and str(error).startswith("stopped:")
        )
        away = self.away_for + self.slept.get(process.pid, 0.0)
        # `apply` starts anew with each of its plans: between two of them no run has begun.
        last = self.latest() if self.kind == "apply" else None
        begun = process.pid in self.network.begun and not (last and last.status not in OPEN)
        # A check's own timeout bounds its queries, patience included.
        checked = "database" in str(error) and any(one.check for one in self.written)
        if impatient and begun and away < (60 if checked else PATIENCE - 60):
            raise Broken(f"{process.name} has given up after {away:.0f}s: {error}")

    away_for: float = 0.0  # the longest outage so far

    def latest(self, name: str | None = None) -> RunRecord | None:
        if not self.has_state:
            return None
        with Store(self.state) as store:
            lines = store.runs(plan=name)
            return lines[0].record if lines else None

    # -- the people and machines

    def tell(self) -> None:
        """Tell it from the first command to the last: start a run, and see it through."""
        main = self.written[-1]
        if self.kind == "schedule":
            self._schedule(main)
        else:
            self._see_through(main)
            self._retry(main)
        self.calm = True

    def _begin(self, session: Session) -> Any:
        """Run the plans as a user would."""
        if self.kind == "apply":
            return self._apply(session)
        prepared = prepare(session, str(self.written[-1].path), target=ORIGIN)
        return (submit if self.kind == "submit" else run)(session, prepared, self.options())

    def _see_through(self, main: plans.Written) -> None:
        begin = self._in_session(self._begin)
        process, record = self.go("run", begin), self.latest(main.name)
        for attempt in range(ATTEMPTS):
            if record and record.status not in OPEN:
                return
            # Passing over failures forever would hide that a drain makes no progress.
            past = attempt < ATTEMPTS // 2
            if limited := self._record(lambda one: "has used up its" in (one.reason or "")):
                self._go_on(limited, past=past)  # it may be a plan that `apply` started
            elif record and self.kind != "apply":
                self._go_on(record, past=past)
            elif isinstance(process.error, PreflightRefused | InvalidPlan | RunFailed):
                self.refused = str(process.error)
                return
            else:
                process = self.go("again", begin)
            self.world.wait(self.random.choice([1.0, 20.0, 70.0, 70.0 if self.calm else 3600.0]))
            record = self.latest(main.name)
        if self.steps and record and record.status == "running":
            # A clock that was set back has delayed the workers' next step.
            self.world.wait(2 * 7200.0)
            record = self.latest(main.name)
            if record and record.status not in OPEN:
                return
        why = (record and record.reason) or process.error
        raise Broken(f"after {ATTEMPTS} processes the run is {record and record.status}: {why}")

    def options(self, **more: Any) -> RunOptions:
        follow = self.follow
        return RunOptions(yes=True, follow=follow, **more)

    follow: bool = True

    def _in_session(self, work: Callable[[Session], Any]) -> Callable[[], Any]:
        def do() -> Any:
            with self.session() as session:
                return work(session)

        return do

    def _apply(self, session: Session) -> Any:
        found = plans_to_apply(session, [str(self.folder / "plans")], {})
        options = ApplyOptions(ORIGIN, resume=True, run=self.options())
        applied = apply(session, found, options)
        if applied.error:
            raise applied.error
        return applied

    def _go_on(self, record: RunRecord, *, past: bool = True) -> None:
        more: dict[str, Any] = {}
        if record.status == "incomplete" and record.reason and "answer was lost" in record.reason:
            more["unanswered"] = self.random.choice(["send", "taken"])
            self.decided = True
        if record.status == "incomplete" and record.reason and "has used up its" in record.reason:
            self._judge_limit(record)
            more |= {"max_rounds": 80, "max_time": 10 * 86_400.0}
        options = RunOptions(yes=True, past_failures=past, **more)
        if self.kind == "submit" and self.random.random() < 0.6:
            work = self._in_session(lambda session: resubmit(session, record.id, options))
        else:
            work = self._in_session(lambda session: resume(session, record.id, options))
        process = self.spawn("resume", work)
        self.world.join(process)
        self.judge_end(process)

    refused: str | None = None

    def _judge_limit(self, record: RunRecord) -> None:
        """Check that a drain's limits count driven time only, not standstill."""
        with Store(self.state) as store:
            journal = store.reading(record)
            rounds = journal.rounds(1)
            plan = store.plan_of(record)
            until = plan.stages[0].until
            assert until
            driven = journal.driven()
            worked = driven.between(rounds[0].at, self.world.wall()) if rounds else 0.0
        slowed = LONGEST_DELAY if self.network.faults else 0.0
        rest = 5 + max(slowed, *(one.delay for one in self.written))  # seconds before a round
        if len(rounds) < until.max_rounds and worked < until.max_time - rest and not self.steps:
            raise Broken(f"{record.reason}, after {worked:.0f}s of {until.max_time:.0f}s")

    def _again(self, run_id: str) -> Callable[[], Any]:
        return self._in_session(
            lambda session: retry(session, FailedEvents(run_id), self.options())
        )

    def _retry(self, main: plans.Written) -> None:
        """Retry what failed until nothing has."""
        if self.cancelled or self.random.random() < 0.3:
            return
        self.server.failure_rate = 0.0
        for _ in range(12):
            first = self._first(main)
            if first is None or self.cancelled:
                return
            with Store(self.state) as store:
                found = store.retriable(first, RETRIED, ())
            if not found:
                break
            self.asked_again += 1
            if self.go("retry", self._again(first.id)).error:  # such as a full disk
                self.world.wait(60.0)
            for _ in range(ATTEMPTS):
                open_ = self._record(lambda one: one.plan == main.name and one.status in OPEN)
                if open_ is None:
                    break
                self._go_on(open_)
                self.world.wait(20.0)
        self.retried = True

    retried: bool = False

    def _record(self, is_it: Callable[[RunRecord], bool]) -> RunRecord | None:
        """Return the latest matching run; the latest of all may be another, as clocks go back."""
        if not self.has_state:
            return None
        with Store(self.state) as store:
            return next((one.record for one in store.runs() if is_it(one.record)), None)

    def _first(self, main: plans.Written) -> RunRecord | None:
        with Store(self.state) as store:
            lines = [one.record for one in store.runs(plan=main.name) if one.record.parent is None]
            return lines[0] if lines else None

    def _schedule(self, main: plans.Written) -> None:
        """Fire twice, as the engine does when clocks go back: only one run may start."""
        with self.session() as session:
            (one,) = scheduled(session, [str(main.path)], datetime.fromtimestamp(0, UTC))
        observer = Silent()
        firing = Firing(
            one.plan.name,
            one.plan.path,
            one.schedule,
            self.state,
            "backfill",
            ORIGIN,
            None,
            self.environ(),
            lambda _run: observer,
        )
        fire: Any = create_firing(_client(), firing)
        for at in (1_793_511_000.0, 1_793_514_600.0):  # 01:30 in New York, and 01:30 once more
            self.world.wait(max(0.0, at - self.world.now))
            event = SimpleNamespace(name="inngest/scheduled.timer", ts=int(at * 1000), data={})
            ran = f"01FIRE{int(at)}".ljust(26, "0")
            self._durable("fire", fire, event, ran)
        for _ in range(200):
            self.world.wait(60.0)
            record = self.latest(main.name)
            if record and record.status not in OPEN and not self.under_way:
                return
            if record and record.status in OPEN and not self.under_way:
                self._go_on(record)

    under_way: int = 0

    def requested(self, event: dict[str, Any]) -> None:
        """Let the engine drive a submitted run by its function."""
        worker = Worker(self.session, lambda _run: Silent())
        function: Any = create_function(_client(), worker)
        what = SimpleNamespace(name=EVENT, ts=0, data=event["data"])
        self.under_way += 1

        def engine() -> None:
            try:
                on = self._durable("worker", function, what, event["id"], worker)
            finally:
                self.under_way -= 1
            if not (on and "goes_on_in" in on):
                self._judge_left(event["data"]["run"])

        self.spawn("engine", engine, mortal=False, after=0.5)

    def _durable(
        self, name: str, function: Any, event: Any, ran: str, worker: Worker | None = None
    ) -> Any:
        """Act as the engine: memoize steps, sleep for them, and retry failures."""
        step = _Steps(self, name, worker)
        context = SimpleNamespace(event=event, run_id=ran, step=step)
        with suppress(inngest.NonRetriableError, inngest.StepError):
            return function._handler(context)
        return None

    def _judge_left(self, run_id: str) -> None:
        """Check that when the engine is done with a run, it has ended, or another drives it."""
        with Store(self.state) as store:
            state = store.run_state(run_id)
        if state.record.status == "running" and state.parked:
            raise Broken("the run is left to the workers, and the engine is done with it")

    def operate(self) -> None:
        """Act as somebody at a terminal."""
        for _ in range(self.random.randint(0, 5)):
            self.world.wait(self.random.choice([0.5, 3.0, 10.0, 40.0, 120.0]))
            record = self.latest()
            if record is None or record.status not in OPEN or self.calm:
                continue
            self.operated = True
            what = self.random.choice(
                ["pause", "tune", "hold", "look", "look", "rival", "cap"]
                + (["cancel"] if self.random.random() < 0.4 else [])
            )
            self.world.note("operator", what)
            getattr(self, f"_{what}")(record)

    def _ask(self, work: Callable[[Session], Any]) -> bool:
        """Run an operator's command; return False if it was refused."""
        process = self.spawn("operator", self._in_session(work), mortal=False)
        self.world.join(process)
        if isinstance(process.error, BackfillError):
            return False
        if process.error:
            raise process.error
        return True

    def _pause(self, record: RunRecord) -> None:
        if self._ask(lambda session: pause(session, record.id)):
            self.world.wait(self.random.choice([5.0, 90.0]))
            self._ask(lambda session: resume(session, record.id, RunOptions(yes=True)))

    def _tune(self, record: RunRecord) -> None:
        self.tuned = True
        delay = self.random.choice([0.0, 3.0, 20.0])
        self._ask(lambda session: tune(session, record.id, batch_size=2, delay=delay))

    def _cap(self, record: RunRecord) -> None:
        cap = self.random.randint(1, 4)
        if record.max_in_flight is None:
            self.cap_changed = True
        self._ask(lambda session: tune(session, record.id, max_in_flight=cap))

    def _hold(self, record: RunRecord) -> None:  # noqa: ARG002
        if self._ask(lambda session: hold(session, ORIGIN, "incident")):
            self.held, self.held_at = True, self.world.now
            self.world.wait(self.random.choice([5.0, 90.0]))
            self.held = False
            self._ask(lambda session: let_go(session, ORIGIN))

    def _cancel(self, record: RunRecord) -> None:
        self.cancelled = True
        self._ask(lambda session: cancel(session, record.id))

    def _rival(self, record: RunRecord) -> None:
        """Let another machine try to drive the run as well."""
        work = self._in_session(
            lambda session: resume(session, record.id, RunOptions(yes=True, past_failures=True))
        )
        process = self.spawn("rival", work)
        self.world.join(process)
        self.judge_end(process)

    def _look(self, record: RunRecord) -> None:
        with Store(self.state) as store:
            compare(store, store.find(record.id), self.world.wall(), page=False)

    def trouble(self) -> None:
        """Cause outages: networks, disks, clocks, the user's database."""
        for _ in range(self.random.randint(0, 4)):
            self.world.wait(self.random.choice([1.0, 5.0, 30.0, 90.0]))
            if self.calm:
                return
            self.faults += 1
            seconds = self.random.choice([3.0, 20.0, 90.0, 240.0])
            what = self.random.choice(["network", "silent", "disk", "data", "clock", "signal"])
            if self.wide:
                what = self.wide.choice([what, "full", "lost", "rows", "rows"])
            self.world.note("trouble", what, seconds)
            self._befall(what, seconds)

    def _befall(self, what: str, seconds: float) -> None:
        until = self.world.now + seconds
        if what in ("network", "silent", "disk", "lost", "data"):
            self.away_for = max(self.away_for, seconds)
        match what:
            case "network" | "silent":
                self.network.cut, self.network.silent = until, what == "silent"
            case "disk":
                self.busy = min(until, self.world.now + 90.0)
            case "lost":
                self.lost = until
            case "full":
                self.full = until
            case "data":
                self.data.away = until
            case "rows":
                self.data.shake(self.random)
            case "clock":
                self.steps = True
                self.world.skew += self.random.choice([-7200.0, -30.0, 30.0, 100.0, 7200.0])
            case _:
                self._signal()

    def _signal(self) -> None:
        for process in list(self.world.processes):
            if process.stop and not process.ended:
                process.stop()

    def calm_down(self) -> None:
        self.world.wait(self.random.choice([60.0, 400.0, 2000.0]))
        self.calm = True


class _Steps:
    """The engine's step tools: each step runs in a worker's process of its own."""

    def __init__(self, story: Story, name: str, worker: Worker | None) -> None:
        self.story, self.name, self.worker = story, name, worker

    def run(self, id_: str, work: Callable[[], Any]) -> Any:
        wait, error = 1.0, ""
        for attempt in range(RETRIES + 1):
            story = self.story
            worker = self.worker
            alien = worker and id_.startswith("step") and story.random.random() < 0.1
            if alien and worker:  # a worker with another state takes it first
                own = worker.opened
                worker.opened = partial(story.session, f"sqlite:///{story.folder / 'other.db'}")
                process = story.spawn(self.name, work)
                story.world.join(process)
                worker.opened = own
            else:
                process = story.spawn(self.name, work)
                story.world.join(process)
            if process.error is None:
                return process.result
            if isinstance(process.error, inngest.NonRetriableError):
                raise process.error
            if not isinstance(process.error, (BackfillError, Crash)):
                raise process.error
            error = str(process.error)
            if attempt < RETRIES:
                story.world.wait(wait)
                wait = min(wait * 2, 600.0)
        raise inngest.StepError(error, "StepError", None)

    def sleep_until(self, id_: str, until: Any) -> None:  # noqa: ARG002
        world = self.story.world
        world.wait(max(0.0, until.timestamp() - world.wall()))

    def send_event(self, id_: str, event: Any) -> None:  # noqa: ARG002
        self.story.requested({"id": event.id, "name": event.name, "data": event.data})


def _made(seed: int, folder: Path, world: World) -> Story:
    random = Random(f"story {seed}")  # noqa: S311
    story = Story(seed, folder, world, random)
    world.story = story
    wide = Random(f"wide {seed}")  # noqa: S311 - separate, so that other worlds stay the same
    story.wide = wide if wide.random() < 0.5 else None
    story.kind = random.choice(["run"] * 6 + ["submit"] * 3 + ["apply"] * 2 + ["schedule"])
    _write_plans(story)
    ours = tuple(dict.fromkeys(o for one in story.written for o in one.operations))
    known = plans.functions(random, ours)
    story.server = Server(
        world=world,
        functions=(*known, WORKER),
        workers=random.choice([1, 3, 8]),
        failure_rate=random.choice([0.0, 0.0, 0.2, 0.5]),
        missing=frozenset(random.choice([(), (), ("functions",), ("lists",)])),
    )
    clock: Any = ServerClock(world, random.choice([0.0, 0.0, 20.0, -20.0]))
    story.server.clock = clock
    _fill(story)
    story.server.requested = story.requested
    story.network = Network(world, story.server, story.sees)
    if random.random() < 0.75:  # the others have no faults at all
        story.network.faulty = random.choice([0.0, 0.1, 0.3])
        story.deadly = random.choice([0.0, 0.01, 0.03])
        story.mortal = random.choice([0.0, 0.01, 0.05])
        story.sleepy = random.choice([0.0, 0.01, 0.04])
    else:
        story.calm = True
    story.follow = random.random() < 0.7 or any(one.cap or one.drains for one in story.written)
    world.fault = story.fault
    return story


def _write_plans(story: Story) -> None:
    random, folder = story.random, story.folder / "plans"
    names = {"apply": ["first", "second"]}.get(story.kind, ["plan"])
    for name in names:
        more = ", depends_on: [first]" if name == "second" else ""
        kind = ("sync",) if story.kind == "schedule" else None
        allow = random.choice(["fail", "allow"])
        written = plans.write(
            folder, name, random, more=more, kind=kind, allow=allow, wide=story.wide
        )
        story.written.append(written)
    if story.kind == "schedule":
        with story.written[-1].path.open("a", encoding="utf-8") as file:
            file.write("schedule: {cron: '30 1 * * *', timezone: America/New_York}\n")
    last = story.written[-1]  # all plans share its catalog
    story.written = [
        replace(one, repeat=last.repeat) if "sync" in one.operations else one
        for one in story.written
    ]


def _fill(story: Story) -> None:
    """Fill the user's database, as it is before the run."""
    random, world = story.random, story.world
    story.data = data = Data(
        world,
        story.server,
        ahead=random.choice([0.0, 0.0, 40.0, -40.0, 3600.0]),
        zone=random.choice(["UTC", "America/New_York", "Asia/Kolkata"]),
        blind=random.random() < 0.1,
        backlog=random.randint(0, 12),
    )
    items = story.written[-1].items
    if random.random() < 0.3:
        data.lies = {random.choice(items)}
    if random.random() < 0.15:
        story.server.refused = {random.choice(items)}
    for item in items:
        if random.random() < 0.4:
            ago = random.uniform(30.0, 9000.0)
            data.rows[item] = Row(random.randint(1, 3), world.now + data.ahead - ago)
    story.server.work = data.work


@contextmanager
def _signals(story: Story) -> Iterator[Any]:
    @contextmanager
    def stopped(*_: Any) -> Iterator[asyncio.Event]:
        stop, process = asyncio.Event(), current()
        assert process

        def signal() -> None:
            stop.set()
            process.wake = min(process.wake, story.world.now)

        process.stop = signal
        try:
            yield stop
        finally:
            process.stop = None

    yield stopped


def simulate(
    seed: int,
    folder: Path | None = None,
    then: Callable[[Any], None] | None = None,
    where: Callable[[Story], bool] = lambda _story: True,
    kill: tuple[int, bool] | None = None,
    server_state: str | None = None,
) -> Verdict:
    """Simulate the world of a seed, from beginning to end.

    `then`: makes patches, to put an old fault back. `where`: skips worlds that could not show it.
    `kill`: the process of that transaction dies before (or after) it. `server_state`: the URL of an
    empty schema.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as made:
        world = World(seed)
        world.kill = kill
        broken: str | None = None
        with installed(world) as patches:
            story = _made(seed, folder or Path(made), world)
            story.server_state = server_state
            state = postgresql.given(world, patches) if server_state else nullcontext()
            with state, _signals(story) as stopped:
                patches.set(drive, "_stopped_by_signals", stopped)
                patches.set(http, "_Network", lambda _verify, _proxies: story.network)
                patches.set(http, "_certificates", lambda _file, _folder: None)
                patches.set(databases, "Databases", lambda *_given: story.data)
                if then:
                    then(patches)
                try:
                    if where(story):
                        _play(story)
                except (Broken, Stuck, AssertionError) as fault:
                    broken = f"BROKEN: {fault}"
                except BackfillError as error:
                    broken = f"BROKEN: {type(error).__name__}: {error}"
                except Exception as error:  # noqa: BLE001 - a crash of ours is a fault
                    broken = f"BROKEN: crash: {type(error).__name__}: {error}"
        events = len(story.first_seen)
        faults = story.faults + story.network.faults
        return Verdict(
            seed,
            events,
            faults,
            story.processes,
            world.waits,
            broken,
            world.trace,
            world.written,
        )


def _play(story: Story) -> None:
    world, trouble = story.world, []
    tale = story.spawn("tale", story.tell, mortal=False)
    actors = [tale, story.spawn("operator", story.operate, mortal=False)]
    if not story.calm:
        actors.append(story.spawn("weather", story.trouble, mortal=False))
        actors.append(story.spawn("calm", story.calm_down, mortal=False))

    def over() -> bool:
        for one in (*actors, *world.processes):
            if one.error and one not in trouble and not one.mortal:
                trouble.append(one)
                raise one.error
        return all(one.ended for one in actors) and not story.under_way

    world.run(over, MOST)
    story.server.go_on()
    judged(story)
