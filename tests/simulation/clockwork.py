"""Run several processes' worth of the real code under one seed: one clock, one scheduler, one
source of randomness.

A simulated process is a thread; only one has the turn: it yields where it waits, and is resumed
when its time has come. So nothing runs concurrently, and a seed is replayed exactly. Time is
simulated: code that asks the machine for the time, randomness or its pid gets the world's.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
import random
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cache
from hashlib import sha256
from math import inf
from random import Random
from typing import Any, NamedTuple

import ulid

import runner
from runner.adapters.journal import leases, outage, schema
from runner.adapters.journal.database import _File
from runner.app import build, doctor, resolve

START = 1_793_000_000.0  # 2026-10-26; daylight saving time ends in New York on 2026-11-01
MOST_WAITS = 30_000  # ten times the most waits in a thousand worlds
_LEAST = 1e-6  # seconds that pass in every wait, so that time always advances


class Crash(BaseException):
    """The process dies: whatever it still tries to do raises this again."""


class Broken(AssertionError):
    """An invariant does not hold."""


class Stuck(AssertionError):
    """A process waits forever."""


class Turn:
    """Passed from one thread to another; a lock costs a tenth of a semaphore."""

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.take, self.give = lock.acquire, lock.release


@dataclass(eq=False)
class Process:
    """`mortal`: faults may hit it. `stop`: simulates a signal to it, while it handles them."""

    name: str
    pid: int
    random: Random
    work: Callable[[], Any]
    mortal: bool = True
    wake: float = 0.0
    order: float = 0.0
    dead: bool = False
    ended: bool = False
    result: Any = None
    error: BaseException | None = None
    stop: Callable[[], None] | None = None
    then: Callable[[], None] | None = None
    thread: threading.Thread | None = None
    turn: Turn = field(default_factory=Turn)


_LOCAL = threading.local()


def current() -> Process | None:
    found: Process | None = getattr(_LOCAL, "process", None)
    return found


class Scheduler:
    """`fault` is called at each wait of a mortal process, and may kill it or delay it. `skew`: how
    far the machine's wall clock is ahead of the true time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - a seed is replayed
        self.now = START
        self.skew = 0.0
        self.waits = 0
        self.fault: Callable[[Process], float] = lambda _process: 0.0
        self.processes: list[Process] = []
        self._pids = 1000
        self._end = inf
        self._turn = Turn()
        self._trace = sha256()

    def note(self, *what: object) -> None:
        """Add to the trace, by which two replays are compared."""
        self._trace.update(repr((round(self.now, 3), *what)).encode())

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()[:12]

    def wall(self) -> float:
        return self.now + self.skew

    def elapsed(self) -> float:
        return self.now - START

    def chance(self) -> Random:
        process = current()
        return process.random if process else self.random

    def spawn(
        self, name: str, work: Callable[[], Any], *, after: float = 0.0, mortal: bool = True
    ) -> Process:
        self._pids += 1
        own = Random(self.random.getrandbits(64))  # noqa: S311
        process = Process(name, self._pids, own, work, mortal, self.now + after)
        process.order = self.random.random()
        process.thread = threading.Thread(target=self._live, args=(process,), daemon=True)
        process.thread.start()
        self.processes.append(process)
        return process

    def _live(self, process: Process) -> None:
        _LOCAL.process = process
        process.turn.take()
        try:
            if not process.dead:
                process.result = process.work()
        except BaseException as error:  # noqa: BLE001 - raised by whoever checks the process
            process.error = error
        process.ended = True
        self._turn.give()

    def run(self, until: Callable[[], bool], most: float) -> None:
        """Run until `until()`, which is called whenever a process has ended."""
        self._end = self.now + most
        while not until():
            ready = self._next()
            if ready is None:
                alive = [one for one in self.processes if not one.ended]
                waiting = ", ".join(one.name for one in alive) or "nobody"
                if all(one.wake == inf for one in alive):
                    raise Stuck(f"nothing is left to happen; waiting: {waiting}")
                raise Stuck(f"after {self.waits:,} waits still under way: {waiting}")
            self._let(ready)

    def _next(self) -> Process | None:
        """Return the next process, and advance the time; None if nothing is left to happen."""
        alive = [one for one in self.processes if not one.ended]
        ready = min(alive, key=lambda one: (one.wake, one.order), default=None)
        if ready is None or ready.wake == inf or self.now > self._end or self.waits > MOST_WAITS:
            return None
        self.now = max(self.now, ready.wake)
        return ready

    def _let(self, process: Process) -> None:
        """Let it run until a process has ended: this one, or another that got the turn from it."""
        process.turn.give()
        self._turn.take()
        for one in [one for one in self.processes if one.ended]:
            if one.thread:
                one.thread.join()
            self.processes.remove(one)
            self.note("end", one.name, type(one.error).__name__)
            if one.then:
                one.then()

    def end(self) -> None:
        """End the world: kill all remaining processes."""
        for process in list(self.processes):
            process.dead = True
            while not process.ended:
                self._let(process)

    def wait(self, seconds: float) -> None:
        """Make the current process wait."""
        process = current()
        assert process, "only processes wait"
        self.alive()
        self.waits += 1
        more = self.fault(process) if process.mortal and seconds > 0 else 0.0
        self.alive()
        process.wake = self.now + max(_LEAST, seconds) + more
        process.order = self.random.random()
        self._yield(process)

    def join(self, other: Process) -> None:
        """Wait until the other process has ended."""
        process = current()
        assert process

        def wake() -> None:
            process.wake = self.now

        other.then = wake
        while not other.ended:
            process.wake = inf
            self._yield(process)

    def _yield(self, process: Process) -> None:
        """Pass the turn to the next process; one that ends passes it to `run`."""
        self.alive()
        ready = self._next()
        if ready is not process:
            (ready.turn if ready else self._turn).give()
            process.turn.take()
        self.alive()

    def disk(self, sql: str) -> str | None:  # noqa: ARG002
        """Return the fault of a statement to the state, if any: `busy`, `away` or `full`."""
        return None

    def breaks(self) -> str | None:
        """Return whether the connection to a server breaks `before` or `after` a statement now."""
        return None

    def commits(self) -> bool:
        """Kill the process before this commit, or return True to kill it after it."""
        return False

    def wrote(self, sql: str, given: dict[str, Any], rows: int, ask: Callable[..., Any]) -> None:
        """Report a statement of the state, and how many rows it changed; `ask` runs another one on
        the same connection."""

    @staticmethod
    def alive() -> None:
        process = current()
        if process and process.dead:
            raise Crash(process.name)

    @staticmethod
    def die() -> None:
        process = current()
        assert process
        process.dead = True
        raise Crash(process.name)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that waits in simulated time. Work for a thread is done at once."""

    def __init__(self, world: Scheduler) -> None:
        super().__init__()
        self._world = world

        def select(timeout: float | None) -> Any:
            process = current()
            if process and process.dead:  # it unwinds: do not wait
                if timeout is None:
                    raise Crash(process.name)
                self._dead += timeout
            elif timeout is None or timeout > 0:
                self._world.wait(inf if timeout is None else timeout)
            return []

        self._dead = 0.0
        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._world.elapsed() + self._dead

    def call_at(self, when: float, *given: Any, **how: Any) -> Any:  # type: ignore[override]
        """Defer calls so near that the loop would run them before any time has passed."""
        return super().call_at(max(when, self.time() + _LEAST), *given, **how)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor would pass it on
            future.set_exception(error)
        return future


class Module:
    """A standard library module with some of its names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


