"""One portion of a run: what a worker does between two waits that somebody else does for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runner.adapters.database.open import Databases
from runner.adapters.inngest.target import resolve
from runner.adapters.journal.leases import WORKERS, Lease, holding
from runner.adapters.journal.store import Store
from runner.cli.approval import check_keys, refuse_another_address
from runner.cli.relocated import relocated
from runner.cli.resuming import resolver_of
from runner.cli.wiring import Settings, Stop, SystemClock, open_means
from runner.errors import (
    BackfillError,
    Incomplete,
    KeyRefused,
    LockHeld,
    TargetDown,
    TargetError,
)
from runner.execution.limits import MAX_BYTES, MAX_EVENTS, RequestLimits
from runner.execution.means import Ending
from runner.execution.ports import Clock
from runner.execution.recover import Decision
from runner.execution.run import execute
from runner.execution.summary import summarise
from runner.execution.waits import Portion, Standing, Waits
from runner.execution.watch import beside, watch
from runner.model import Observer, RunRecord
from runner.spec.project import read_project
from runner.spec.secrets import redact

BUDGET = 20.0  # seconds that a portion works
_UNKNOWN = 60.0  # seconds for which a worker that lacks a run's state is not ready
_LOCKED = 15.0  # seconds until a lock that somebody holds is asked for again


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was handed over with; see `runner.execution.waits.Portion`."""

    run: str
    asked_at: float = 0.0
    failed: int = 0
    ended: int = 0
    past_failures: bool = False
    unanswered: Decision = None
    request_events: int = MAX_EVENTS
    request_bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Turn:
    """What a portion has come to; `until` is when the next one is due, while `status` is running.

    It is written down by who does the waiting, so it is small.
    """

    status: str
    why: str = ""
    until: float = 0.0
    standing: Standing | None = None

    def written(self) -> dict[str, Any]:
        return asdict(self)


def read_turn(written: Mapping[str, Any] | None) -> Turn | None:
    if written is None:
        return None
    standing = written.get("standing")
    if standing is not None:
        pace = standing.get("pace")
        standing = Standing(**{**standing, "pace": tuple(pace) if pace else None})
    return Turn(**{**written, "standing": standing})


