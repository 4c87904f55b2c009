"""Examine a server before anything is sent; nothing here starts work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

from runner.adapters.http import Answer, Client
from runner.adapters.inngest.http import not_inngests, object_of, request, words
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetDown, TargetError
from runner.execution.ports import Hello
from runner.model import Function, frozen

_TIMEOUT = 10.0  # seconds


@frozen
class HttpProbe:
    """Implements `runner.execution.ports.Probe`."""

    client: Client
    target: Target
    follower: HttpJobsApi
    clock: Callable[[], float] = time.time

    async def hello(self) -> Hello:
        """Read the version from ``/dev``, which only some servers have; any answer will do."""
        began = self.clock()
        response, body = await self._ask("GET", f"{self.target.api}/dev", headers=self._bearer())
        version = object_of(body).get("version") if response.status_code == 200 else None
        return Hello(words(version) or None, self._skew(response, began))

    async def accept(self) -> None:
        """Send an empty array, which starts nothing and is refused only with a wrong key: a server
        answers 200 ``{"ids": [""]}`` or 400, and 401 to an unknown key (seen on both the dev and
        the self-hosted server; protocol page, section 1)."""
        url = f"{self.target.events}/e/{quote(self.target.event_key or '', safe='')}"
        headers = {"content-type": "application/json"}
        if self.target.environment:
            headers["x-inngest-env"] = self.target.environment
        response, body = await self._ask("POST", url, content=b"[]", headers=headers)
        if response.status_code in (401, 403):
            message = f"{self.target.name} refuses the event key ({response.status_code})"
            hint = f"set {self.target.variable('INNGEST_EVENT_KEY')} to a key of this target"
            raise KeyRefused(message, hint=hint)
        if response.status_code not in (200, 400):
            message = f"{self.target.name} answers {response.status_code} at its Event API"
            raise TargetError(message, hint="is there another server at this address?")
        if not object_of(body):
            raise not_inngests(self.target.name, response.status_code)

    async def follow(self) -> str | None:
        return await self.follower.probe()

    async def api_key(self) -> bool | None:
        return await self.follower.probe_api_key() if self.target.api_key else None

    async def functions(self) -> Sequence[Function] | None:
        try:
            return await self.follower.functions()
        except TargetDown:  # nothing depends on it yet
            return None

    async def _ask(self, method: str, url: str, **arguments: Any) -> Answer:
        async def attempt() -> Answer:
            return await request(self.client, method, url, seconds=_TIMEOUT, **arguments)

        try:
            answer: Answer = await self.follower.retry(
                f"{self.target.name} cannot be reached", attempt
            )
        except TargetDown as error:
            raise TargetDown(
                str(error), hint="check that it is running and that its address is right"
            ) from None
        return answer

    def _bearer(self) -> dict[str, str]:
        keys = self.target.signing_keys
        return {"authorization": f"Bearer {keys[0]}"} if keys else {}

    def _skew(self, response: httpx.Response, began: float) -> float | None:
        """Return how far the server's clock is ahead, in seconds; its header has whole seconds."""
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
        ours = (began + self.clock()) / 2
        return theirs + 0.5 - ours