_SAID = {
    "busy": "database is locked",
    "away": "disk I/O error",
    "full": "database or disk is full",
}


def _kinds(world: Scheduler) -> type[sqlite3.Connection]:
    class Connection(_File):
        """The state's connection: a process may die at a commit, and the disk may be faulty."""

        def execute(self, sql: str, *given: Any) -> Any:
            if sql != "ROLLBACK":
                world.alive()
            after = sql == "COMMIT" and world.commits()
            if fault := world.disk(sql):
                raise sqlite3.OperationalError(_SAID[fault])
            found = super().execute(sql, *given)
            if given and isinstance(given[0], dict):
                world.wrote(sql, given[0], found.rowcount, super().execute)
            if after:
                world.die()
            return found

    return Connection


@cache
def _modules() -> tuple[Any, ...]:
    """Import all of our modules now: one imported later would see the machine's time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for found in pkgutil.walk_packages(runner.__path__, "runner."):
            if not found.name.startswith(("runner.__main__", "runner.agents")):
                importlib.import_module(found.name)
    return tuple(module for name, module in sorted(sys.modules.items()) if name[:7] == "runner.")


class Patches:
    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self._undo:
            setattr(*self._undo.pop())


def _functions(module: Any) -> Iterator[Any]:
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            yield from (one for one in vars(value).values() if hasattr(one, "__defaults__"))
        elif hasattr(value, "__defaults__"):
            yield value


class Place(NamedTuple):
    """A use of the machine in our code: a name of a module, or the defaults of a function."""

    owner: Any
    name: str
    of_module: bool


@cache
def _places() -> tuple[Place, ...]:
    found = []
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is time or value is random.SystemRandom:
                found.append(Place(module, name, of_module=True))
        found += [
            Place(function, which, of_module=False)
            for function in _functions(module)
            for which in ("__defaults__", "__kwdefaults__")
            if any(_is_of_machine(one) for one in _values(getattr(function, which)))
        ]
    return tuple(found)


def _values(given: Any) -> list[Any]:
    return list(given.values() if isinstance(given, dict) else given or ())


def _is_of_machine(value: Any) -> bool:
    return any(value is one for one in (time.time, time.monotonic, time.sleep))


@contextmanager
def installed(world: Scheduler) -> Iterator[Patches]:
    """Run our code in this world until the block ends; other patches are undone with these."""
    patches = Patches()
    _give_time(world, patches)
    _give_system(world, patches)
    _give_waits(world, patches)
    try:
        yield patches
    finally:
        world.end()
        patches.undo()


def _give_time(world: Scheduler, patches: Patches) -> None:
    def swap(value: Any) -> Any:
        if not _is_of_machine(value):
            return value
        if value is time.sleep:
            return world.wait
        return world.wall if value is time.time else world.elapsed

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(world.wall(), tz or UTC)

    clock = Module(
        time,
        time=world.wall,
        monotonic=world.elapsed,
        perf_counter=world.elapsed,
        time_ns=lambda: int(world.wall() * 1e9),
        sleep=world.wait,
    )
    for place in _places():
        now = getattr(place.owner, place.name)
        if place.of_module:
            patches.set(place.owner, place.name, clock if now is time else world.chance)
        elif isinstance(now, dict):
            swapped = {name: swap(value) for name, value in now.items()}
            patches.set(place.owner, place.name, swapped)
        else:
            patches.set(place.owner, place.name, tuple(map(swap, now)))
    patches.set(build, "datetime", Now)
    patches.set(resolve, "datetime", Now)
    patches.set(doctor, "datetime", Now)


def _give_system(world: Scheduler, patches: Patches) -> None:
    """Replace randomness, and how processes see each other."""

    def random_bytes(count: int) -> bytes:
        return world.chance().randbytes(count)

    def alive(pid: int, _signal: int) -> None:
        if not any(one.pid == pid and not (one.dead or one.ended) for one in world.processes):
            raise ProcessLookupError

    def pid() -> int:
        process = current()
        return process.pid if process else 1

    patches.set(leases, "os", Module(os, getpid=pid, kill=alive, urandom=random_bytes))
    patches.set(schema, "os", Module(os, urandom=random_bytes))
    patches.set(leases, "_machine", lambda: "machine")
    patches.set(leases, "who", lambda *_, **__: f"somebody (process {pid()})")
    patches.set(outage, "random", Module(random, random=lambda: world.chance().random()))
    patches.set(random, "SystemRandom", world.chance)
    made = ulid.ULIDGenerator(
        clock=lambda: int(world.wall() * 1e3), randomness=lambda _: random_bytes(10)
    )
    patches.set(ulid, "default_generator", made)


def _give_waits(world: Scheduler, patches: Patches) -> None:
    """Replace event loops, and the state's disk."""
    real_connect: Any = sqlite3.connect
    kind, real_run = _kinds(world), asyncio.run

    def connect(*given: Any, **how: Any) -> Any:
        world.alive()
        more = {"factory": kind} if current() else {}
        return real_connect(*given, **how | more)

    def run(main: Any, **how: Any) -> Any:
        if current() is None:
            return real_run(main, **how)
        try:
            world.alive()
        except BaseException:
            main.close()
            raise
        with asyncio.Runner(loop_factory=lambda: _Loop(world)) as made:
            return made.run(main)

    patches.set(sqlite3, "connect", connect)
    patches.set(asyncio, "run", run)
