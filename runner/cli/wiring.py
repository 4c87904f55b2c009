"""The composition root: a resolved target and a journal become the means of a run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import httpx

from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi, trace_context
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, PreflightRefused, TargetDown
from runner.execution.limits import RequestLimits
from runner.execution.means import Means
from runner.execution.ports import Clock, Guard, GuardUnanswered, Journal, Resolver
from runner.execution.recover import Decision
from runner.execution.waits import Portion, Waits
from runner.model import (
    Database,
    ExecutionPlan,
    FileGuard,
    Observer,
    RunHead,
    StageProgress,
)
from runner.spec.secrets import redact

if TYPE_CHECKING:
    from runner.adapters.embedded.engine import Handler

# How long without any sign of life before an event without a job counts as one that no function
# listens to. The embedded server starts jobs as it takes events; a real one starts them seconds
# later under load, and its job lists may be 15 s old (protocol page, section 6).
EMBEDDED_GRACE, SERVER_GRACE = 0.5, 20.0


class SystemClock:
    """Meets `runner.execution.ports.Clock`; monotonic, so that a clock that jumps does no harm."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(until.wait(), seconds)
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class Stop:
    """Set by ^C or SIGTERM; the run ends after the request in flight."""

    event: asyncio.Event
    signals: list[signal.Signals]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is carried out, beside what its plan says; a grace of None is the target's own."""

    follow: bool
    grace: float | None
    limits: RequestLimits
    past_failures: bool = False
    pause_file: str | None = None
    notes: tuple[str, ...] = ()  # what the journal should know of how the run was asked for
    decision: Decision = None
    database: Database | None = None
    resolver: Resolver | None = None
    summary: Callable[[str], None] | None = None  # writes down what a run, by its id, has come to
    clock: Clock = field(default_factory=SystemClock)
    portion: Callable[[Waits], Portion] | None = None  # where the run is carried out in portions


@contextmanager
def stop_on_signals(observer: Observer) -> Iterator[Stop]:
    loop = asyncio.get_running_loop()
    stop = Stop(asyncio.Event(), [])

    def handle(number: signal.Signals) -> None:
        if stop.event.is_set():
            # A second ^C means now: the journal is written ahead, so nothing is lost by it.
            loop.remove_signal_handler(number)
            raise KeyboardInterrupt
        stop.signals.append(number)
        stop.event.set()
        observer.note("stopping after the request in flight")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # else `nohup` has asked for it to be passed over
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def open_means(
    plan: ExecutionPlan,
    target: Target,
    open_journal: Callable[[], Journal],
    observer: Observer,
    stop: Stop,
    settings: Settings,
) -> AsyncIterator[Means]:
    """Everything a run needs, connected; the embedded target's server lives as long as this.

    The journal is opened last: a target that cannot be followed leaves no run behind.
    """
    clock, random = settings.clock, SystemRandom()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds, stop.event)

    noting = Noting(observer)
    retry = Retry(sleep, random, noting.note, stop.event.is_set)
    async with (
        _transport(plan, target) as transport,
        open_client(transport) as client,
        _guards(plan, settings) as guards,
    ):
        grace = settings.grace
        if grace is None:
            grace = EMBEDDED_GRACE if target.kind == "embedded" else SERVER_GRACE
        jobs = HttpJobsApi(client, target, retry) if settings.follow else None
        if jobs:
            await _probe(jobs, target)
        if settings.portion is None:
            await _ask_once(guards)
        noting.journal = journal = open_journal()
        for note in settings.notes:
            noting.note(note)
        yield Means(
            events=HttpEventApi(client, target, retry, trace_context(os.environ)),
            jobs=jobs,
            journal=journal,
            clock=clock,
            observer=noting,
            random=random,
            stop=stop.event,
            grace=grace,
            limits=settings.limits,
            guards=guards,
            past_failures=settings.past_failures,
            decision=settings.decision,
            database=settings.database,
            resolver=settings.resolver,
            portion=settings.portion
            and settings.portion(Waits(clock, stop.event, journal.keep_lease)),
        )


@dataclass(slots=True)
class Noting:
    """An observer whose notes and waits are kept in the journal too, once there is one."""

    observer: Observer
    journal: Journal | None = None
    waits: dict[int, str | None] = field(default_factory=dict)

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self.observer.started(run_id, plan)

    def progress(self, progress: StageProgress) -> None:
        self.observer.progress(progress)
        before = self.waits.get(progress.stage)
        if self.journal and progress.waiting != before:
            self.waits[progress.stage] = progress.waiting
            self.journal.waiting(progress.stage, progress.waiting)

    def note(self, message: str) -> None:
        self.observer.note(message)
        if self.journal:
            self.journal.note(redact(message))


def _guards(plan: ExecutionPlan, settings: Settings) -> AbstractAsyncContextManager[list[Guard]]:
    specs = list(plan.guards)
    if settings.pause_file:
        specs.append(FileGuard(str(Path(settings.pause_file).resolve())))
    if not specs:
        return nullcontext([])
    from runner.adapters.guards.open import open_guards

    return open_guards(specs, os.environ, Path(plan.path).resolve().parent)


async def _ask_once(guards: Sequence[Guard]) -> None:
    """A guard that cannot be asked is better known before the run than in its middle."""
    for guard in guards:
        try:
            await guard.ask()
        except GuardUnanswered as error:
            message = f"the guard `{guard.name}` cannot be asked: {error}"
            raise PreflightRefused(message, hint="nothing was sent") from None


async def _probe(jobs: HttpJobsApi, target: Target) -> None:
    """Following must work before the first event is sent."""
    try:
        await jobs.probe()
    except TargetDown as error:
        hint = "nothing was sent; once it answers, say the same again"
        raise TargetDown(str(error), hint=hint) from None
    except KeyRefused as error:
        if target.signing_keys:
            raise
        raise PreflightRefused(str(error), hint=error.hint) from None


@asynccontextmanager
async def _transport(
    plan: ExecutionPlan, target: Target
) -> AsyncIterator[httpx.AsyncBaseTransport | None]:
    if target.kind != "embedded":
        yield None
        return
    from runner.adapters.embedded.server import create_app

    app = create_app(load_plan_handlers(plan.handlers, plan.path))
    try:
        yield httpx.ASGITransport(app)
    finally:
        await app.state.engine.aclose()


def load_plan_handlers(handlers: Mapping[str, str], plan_path: str) -> Mapping[str, Handler]:
    from runner.adapters.embedded.handlers import load_handlers

    return load_handlers(handlers, Path(plan_path).resolve().parent)
