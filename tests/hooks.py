"""A webhook that remembers what it was told, and may refuse or hang."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.cli.conftest import served


@dataclass
class Hook:
    """`refusals`: the statuses of its first answers; `hangs`: it gives none. What it is told once
    more, as of a run that ended while an answer was awaited, it takes for the same."""

    refusals: list[int] = field(default_factory=list)
    hangs: bool = False
    told: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    url: str = ""

    @property
    def events(self) -> Sequence[str]:
        return [str(body.get("event")) for body in self.told]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = json.loads(await request.body())
        assert request.method == "POST"
        self.tries += 1
        if self.hangs:
            await asyncio.sleep(30)
        status = self.refusals.pop(0) if self.refusals else 200
        if status == 200 and body not in self.told:
            self.told.append(body)
        await Response(status_code=status)(scope, receive, send)


@contextmanager
def listening(hook: Hook) -> Iterator[Hook]:
    with served(hook) as origin:
        hook.url = f"{origin}/services/T000/B000/a-secret-path"
        yield hook
