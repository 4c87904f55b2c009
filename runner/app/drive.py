"""The one driver of a run, in its own process and in a worker's step."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from runner.adapters.inngest.target import Target
from runner.app.notify import Outbox, empty
from runner.app.session import Session, blocking
from runner.errors import (
    BackfillError,
    Incomplete,
    LeaseLost,
    PreflightRefused,
    TargetDown,
    TargetError,
)
from runner.execution.context import Ending, RunContext, RunOptions
from runner.execution.gate import ask, beside, watch
from runner.execution.pacing import Step, Waits
from runner.execution.ports import Guard, GuardUnanswered, Journal, Resolver
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import (
    ExecutionPlan,
    FileGuard,
    LiveDatabase,
    Observer,
    Patience,
    RunHead,
    StageRecord,
    Summary,
    Waiting,
    frozen,
)

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


@frozen
class Drive:
    """What to drive.

    `journal` opens the run's journal, after the target has answered, so that a target that cannot
    be followed leaves no run behind. `environment`: see `RunRecord`. `notes`: what the journal
    should record of the request. `begun`: the run has made requests before. `step`: set if a worker
    drives the run step by step."""

    plan: ExecutionPlan
    target: Target
    journal: Callable[[], Journal]
    options: RunOptions
    database: LiveDatabase | None = None
    environment: str = ""
    resolver: Resolver | None = None
    notes: tuple[str, ...] = ()
    begun: bool = False
    step: Callable[[Waits], Step] | None = None


async def drive(
    session: Session, what: Drive, observer: Observer, stop: asyncio.Event, noted: set[str]
) -> tuple[Ending, RunContext]:
    """Execute the plan until it ends, or until `stop` is set. `noted`: see `Outbox`.

    Raises the error that ended it early; the run can be resumed from its journal.
    """
    async with _opened(session, what, observer, stop) as context:
        try:
            store, run_id = session.store, context.journal.run_id
            outbox = Outbox(store, run_id, session.environ, observer.note, noted)
            async with beside(outbox.keep()), beside(watch(context.journal, stop)):
                return await execute(what.plan, context), context
        except (TargetDown, Incomplete):
            if not stop.is_set():
                raise
            return Ending("stopped"), context  # the request in flight has no answer yet


def drive_here(session: Session, what: Drive) -> Summary:
    """Drive the run in this process until it ends or a signal stops it.

    Raises the error that ended it early, after the reporter got the summary; there is none if
    another process has taken the run over.
    """
    journal: Journal | None = None
    error: BackfillError | None = None
    ending, noted = Ending("stopped"), set[str]()
    signals: list[signal.Signals] = []

    def opened() -> Journal:
        nonlocal journal
        journal = what.journal()
        return journal

    outer = {number: signal.getsignal(number) for number in _SIGNALS}

    async def here(observer: Observer) -> Ending:
        with _stopped_by_signals(observer, outer, signals, lambda: journal is not None) as stop:
            loop = asyncio.get_running_loop()
            session.stop = lambda: _in_loop(loop, stop.set)
            if signals:
                stop.set()
            ended, _ = await drive(session, replace(what, journal=opened), observer, stop, noted)
        return ended

    def interrupt() -> None:
        signals.append(signal.SIGINT)
        session.stop()

    with session.reporter.driving() as observer:
        try:
            ending = blocking(here(observer), interrupt)
        except BackfillError as caught:
            error = caught
        except KeyboardInterrupt:
            signals.append(signal.SIGINT)
    if journal is None or isinstance(error, LeaseLost):
        raise error or KeyboardInterrupt
    try:
        summary = end(journal, what, ending, error, signals)
        session.reporter.ended(summary)
    except TargetError as unreachable:
        raise error or unreachable from None  # without the journal there is no summary
    empty(session, summary.run_id, noted=noted)
    if error:
        raise error
    return replace(summary, interrupted=signal.SIGINT in signals)


def end(
    journal: Journal,
    what: Drive,
    ending: Ending,
    error: BackfillError | None = None,
    signals: Sequence[signal.Signals] = (),
) -> Summary:
    """Record how the run ended, and why: the first of `signals` may have stopped it.

    Raises `LeaseLost` if another process has taken it over.
    """
    summary = summarise(
        journal,
        plan=what.plan.name,
        target=what.target.name,
        followed=what.options.follow,
        ending=ending,
    )
    if partial := what.plan.partial:
        summary = replace(summary, partial=partial.selectors.words)
    why = str(error) if error else ending.reason
    if signals and why is None and summary.status == "incomplete":
        why = f"stopped by {signals[0].name}"
    journal.end(summary.status, why)
    return summary


@asynccontextmanager
async def _opened(
    session: Session, what: Drive, observer: Observer, stop: asyncio.Event
) -> AsyncIterator[RunContext]:
    """Connect everything that the run needs; open the journal last."""
    noting, options = Noting(observer, goes_on=what.step is not None), what.options
    given = (options.give_up_after, what.plan.give_up_after)
    patience = Patience.of(*given, begun=what.begun)
    connection = session.connect(
        what.target, what.plan, note=noting.note, away=noting.away, stop=stop, patience=patience
    )
    async with (
        connection as server,
        _guards(session, what) as guards,
        _patient(session, patience, observer),
    ):
        if options.follow:
            await server.may_be_followed()
        if what.step is None:
            await _ask_once(guards, stop, observer)
        noting.journal = journal = what.journal()
        for note in what.notes:
            noting.note(note)
        yield RunContext(
            events=server.events,
            jobs=server.jobs if options.follow else None,
            journal=journal,
            clock=session.clock,
            observer=noting,
            random=SystemRandom(),
            stop=stop,
            grace=what.target.grace if options.grace is None else options.grace,
            options=options,
            guards=guards,
            database=what.database,
            resolver=what.resolver,
            patiently=server.retry.patiently,
            step=what.step and what.step(Waits(session.clock, stop, journal.keep_lease)),
        )


@asynccontextmanager
async def _patient(session: Session, patience: Patience, observer: Observer) -> AsyncIterator[None]:
    with session.store.patient(patience, observer.note):
        yield


@dataclass(slots=True)
class Noting:
    """An observer that also writes notes and waits into the journal, once there is one.

    `goes_on`: a worker's step, which may still be in the wait of the previous step until it sends.
    """

    observer: Observer
    journal: Journal | None = None
    goes_on: bool = False
    begun: dict[int, int] = field(default_factory=dict)  # by stage: events sent before this step
    waits: dict[int, Waiting | None] = field(default_factory=dict)
    latest: StageRecord | None = None  # the run's latest progress
    without: Waiting | None = None  # the wait for a server that is away; it hides other waits

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self.observer.started(run_id, plan)

    def progress(self, progress: StageRecord) -> None:
        self.latest = progress
        if self.without and not progress.done:
            progress = progress._replace(waiting=self.without, left=None)
        self.observer.progress(progress)
        number = progress.number
        sends = progress.sent > self.begun.setdefault(number, progress.sent)
        is_over = self.goes_on and number not in self.waits and (sends or progress.done)
        if self.journal and (is_over or progress.waiting != self.waits.get(number)):
            self.waits[number] = progress.waiting
            self.journal.waiting(number, progress.waiting)

    def away(self, wait: Waiting | None) -> None:
        self.without = wait
        if self.latest:
            self.progress(self.latest)

    def note(self, message: str) -> None:
        self.observer.note(message)
        if self.journal:
            self.journal.note(message)


def _guards(session: Session, what: Drive) -> AbstractAsyncContextManager[Sequence[Guard]]:
    specs = list(what.plan.guards)
    if what.options.pause_file:
        specs.append(FileGuard(os.path.realpath(what.options.pause_file)))
    if not specs:
        return nullcontext(())
    from runner.adapters.guards import open_guards

    plan, folder = what.plan.path, Path(what.plan.path).resolve().parent
    environ = session.environ_in(plan, what.environment)
    found = session.environment(plan, what.environment)
    return open_guards(
        specs, environ, folder, session.clock.time, found.database if found else None
    )


async def _ask_once(guards: Sequence[Guard], stop: asyncio.Event, observer: Observer) -> None:
    """Ask each guard once before the run, so that a broken one does not stop it midway."""
    for guard in guards:
        if stop.is_set():
            return
        late = f"waiting: for the guard `{guard.name}` to answer"
        try:
            await ask(guard, stop, partial(observer.note, late))
        except GuardUnanswered as error:
            message = f"the guard `{guard.name}` cannot be asked: {error}"
            raise PreflightRefused(message, hint="without its answer, nothing is sent") from None


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
        loop.call_soon_threadsafe(call)


_SIGNALS = [one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP")]


@contextmanager
def _stopped_by_signals(
    observer: Observer,
    outer: Mapping[signal.Signals, Any],
    came: list[signal.Signals],
    begun: Callable[[], bool],
) -> Iterator[asyncio.Event]:
    """Stop on ^C, SIGTERM and SIGHUP: yield the event they set; those that come go to `came`.

    `outer`: the handlers from before this loop, whose own one for ^C would cancel the request in
    flight; until the run has `begun`, it does. Only the main thread handles signals."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = []
    if threading.current_thread() is threading.main_thread():
        # An ignored SIGHUP stays so: see `nohup`.
        numbers = [one for one in outer if one.name != "SIGHUP" or outer[one] != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: signal.Signals) -> None:
        if stop.is_set():
            # A second ^C stops at once: the journal is written ahead, so nothing is lost.
            loop.remove_signal_handler(number)
            raise KeyboardInterrupt
        came.append(number)
        stop.set()
        observer.note("stopping after the request in flight")
        known = (outer if begun() else before)[number]
        if callable(known) and known is not signal.default_int_handler:
            known(number, None)  # a caller that drives several runs stops as well

    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
