"""Looking at a server before anything is sent to it; nothing here starts work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from runner.adapters.inngest.http import Unanswered, request
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetDown, TargetError
from runner.execution.ports import Hello, Listener

_TIMEOUT = 10.0  # seconds
_FUNCTIONS = "{apps{functions{slug triggers{type value}}}}"


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Meets `runner.execution.ports.Probe`."""

    client: httpx.AsyncClient
    target: Target
    follower: HttpJobsApi
    clock: Callable[[], float] = time.time

    async def hello(self) -> Hello:
        """``/dev`` tells the version where the server is one of ours; any answer will do."""
        began = self.clock()
        response, body = await self._ask("GET", f"{self.target.api}/dev", headers=self._bearer())
        version = _object(body).get("version") if response.status_code == 200 else None
        return Hello(version if isinstance(version, str) else None, self._skew(response, began))

    async def accept(self) -> None:
        """An empty array starts nothing, and is refused only with a wrong key: a server answers
        200 ``{"ids": [""]}`` or 400, and 401 to a key that it does not know (seen on both the
        dev and the self-hosted server; protocol page, section 1)."""
        url = f"{self.target.events}/e/{quote(self.target.event_key or '', safe='')}"
        headers = {"content-type": "application/json"}
        if self.target.environment:
            headers["x-inngest-env"] = self.target.environment
        response, _ = await self._ask("POST", url, content=b"[]", headers=headers)
        if response.status_code in (401, 403):
            message = f"{self.target.name} refuses the event key ({response.status_code})"
            raise KeyRefused(message, hint="set INNGEST_EVENT_KEY to a key of this target")
        if response.status_code not in (200, 400):
            message = f"{self.target.name} answers {response.status_code} where it takes events"
            raise TargetError(message, hint="is there another server at this address?")

    async def follow(self) -> None:
        await self.follower.probe()

    async def listeners(self) -> list[Listener] | None:
        """By GraphQL, which open-source servers have unless started with --no-ui (protocol page,
        section 3); asked by GET, so that nothing can take it for an event."""
        url = f"{self.target.api}/v0/gql"
        try:
            response, body = await self._ask("GET", url, params={"query": _FUNCTIONS})
        except TargetError:
            return None
        data = _object(body).get("data") if response.status_code == 200 else None
        apps = data.get("apps") if isinstance(data, dict) else None
        return None if apps is None else list(_listeners(apps))

    async def _ask(self, method: str, url: str, **arguments: Any) -> tuple[httpx.Response, bytes]:
        try:
            return await request(self.client, method, url, timeout=_TIMEOUT, **arguments)
        except Unanswered as error:
            hint = "is it running, and is its address right?"
            raise TargetDown(f"{self.target.name} cannot be reached: {error}", hint=hint) from None

    def _bearer(self) -> dict[str, str]:
        keys = self.target.signing_keys
        return {"authorization": f"Bearer {keys[0]}"} if keys else {}

    def _skew(self, response: httpx.Response, began: float) -> float | None:
        """How far the server's clock is ahead, in seconds; its header has whole ones."""
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return None
        ours = (began + self.clock()) / 2
        return theirs + 0.5 - ours


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _listeners(apps: Any) -> Any:
    for app in apps:
        for function in app.get("functions") or ():
            for trigger in function.get("triggers") or ():
                if trigger.get("type") == "EVENT":
                    yield Listener(str(trigger.get("value")), str(function.get("slug")))
