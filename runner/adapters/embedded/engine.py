"""What stands in for Inngest's executor: events, runs, and the jobs that handlers do."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

import anyio.to_thread

Event: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[Event], Any | Awaitable[Any]]

CLAIM_SECONDS = 24 * 3600  # a run is claimed per (function, event id) (protocol page, section 2)
AT_ONCE = 8  # handlers at work
ENDED = frozenset({"Completed", "Failed", "Cancelled"})


@dataclass(slots=True)
class Run:
    id: str
    function: str
    event_id: str
    started_at: float
    status: str = "Scheduled"
    ended_at: float | None = None
    output: Any = None
    task: asyncio.Task[None] | None = None

    def answer(self) -> dict[str, Any]:
        """The run as `GET /v1/...` gives it (protocol page, section 3)."""
        return {
            "run_id": self.id,
            "run_started_at": _iso(self.started_at),
            "function_id": self.function,
            "function_version": 1,
            "environment_id": "00000000-0000-0000-0000-000000000000",
            "event_id": self.event_id,
            "status": self.status,
            "ended_at": None if self.ended_at is None else _iso(self.ended_at),
            "output": self.output,
        }


@dataclass(slots=True)
class Engine:
    """Keeps what was received in memory; nothing outlives the process."""

    handlers: Mapping[str, Sequence[Handler]]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    by_event: dict[str, list[Run]] = field(default_factory=dict)
    _claims: dict[tuple[str, str], float] = field(default_factory=dict)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def receive(self, internal_id: str, event: dict[str, Any]) -> None:
        """Store an event and start a run of each function that listens to it."""
        again = internal_id in self.events  # the same request under the same seed
        self.events[internal_id] = {**event, "received_at": self.clock()}
        if again:
            return
        for index, handler in enumerate(self.handlers.get(event["name"], ())):
            function = str(uuid5(NAMESPACE_URL, f"{event['name']}#{index}"))
            if self._claim(function, event.get("id")):
                self._start(function, handler, internal_id, event)

    def cancel(self, run: Run) -> None:
        if run.status not in ENDED:
            self._end(run, "Cancelled", None)
            if run.task:
                run.task.cancel()

    async def aclose(self) -> None:
        """Cancel what still runs, and wait for it."""
        tasks = [run.task for run in self.runs.values() if run.task and not run.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _claim(self, function: str, event_id: str | None) -> bool:
        if not event_id:
            return True
        now = self.clock()
        claimed = self._claims.get((function, event_id))
        if claimed is not None and now - claimed < CLAIM_SECONDS:
            return False
        self._claims[function, event_id] = now
        return True

    def _start(
        self, function: str, handler: Handler, internal_id: str, event: dict[str, Any]
    ) -> None:
        run = Run(self.new_id(), function, internal_id, self.clock())
        self.runs[run.id] = run
        self.by_event.setdefault(internal_id, []).append(run)
        run.task = asyncio.get_running_loop().create_task(self._work(run, handler, event))

    async def _work(self, run: Run, handler: Handler, event: dict[str, Any]) -> None:
        """Start at the event's `ts` where that is in the future, as a delayed run does."""
        delay = event.get("ts", 0) / 1000 - self.clock()
        if delay > 0:
            await asyncio.sleep(delay)
        async with self._gate:
            run.status = "Running"
            try:
                output = await _call(handler, event)
            except Exception as error:  # noqa: BLE001 - a handler may raise anything: the run fails
                self._end(run, "Failed", _described(error))
            else:
                self._end(run, "Completed", output)

    def _end(self, run: Run, status: str, output: Any) -> None:
        if run.status not in ENDED:
            run.status, run.output, run.ended_at = status, output, self.clock()


async def _call(handler: Handler, event: Event) -> Any:
    if inspect.iscoroutinefunction(handler):
        return await handler(event)
    return await anyio.to_thread.run_sync(handler, event)


def _described(error: Exception) -> dict[str, str]:
    return {
        "code": "step_errored",
        "name": type(error).__name__,
        "message": str(error),
        "stack": "".join(traceback.format_exception(error)),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
