"""The clock of this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class SystemClock:
    """Meets `runner.execution.ports.Clock`; monotonic, so that a clock that jumps does no harm."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        import asyncio  # what only reads a state tells the time, and loads none of it

        try:
            await asyncio.wait_for(until.wait(), seconds)
        except TimeoutError:
            return
