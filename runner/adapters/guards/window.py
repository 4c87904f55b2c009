"""Hours outside which nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.execution.ports import Hold
from runner.model import WindowGuard, frozen
from runner.spec.opening import Opening, shown


@frozen
class Window:
    """`clock`: seconds since 1970."""

    spec: WindowGuard
    opening: Opening
    clock: Callable[[], float] = time.time

    @property
    def name(self) -> str:
        return "window"

    async def ask(self) -> Hold | None:
        now = self.clock()
        is_open, until = self.opening.state(now)
        if is_open:
            return None
        reason = f"outside its window ({self.spec.words}): it opens at {shown(until)}"
        return Hold(reason, until - now)
