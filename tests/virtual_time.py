"""Time that passes by itself where everything waits for it: hours take no time, side by side too.

`FakeClock` adds up the sleeps of tasks that sleep side by side; where that matters, this is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from runner.adapters.clock import SystemClock

T = TypeVar("T")
_SOON = 0.01  # real seconds between two looks at work in threads, for which no time passes


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose clock is moved on to the next timer as soon as there is nothing else to do."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._passed, self._threads = 0.0, 0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            if self._threads or not timeout or timeout < 0:
                return select(min(timeout or 0.0, _SOON) if timeout is not None else timeout)
            if not (ready := select(0)):
                self._passed += timeout
                clock.now += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._passed  # counted from 0, so that no timer is lost to rounding

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        """No time passes for it: from Python 3.12 on the loop bounds it by some of its own."""
        await super().shutdown_default_executor()

    def _done(self, _future: object) -> None:
        self._threads -= 1


@dataclass
class VirtualClock(SystemClock):
    """Meets `Clock`; `run` runs a coroutine in its time, which goes on from one to the next."""

    now: float = 1_750_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(work)
