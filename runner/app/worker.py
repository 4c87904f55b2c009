"""A worker's step: drive a run until it waits, and let the engine do the waiting.

Requests and results are JSON, which the engine keeps; what happens is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from runner.adapters.journal.leases import WORKERS, Lease, holding
from runner.app.drive import Drive, drive, end
from runner.app.notify import empty
from runner.app.plan_files import relocated
from runner.app.preflight import followed, refuse_another_address
from runner.app.resolve import resolver_of
from runner.app.session import Session
from runner.errors import (
    BackfillError,
    Incomplete,
    KeyRefused,
    LockHeld,
    TargetError,
)
from runner.execution.context import MAX_BYTES, MAX_EVENTS, Decision, RequestLimits, RunOptions
from runner.execution.pacing import Checkpoint, Step, Waits
from runner.model import Observer, RunRecord, frozen
from runner.spec.secrets import redact

BUDGET = 20.0  # seconds that a step works
_LAST_LOOK = 0.25  # the share of it that is left for a last look at its jobs
_UNKNOWN = 60.0  # seconds for which a worker that lacks a run's state is not ready
_TELLING = 3.0  # seconds for notifications at the end of a step
_LOCKED = 15.0  # seconds until a held lock is tried again
_LOG = logging.getLogger("backfill.worker")


@frozen
class StepRequest:
    """What a run was submitted with; see `runner.execution.pacing.Step`."""

    run: str
    submitted_at: float = 0.0
    failed: int = 0
    ended: int = 0
    past_failures: bool = False
    unanswered: Decision = None
    request_events: int = MAX_EVENTS
    request_bytes: int = MAX_BYTES

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> StepRequest:
        """Read the event's data; ignore keys for others."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})


@frozen
class StepResult:
    """The result of a step; `until`: when the next one is due, while `status` is running.

    The engine keeps it, so it is small.
    """

    status: str
    why: str = ""
    until: float = 0.0
    checkpoint: Checkpoint | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> StepResult:
        checkpoint = data.get("checkpoint")
        if checkpoint is not None:
            pace = checkpoint.get("pace")
            checkpoint = Checkpoint(**{**checkpoint, "pace": tuple(pace) if pace else None})
        return cls(**{**data, "checkpoint": checkpoint})

    def resumed(self, now: float) -> Checkpoint | None:
        """Return where the next step begins."""
        missed = max(0.0, now - self.until) if self.until else 0.0
        return self.checkpoint and self.checkpoint.after(missed, now)


