"""A server under contract: the embedded one or a live one."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import httpx

EVENT_KEY = "contract-event-key"
SIGNING_KEY = "signkey-test-0123456789abcdef"

# Each pytest-xdist process serves its own functions, with its own events, to the one live server:
# a process that ends removes its functions, while others go on.
OWN = f"contract{os.environ.get('PYTEST_XDIST_WORKER', '')}"
# The functions that every server under contract serves, by the events that start them.
COMPLETES = f"{OWN}/completes"  # returns {"echo": <the event's data>}
FAILS = f"{OWN}/fails"  # raises ValueError("there is no such repository")
HOLDS = f"{OWN}/holds"  # runs until it is cancelled
STARTS_TWO = f"{OWN}/starts.two"  # two functions, which return "first" and "second"
UNHEARD = "contract/unheard"  # no function

T = TypeVar("T")
Json = Any


@dataclass(frozen=True, slots=True)
class Target:
    client: httpx.AsyncClient
    live: bool
    _fresh: itertools.count[int] = field(default_factory=itertools.count)

    async def post(self, body: Json, seed: str | None = None) -> httpx.Response:
        """Send `body`: bytes as they are, anything else as JSON."""
        headers = {} if seed is None else {"x-inngest-event-id-seed": seed}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self.client.post(f"/e/{EVENT_KEY}", headers=headers, **content)

    async def send(self, *events: Json, seed: str | None = None) -> list[str]:
        """Send `events`, which must all be accepted; return their internal ids."""
        response = await self.post(list(events), seed)
        assert response.status_code == 200, response.text
        ids: list[str] = response.json()["ids"]
        assert len(ids) == len(events)
        return ids

    async def get(self, path: str, **query: str) -> Json:
        """Return the `data` of an answer, bypassing the server's cache."""
        response = await self.client.get(path, params=query | {"fresh": str(next(self._fresh))})
        assert response.status_code == 200, response.text
        answer = response.json()
        assert "error" not in answer, answer
        return answer["data"]

    async def runs(self, internal_id: str) -> list[Json]:
        found: list[Json] = await self.get(f"/v1/events/{internal_id}/runs")
        return found

    async def one_run(self, internal_id: str, is_there: Callable[[Json], bool]) -> Json:
        """Return the event's only run, once `is_there` is true for it."""

        async def look() -> Json:
            return next(filter(is_there, await self.runs(internal_id)), None)

        run = await eventually(look)
        assert len(await self.runs(internal_id)) == 1
        return run

    async def ended(self, internal_id: str) -> Json:
        """Return the event's only run, once it has ended. The status of a live server's run comes
        from its answer about the run: the one about the event may stay outdated forever."""
        run = await self.one_run(internal_id, lambda run: run["ended_at"] is not None)
        if self.live:
            run["status"] = (await self.get(f"/v1/runs/{run['run_id']}"))["status"]
        return run

    async def going_on(self, internal_id: str) -> Json:
        """Return the event's only run, once it is running; a live server may keep showing that it
        waits."""

        def runs(run: Json) -> bool:
            return run["status"] in (("Running", "Scheduled") if self.live else ("Running",))

        return await self.one_run(internal_id, runs)

    async def stored(self, internal_id: str) -> Json:
        """Return the event; a live server stores it a moment after its answer."""

        async def look() -> Json:
            return (await self.client.get(f"/v1/events/{internal_id}")).json().get("data")

        return await eventually(look)


async def eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    """Call `look` until it finds something, and return that."""
    with anyio.fail_after(20):
        while (found := await look()) is None:  # noqa: ASYNC110 - the other side is HTTP
            await anyio.sleep(0.01)
        return found


def unique(name: str = "event") -> str:
    """Return an idempotency key that no other test, and no earlier run of the suite, has used."""
    return f"{name}-{uuid.uuid4()}"
