"""Events and runs in memory: which runs an event starts, and how they end."""

from __future__ import annotations

import asyncio
import copy
import heapq
import inspect
import traceback
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias
from uuid import NAMESPACE_OID, uuid5

import orjson
from anyio import to_thread

from runner.adapters.embedded.ingest import Event, Seed
from runner.model import frozen

Handler: TypeAlias = Callable[[Mapping[str, Any]], Any | Awaitable[Any]]
Status = Literal["Scheduled", "Running", "Completed", "Failed", "Cancelled"]

CONCURRENCY = 8
CLAIM_SECONDS = 24 * 60 * 60
_LEADING = (__name__, "anyio.")


@frozen
class Function:
    """A handler and its identity; the id is the same at each start of the server.

    `name`: its name in lists; `event`: what starts it.
    """

    id: str
    name: str
    event: str
    handler: Handler


@frozen
class Run:
    """A run and its current state. `output` is JSON."""

    id: str
    function: Function
    event: Event
    started_at: float
    status: Status = "Scheduled"
    ended_at: float | None = None
    output: bytes | None = None


class Engine:
    """Holds every event and run; runs at most `CONCURRENCY` handlers at a time.

    It lives on the event loop of its first event with a handler. There are no retries: a handler
    that raises has failed.
    """

    def __init__(
        self, handlers: Mapping[str, Handler | Sequence[Handler]], clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._functions = {name: _functions(name, given) for name, given in handlers.items()}
        self._events: dict[str, Event] = {}
        self._runs: dict[str, Run] = {}
        self._order: list[str] = []  # run ids in the order in which they were queued, so by time
        self._place: dict[str, int] = {}
        self._runs_of: dict[str, list[str]] = {}  # by the event's internal id
        self._claims: dict[tuple[str, str], float] = {}  # (function, event id) -> until when
        self._ready: deque[str] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: dict[str, asyncio.Task[tuple[Status, bytes]]] = {}

    def publish(self, event: Event) -> None:
        """Store the event once, and start a run of each function that has not claimed its id."""
        self._events.setdefault(event.internal_id, event)
        for function in self._functions.get(event.name, ()):
            claim = (function.id, event.id)
            if self._claims.get(claim, 0.0) <= event.received_at:
                self._claims[claim] = event.received_at + CLAIM_SECONDS
                self._schedule(function, event)

    @property
    def functions(self) -> Sequence[Function]:
        return [function for found in self._functions.values() for function in found]

    def event(self, internal_id: str) -> Event | None:
        return self._events.get(internal_id)

    def latest_events(
        self, limit: int, name: str | None, before: str | None, oldest: float, newest: float
    ) -> list[Event]:
        """Return the events with the highest internal ids below `before`, highest first."""
        wanted = (
            event
            for event in self._events.values()
            if oldest <= event.received_at <= newest
            and (name is None or event.name == name)
            and (before is None or event.internal_id < before)
        )
        return heapq.nlargest(limit, wanted, key=lambda event: event.internal_id)

    def run(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def runs_of(self, internal_id: str) -> Iterable[Run]:
        return (self._runs[run_id] for run_id in self._runs_of.get(internal_id, ()))

    def runs_from(self, moment: float, after: str | None, *, backward: bool) -> Iterator[Run]:
        """Yield the runs queued since `moment` in order, or `backward`, the latest first.

        `after`: the last run of the previous page.
        """
        if backward:
            start = self._place[after] - 1 if after else len(self._order) - 1
            places = range(start, -1, -1)
        else:
            first = bisect_left(self._order, moment, key=lambda id_: self._runs[id_].started_at)
            places = range(self._place[after] + 1 if after else first, len(self._order))
        return (self._runs[self._order[place]] for place in places)

    def cancel(self, run: Run) -> None:
        """End the run at once, unless it has ended.

        An async handler is cancelled while it waits. A sync one continues in its thread, which
        cannot be stopped, and its result is dropped.
        """
        if run.ended_at is not None:
            return
        self._end(run.id, "Cancelled", b"{}")
        if timer := self._timers.pop(run.id, None):
            timer.cancel()
        if task := self._tasks.get(run.id):
            task.cancel()

    async def aclose(self) -> None:
        """Cancel every run that has not ended."""
        tasks = list(self._tasks.values())
        for run in list(self._runs.values()):
            self.cancel(run)
        if tasks:
            await asyncio.wait(tasks)

    def _schedule(self, function: Function, event: Event) -> None:
        run = Run(Seed.fresh(event.received_at).ulid(0), function, event, event.received_at)
        self._runs[run.id] = run
        self._place[run.id] = len(self._order)
        self._order.append(run.id)
        self._runs_of.setdefault(event.internal_id, []).append(run.id)
        delay = event.ts / 1000 - self._clock()
        if delay <= 0:
            self._make_ready(run.id)
        else:
            loop = asyncio.get_running_loop()
            self._timers[run.id] = loop.call_later(delay, self._make_ready, run.id)

    def _make_ready(self, run_id: str) -> None:
        self._timers.pop(run_id, None)
        self._ready.append(run_id)
        self._start_ready()

    def _start_ready(self) -> None:
        while self._ready and len(self._tasks) < CONCURRENCY:
            run = self._runs[self._ready.popleft()]
            if run.status != "Scheduled":  # cancelled while it waited
                continue
            self._runs[run.id] = replace(run, status="Running")
            task = asyncio.get_running_loop().create_task(_perform(run))
            self._tasks[run.id] = task
            task.add_done_callback(partial(self._finish, run.id))

    def _finish(self, run_id: str, task: asyncio.Task[tuple[Status, bytes]]) -> None:
        del self._tasks[run_id]
        if self._runs[run_id].status == "Running":
            if task.cancelled():  # by the handler itself: the run must end all the same
                self._end(run_id, "Failed", _failure(asyncio.CancelledError("cancelled itself")))
            else:
                self._end(run_id, *task.result())
        self._start_ready()

    def _end(self, run_id: str, status: Status, output: bytes) -> None:
        run = self._runs[run_id]
        self._runs[run_id] = replace(run, status=status, ended_at=self._clock(), output=output)


def _functions(name: str, given: Handler | Sequence[Handler]) -> tuple[Function, ...]:
    handlers = given if isinstance(given, Sequence) else (given,)
    return tuple(
        Function(
            str(uuid5(NAMESPACE_OID, f"{name}#{index}")),
            f"{name}-{index + 1}" if index else name,
            name,
            handler,
        )
        for index, handler in enumerate(handlers)
    )


async def _perform(run: Run) -> tuple[Status, bytes]:
    try:
        return "Completed", orjson.dumps(await _call(run.function.handler, run.event))
    except (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of an extension module is no Exception
        return "Failed", _failure(error)


async def _call(handler: Handler, event: Event) -> Any:
    # A copy: changes by a handler are neither stored nor visible to the next handler.
    data = copy.deepcopy(event.data) or {}
    given = {"name": event.name, "data": data, "id": event.id, "ts": event.ts}
    # In a thread, the coroutine of a cancelled run would be dropped and never awaited.
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        return await handler(given)
    # Abandoned on cancel: the run ends at once, whatever the thread is doing.
    result = await to_thread.run_sync(handler, given, abandon_on_cancel=True)
    return await result if inspect.isawaitable(result) else result


def _failure(error: BaseException) -> bytes:
    # Unlike str(error), this survives an exception whose own `__str__` fails.
    described = traceback.TracebackException.from_exception(
        error.with_traceback(_own_traceback(error))
    )
    failure = {
        "code": "unknown",  # the server's code for an error outside of any step
        "message": str(described),
        "name": type(error).__name__,
        "stack": "".join(described.format()),
    }
    # Lone surrogates, as in the name of a file that is not UTF-8, are invalid in JSON.
    return orjson.dumps({k: v.encode(errors="replace").decode() for k, v in failure.items()})


def _own_traceback(error: BaseException) -> TracebackType | None:
    """Return the handler's own frames, without those that lead to it."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_globals.get("__name__", "").startswith(_LEADING):
        frames = frames.tb_next
    return frames
