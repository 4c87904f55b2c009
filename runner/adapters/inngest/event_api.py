"""Sending: ``POST {origin}/e/{event key}`` (protocol page, section 1)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from runner.adapters.inngest.http import Retry, Unanswered, request
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetError
from runner.execution.ports import Answer, RequestTooLarge

_MESSAGE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class HttpEventApi:
    client: httpx.AsyncClient
    target: Target
    retry: Retry
    trace: Mapping[str, str] = field(default_factory=dict)  # see `trace_context`

    async def send(
        self, body: bytes, count: int, seed: str, meanwhile: Callable[[], object] | None = None
    ) -> Answer:
        resent, trouble = False, None

        async def attempt() -> Answer:
            nonlocal resent, trouble
            try:
                response, answer = await self._post(body, seed, meanwhile)
            except Unanswered as error:
                resent, trouble = resent or error.maybe_taken, str(error)
                raise
            return self._read(response, answer, count, resent=resent)

        found: Answer = await self.retry(f"sending to {self.target.name}", attempt)
        return replace(found, trouble=trouble)

    async def _post(
        self, body: bytes, seed: str, meanwhile: Callable[[], object] | None
    ) -> tuple[httpx.Response, bytes]:
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-inngest-event-id-seed": seed,
            **self.trace,
        }
        if self.target.environment:
            headers["x-inngest-env"] = self.target.environment
        url = f"{self.target.events}/e/{quote(self.target.event_key or '', safe='')}"
        content = body if meanwhile is None else _then(body, meanwhile)
        return await request(self.client, "POST", url, content=content, headers=headers)

    def _read(self, response: httpx.Response, body: bytes, count: int, *, resent: bool) -> Answer:
        status = response.status_code
        if status in (401, 403):
            raise KeyRefused(
                f"{self.target.name} refuses the event key ({status})",
                hint="set INNGEST_EVENT_KEY to a key of this target; nothing more was sent",
            )
        if status == 413:
            raise RequestTooLarge("the request is too large (413)", maybe_taken=resent)
        answer = _object(body)
        ids = answer.get("ids")
        if status not in (200, 400) or not isinstance(ids, list):
            if status == 400 and isinstance(answer.get("error"), str):
                ids = []
            else:
                raise self._not_inngest(status)
        try:
            "".join(ids)  # the quickest way to know that all are strings: there are thousands
        except TypeError:
            raise self._not_inngest(status) from None
        taken = tuple(filter(None, ids))
        if status == 200 and len(taken) != count:
            message = f"{self.target.name} answered with {len(taken)} ids for {count} events"
            hint = "what it took is not known; `backfill resume` sends the same request again"
            raise TargetError(message, hint=hint)
        if status == 400 and len(taken) >= count:
            raise TargetError(f"{self.target.name} refuses the request: {self._message(answer)}")
        refused = self._message(answer) if status == 400 else None
        return Answer(taken, refused, resent)

    def _message(self, answer: dict[str, Any]) -> str:
        return self.target.clean(str(answer.get("error") or "no reason given"))[:_MESSAGE_LENGTH]

    def _not_inngest(self, status: int) -> TargetError:
        message = f"{self.target.name} answers {status} with a body that is not Inngest's"
        hint = "is there a proxy in between, or another server at this address?"
        return TargetError(message, hint=hint)


async def _then(body: bytes, meanwhile: Callable[[], object]) -> AsyncIterator[bytes]:
    """A body in one piece, and what is done once it is sent: the server is at work by then."""
    yield body
    meanwhile()


def trace_context(env: Mapping[str, str]) -> dict[str, str]:
    """The headers by which the server's traces join the one that TRACEPARENT names (W3C Trace
    Context); none where it is not well-formed."""
    parent, state = env.get("TRACEPARENT", ""), env.get("TRACESTATE", "")
    if not re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent):
        return {}
    plain = state.isascii() and state.isprintable()
    return {"traceparent": parent, **({"tracestate": state} if state and plain else {})}


def _object(body: bytes) -> dict[str, Any]:
    """Servers answer as text/plain: only the body says what it is."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
