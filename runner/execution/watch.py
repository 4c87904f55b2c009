"""Keeps a run's lock, and listens for a request to cancel it, while the run waits or works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from runner.execution.ports import Journal

_EVERY = 1.0  # seconds
_LEASE_EVERY = 15  # of these


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` goes on until the block ends; where it fails, the block fails with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def watch(journal: Journal, stop: asyncio.Event) -> None:
    """Sets `stop` once the run is to be cancelled. Raises `LeaseLost` and `TargetError`."""
    while not stop.is_set():
        for _ in range(_LEASE_EVERY):
            if journal.control().wanted == "cancel":
                stop.set()
                break
            await asyncio.sleep(_EVERY)
        journal.keep_lease()
    while True:  # what is still under way may take a while
        await asyncio.sleep(_LEASE_EVERY * _EVERY)
        journal.keep_lease()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
