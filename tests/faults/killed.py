"""`backfill` in a process that is killed at a named point, before or after its Nth passage.

SIGKILL flushes, closes and prints nothing, like a power failure.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any

from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.execution.progress import Tracker

POINTS: dict[str, tuple[type[Any], str]] = {
    "run-record": (Store, "start"),
    "chunk-record": (JournalWriter, "begin_chunk"),
    "request": (HttpEventApi, "_post"),
    "answer": (HttpEventApi, "send"),
    "accepted": (JournalWriter, "accept"),
    "accepted-record": (JournalWriter, "settle"),
    "job-record": (JournalWriter, "record"),
    "stage-end": (Tracker, "ended"),
    "run-end": (JournalWriter, "end"),
    "round-record": (JournalWriter, "begin_round"),
    "check-record": (JournalWriter, "keep_check"),
    "answer-record": (JournalWriter, "remember"),
}
OF_DRAINS = ("round-record", "check-record", "answer-record")  # plain runs never get there


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(method: Callable[..., Any], when: str, left: int) -> Callable[..., Any]:
    def due() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def call(*arguments: Any, **named: Any) -> Any:
        now = due()
        if now and when == "before":
            _die()
        result = method(*arguments, **named)
        if now:
            _die()
        return result

    async def call_later(*arguments: Any, **named: Any) -> Any:
        now = due()
        if now and when == "before":
            _die()
        result = await method(*arguments, **named)
        if now:
            _die()
        return result

    return call_later if inspect.iscoroutinefunction(method) else call


def killed_at(point: str, when: str, number: str) -> None:
    """Have this process killed at that point."""
    owner, name = POINTS[point]
    setattr(owner, name, _deadly(getattr(owner, name), when, int(number)))