@dataclass
class Portions:
    """Carries runs of one state on, portion by portion, each in the thread that it is called in."""

    state: str
    observer: Callable[[str], Observer]  # of a run, by its id
    plans: Sequence[str] = ()  # files and folders in which what plans need is found again
    grace: float | None = None  # how long a job may take to appear; None: the target's own
    clock: Clock = field(default_factory=SystemClock)
    budget: float = BUDGET
    _stops: set[Callable[[], None]] = field(default_factory=set)
    _stopping: bool = False
    _unknown_at: float | None = None

    def unknown(self) -> str | None:
        """Why another worker had better be asked: the latest request was for a run that is not in
        this state, a moment ago."""
        at = self._unknown_at
        if at is None or self.clock.monotonic() - at > _UNKNOWN:
            return None
        return "it is asked for a run that is not in its state"

    def carry(self, request: Request, before: Turn | None) -> Turn:
        """Carry the run on until it waits. Raises `TargetError` and `Incomplete` for what may pass
        by itself; the run, as it stands, is in its journal."""
        with Store(self.state) as store:
            record = store.known(request.run)
            self._unknown_at = self.clock.monotonic() if record is None else None
            if record is None:  # another worker may have it: the engine asks again
                hint = "workers must have the state of whoever handed it over"
                raise TargetError(f"there is no run {request.run} in this state; {hint}", hint=hint)
            if record.status != "running":
                return Turn(record.status)
            standing = before.standing if before else None
            try:
                lease = store.lock(record.plan, record.address, record.id, worker=True)
            except LockHeld as held:
                return Turn("running", str(held), self.clock.time() + _LOCKED, standing)
            with _left(store, lease) as leave:
                turn = self._portion(store, record, lease, request, standing)
                leave(turn)
                return turn

    def give_up(self, request: Request, why: str) -> None:
        """End a run that could not be carried on, however often it was tried."""
        with Store(self.state) as store:
            record = store.known(request.run)
            if record and record.status == "running":
                with holding(store.lock(record.plan, record.address, record.id)) as lease:
                    journal = store.journal(record, lease)
                    journal.note(redact(why))
                    journal.end("incomplete", redact(why))

    def stop(self) -> None:
        """Portions end after the request in flight; others carry their runs on. Thread-safe."""
        self._stopping = True
        for stop in list(self._stops):
            stop()

    def _portion(
        self,
        store: Store,
        record: RunRecord,
        lease: Lease,
        request: Request,
        standing: Standing | None,
    ) -> Turn:
        try:
            return asyncio.run(self._execute(store, record, lease, request, standing))
        except LockHeld as lost:
            return Turn("running", str(lost), self.clock.time() + _LOCKED, standing)
        except KeyRefused as refused:
            why = _why(refused)
        except (TargetError, Incomplete):
            raise
        except BackfillError as refused:
            why = _why(refused)
        journal = store.journal(record, lease)
        journal.note(redact(why))
        journal.end("incomplete", redact(why))
        return Turn("incomplete", redact(why))

    async def _execute(
        self,
        store: Store,
        record: RunRecord,
        lease: Lease,
        request: Request,
        standing: Standing | None,
    ) -> Turn:
        began, plan = time.monotonic(), store.plan_of(record)
        plan = relocated(plan, self.plans)
        target = resolve(record.target, os.environ)
        refuse_another_address(record, target)
        check_keys(plan, target, follow=record.follow)
        database = Databases(os.environ, read_project(plan.path).databases)
        stop = Stop(asyncio.Event(), [])

        def portion(waits: Waits) -> Portion:
            return Portion(
                waits.clock,
                waits.stop,
                waits.keep_lease,
                held=standing.held if standing else "",
                before=standing,
                asked_at=request.asked_at,
                failed=request.failed,
                ended=request.ended,
            )

        with contextlib.closing(database):
            settings = Settings(
                record.follow,
                self.grace,
                RequestLimits(request.request_events, request.request_bytes),
                past_failures=request.past_failures,
                decision=request.unanswered,
                database=database,
                resolver=resolver_of(store, record, plan, database),
                clock=self.clock,
                portion=portion,
            )
            opened = open_means(
                plan,
                target,
                lambda: store.journal(record, lease),
                self.observer(record.id),
                stop,
                settings,
            )
            with self._stoppable(stop.event):
                async with opened as means:
                    try:
                        async with beside(watch(means.journal, stop.event)):
                            ending = await execute(plan, means)
                    except (TargetDown, Incomplete):
                        if not stop.event.is_set():
                            raise
                        ending = Ending("stopped")  # the request in flight has no answer yet
                    finally:
                        with contextlib.suppress(LockHeld):
                            means.journal.settle()  # the latest answer
        journal = means.journal
        if ending.how == "stopped":
            assert means.portion  # noqa: S101 - made above
            now = means.portion.standing(journal.next_position())
            until = means.portion.until
            why = (
                now.held or now.what or ("its pace, or its jobs" if until else "more is to be done")
            )
            return Turn("running", why, until, now)
        summary = summarise(
            journal,
            plan=plan.name,
            target=target.name,
            followed=record.follow,
            ending=ending,
            duration=time.monotonic() - began,
        )
        journal.end(summary.status, ending.reason)
        return Turn(summary.status)

    @contextlib.contextmanager
    def _stoppable(self, stop: asyncio.Event) -> Iterator[None]:
        """Ended by the budget, or by a signal to the process."""
        loop = asyncio.get_running_loop()

        def from_outside() -> None:
            loop.call_soon_threadsafe(stop.set)

        self._stops.add(from_outside)
        if self._stopping:
            stop.set()
        timer = loop.call_later(self.budget, stop.set)
        try:
            yield
        finally:
            timer.cancel()
            self._stops.discard(from_outside)


@contextlib.contextmanager
def _left(store: Store, lease: Lease) -> Iterator[Callable[[Turn], None]]:
    """The lease waits for the next portion, also where this one fails; at the end it is let go."""
    told: list[Turn] = []
    try:
        yield told.append
    finally:
        turn = told[-1] if told else None
        if turn is None or turn.status == "running":
            until = max(turn.until, time.time()) if turn else time.time()
            with contextlib.suppress(LockHeld):  # somebody has taken the run over
                store.park(lease, until, _holder(turn))
        else:
            with holding(lease):
                pass


def _holder(turn: Turn | None) -> str:
    return WORKERS if turn else f"{WORKERS}, once the engine tries again what has just failed"


def _why(error: BackfillError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
