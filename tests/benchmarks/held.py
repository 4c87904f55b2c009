"""A server that lets a run make one request, and never answers it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from tests.benchmarks.process import Process, start

_LOOK = 0.2  # seconds between two looks whether the process has ended by itself
_KILLED = -9


@dataclass(frozen=True, slots=True)
class Begun:
    """A process that was killed after its first request; `seconds`: from its start to that."""

    process: Process
    seconds: float


@dataclass(slots=True)
class Held:
    """An ASGI application whose first POST is never answered."""

    app: ASGIApp
    came: threading.Event = field(default_factory=threading.Event)
    at: float = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.at = time.perf_counter()
            self.came.set()
            await asyncio.Event().wait()
        await self.app(scope, receive, send)

    def first_request(self, command: Sequence[str], folder: Path) -> Begun:
        """Run the command until it has made a request, then kill it."""
        self.came.clear()
        running = start(command, folder)
        while not self.came.wait(_LOOK) and not running.over:
            pass
        running.kill()
        process = running.ended(_KILLED)
        return Begun(process, self.at - process.began)
