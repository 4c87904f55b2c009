"""The clock of this machine."""

from __future__ import annotations

import asyncio
import time


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
