"""The clock of this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class SystemClock:
    """Implements `runner.execution.ports.Clock`; durations do not suffer if the wall clock
    jumps."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        import asyncio  # not loaded by commands that only read a state

        try:
            await asyncio.wait_for(until.wait(), seconds)
        except TimeoutError:
            return