@dataclass
class Worker:
    """Drives runs of one state step by step, each step in the thread that calls it.

    Meets `runner.adapters.worker.function.Driver`. `opened`: opens a session of the state for one
    step. `observer`: makes one for a run's id. `plans`: files and folders in which to find a plan's
    inputs again. `grace`: how long a job may take to appear; None: the target's own.
    """

    opened: Callable[[], Session]
    observer: Callable[[str], Observer]
    plans: Sequence[str] = ()
    grace: float | None = None
    budget: float = BUDGET
    _stops: set[Callable[[], None]] = field(default_factory=set)
    _stopping: bool = False
    _unknown: Callable[[], float] | None = None  # seconds since the latest such request
    _noted: dict[str, set[str]] = field(default_factory=dict)  # by run, see `Outbox`

    @property
    def identity(self) -> str:
        """The id of its state."""
        with self.opened() as session:
            return session.store.identity

    def unknown(self) -> str | None:
        """Return why another worker should be asked: the latest request was, a moment ago, for a
        run that is not in this state."""
        if self._unknown is None or self._unknown() > _UNKNOWN:
            return None
        return "it was asked for a run that is not in its state"

    def drive_step(
        self, request: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        """Drive the run until it waits. Raises `TargetError` and `Incomplete` for what may pass by
        itself; the journal has the run's progress."""
        wanted = StepRequest.read(request)
        try:
            result = self.step(wanted, StepResult.read(before) if before else None)
        except BackfillError as error:
            _LOG.warning("%s; trying again", error, extra={"run": wanted.run})
            raise
        _LOG.info("%s", _in_words(result), extra={"run": wanted.run})
        return asdict(result)

    def give_up(self, request: Mapping[str, Any], why: str) -> None:
        """End a run as incomplete after its last attempt has failed."""
        run = StepRequest.read(request).run
        _LOG.error("incomplete: %s", why, extra={"run": run})
        with self.opened() as session:
            record = session.store.known(run)
            if record and record.status == "running":
                held = session.store.lock(record.plan, record.address, record.id)
                with holding(held) as lease:
                    _give_up(session, record, lease, why)
            empty(session, run)

    def step(self, request: StepRequest, before: StepResult | None) -> StepResult:
        """Do what `drive_step` does, with typed values."""
        with self.opened() as session:
            record = session.store.known(request.run)
            clock, asked = session.clock, session.clock.monotonic()
            self._unknown = None if record else lambda: clock.monotonic() - asked
            if record is None:  # another worker may have it: let the engine try again
                hint = "workers must use the state that the run was submitted from"
                raise TargetError(f"there is no run {request.run} in this state; {hint}", hint=hint)
            if record.status != "running":
                return StepResult(record.status)
            checkpoint = before.resumed(clock.time()) if before else None
            try:
                lease = session.store.lock(record.plan, record.address, record.id, worker=True)
            except LockHeld as held:
                return self._locked(session, held, checkpoint)
            began = clock.monotonic()
            with _left(session, lease) as leave:
                result = self._step(session, record, lease, request, checkpoint)
                leave(result)
            left = self.budget - (clock.monotonic() - began)
            ended = result.status != "running"
            empty(session, record.id, min(_TELLING, max(0.0, left)), again=ended)
            return result

    def stop(self) -> None:
        """Stop all steps after the request in flight; other workers continue. Thread-safe."""
        self._stopping = True
        for stop in list(self._stops):
            stop()

    def _locked(
        self, session: Session, held: LockHeld, checkpoint: Checkpoint | None
    ) -> StepResult:
        return StepResult("running", str(held), session.clock.time() + _LOCKED, checkpoint)

    def _step(
        self,
        session: Session,
        record: RunRecord,
        lease: Lease,
        request: StepRequest,
        checkpoint: Checkpoint | None,
    ) -> StepResult:
        try:
            what = self._prepared(session, record, lease, request, checkpoint)
            return asyncio.run(self._driven(session, record, what))
        except LockHeld as lost:
            return self._locked(session, lost, checkpoint)
        except KeyRefused as refused:
            why = _why(refused)
        except (TargetError, Incomplete):
            raise
        except BackfillError as refused:
            why = _why(refused)
        return _give_up(session, record, lease, why)

    def _prepared(
        self,
        session: Session,
        record: RunRecord,
        lease: Lease,
        request: StepRequest,
        checkpoint: Checkpoint | None,
    ) -> Drive:
        plan = session.store.plan_of(record)
        plan = relocated(plan, self.plans)
        target = session.target(record.target, plan.path, record.environment)
        refuse_another_address(record, target)
        options = RunOptions(
            follow=record.follow,
            grace=self.grace,
            limits=RequestLimits(request.request_events, request.request_bytes),
            past_failures=request.past_failures,
            unanswered=request.unanswered,
        )
        followed(plan, target, options)
        database = session.databases(plan.path, record.environment)

        def step(waits: Waits) -> Step:
            return Step(
                waits.clock,
                waits.stop,
                waits.keep_lease,
                held=checkpoint.held if checkpoint else "",
                before=checkpoint,
                submitted_at=request.submitted_at,
                failed=request.failed,
                ended=request.ended,
                last_look=self.budget * _LAST_LOOK,
            )

        return Drive(
            plan,
            target,
            lambda: session.store.journal(record, lease),
            options,
            database=database.for_a_run(),
            environment=record.environment,
            resolver=resolver_of(session, record, plan, database),
            begun=True,
            step=step,
        )

    async def _driven(self, session: Session, record: RunRecord, what: Drive) -> StepResult:
        stop = asyncio.Event()
        with self._stoppable(stop):
            noted = self._noted.setdefault(record.id, set())
            ending, context = await drive(session, what, self.observer(record.id), stop, noted)
        if ending.how != "stopped":
            self._noted.pop(record.id, None)
            return StepResult(end(context.journal, what, ending).status)
        step = context.step
        assert step  # noqa: S101 - made above
        now = step.checkpoint()
        why = "its pace, or its jobs" if step.until else "more is to be done"
        return StepResult("running", now.held or now.what or why, step.until, now)

    @contextlib.contextmanager
    def _stoppable(self, stop: asyncio.Event) -> Iterator[None]:
        """Set `stop` when the budget is used up, or on a signal to the process."""
        loop = asyncio.get_running_loop()

        def from_outside() -> None:
            loop.call_soon_threadsafe(stop.set)

        self._stops.add(from_outside)
        if self._stopping:
            stop.set()
        timer = loop.call_later(self.budget * (1 - _LAST_LOOK), stop.set)
        try:
            yield
        finally:
            timer.cancel()
            self._stops.discard(from_outside)


def _give_up(session: Session, record: RunRecord, lease: Lease, why: str) -> StepResult:
    journal, why = session.store.journal(record, lease), redact(why)
    journal.note(why)
    journal.end("incomplete", why)
    return StepResult("incomplete", why)


@contextlib.contextmanager
def _left(session: Session, lease: Lease) -> Iterator[Callable[[StepResult], None]]:
    """Park the lease for the next step, even if this one fails; release it if the run has ended."""
    results: list[StepResult] = []
    try:
        yield results.append
    finally:
        result = results[-1] if results else None
        if result is None or result.status == "running":
            now = session.clock.time()
            until = max(result.until, now) if result else now
            with contextlib.suppress(LockHeld):  # another process has taken the run over
                session.store.park(lease, until, _holder(result))
        else:
            with holding(lease):
                pass


def _holder(result: StepResult | None) -> str:
    return (
        WORKERS
        if result
        else f"{WORKERS}, when the Inngest server retries the step that just failed"
    )


def _why(error: BackfillError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)


def _in_words(result: StepResult) -> str:
    if result.status != "running":
        return result.status + (f": {result.why}" if result.why else "")
    if not result.until:
        return "goes on at once"
    at = datetime.fromtimestamp(result.until, UTC).strftime("%H:%M:%S UTC")
    return f"goes on at {at}: {result.why}"
