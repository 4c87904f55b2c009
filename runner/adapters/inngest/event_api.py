"""Sending: ``POST {origin}/e/{event key}`` (protocol page, section 1)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from runner.adapters.http import Client, Unanswered
from runner.adapters.inngest.http import (
    Retry,
    are_ids,
    no_ids,
    not_inngests,
    object_of,
    request,
    words,
)
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetError
from runner.execution.ports import Answer, RequestTooLarge
from runner.execution.seeds import internal_ids
from runner.model import frozen
from runner.spec.units import counted

_MESSAGE_LENGTH = 300
_READ = 4_000  # characters that are searched for a key


@frozen
class HttpEventApi:
    client: Client
    target: Target
    retry: Retry
    trace: Mapping[str, str] = field(default_factory=dict)  # see `trace_context`
    _before: list[str] = field(default_factory=list)  # first id of the answer before

    async def send(
        self, body: bytes, count: int, seed: str, meanwhile: Callable[[], object] | None = None
    ) -> Answer:
        resent, trouble = False, None
        expected, usual = tuple[str, ...](), b""

        def foresee() -> None:
            nonlocal expected, usual
            if meanwhile:
                meanwhile()
            expected = tuple(internal_ids(seed, range(count)))
            usual = orjson.dumps({"ids": expected, "status": 200})

        async def attempt() -> Answer:
            nonlocal resent, trouble
            try:
                response, answer = await self._post(body, seed, foresee)
            except Unanswered as error:
                resent, trouble = resent or error.maybe_taken, str(error)
                raise
            # The server waits for the next request: do not parse what is known.
            if response.status_code == 200 and answer.rstrip() == usual:
                return Answer(expected, None, resent, trouble)
            return self._read(response, answer, count, expected, resent=resent, trouble=trouble)

        found: Answer = await self.retry(f"sending to {self.target.name}", attempt)
        self.retry.patience.begun = True
        self._before[:] = found.ids[:1]
        return found

    async def _post(
        self, body: bytes, seed: str, meanwhile: Callable[[], object]
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
        content = _then(body, meanwhile)
        return await request(self.client, "POST", url, content=content, headers=headers)

    def _read(
        self,
        response: httpx.Response,
        body: bytes,
        count: int,
        expected: Sequence[str],
        *,
        resent: bool,
        trouble: str | None,
    ) -> Answer:
        """Read the answer; `expected`: the ids that the seed gives, so that only others are
        checked."""
        status = response.status_code
        if status in (401, 403):
            variable = self.target.variable("INNGEST_EVENT_KEY")
            raise KeyRefused(
                f"{self.target.name} refuses the event key ({status})",
                hint=f"set {variable} to a key of this target; nothing more was sent",
            )
        if status == 413:
            raise RequestTooLarge("the request is too large (413)", maybe_taken=resent)
        answer = object_of(body)
        ids = answer.get("ids")
        if status not in (200, 400) or not isinstance(ids, list):
            if status == 400 and isinstance(answer.get("error"), str):
                ids = []
            else:
                raise not_inngests(self.target.name, status)
        taken = tuple(ids)
        if taken != expected:
            taken = tuple(one for one in taken if one != "")
            valid = len(taken) <= count and _are_valid(taken, expected)
            if not valid or not {*self._before}.isdisjoint(taken):
                raise no_ids(self.target.name, status)
        if status == 200 and len(taken) != count:
            found, sent = counted(len(taken), "id"), counted(count, "event")
            message = f"{self.target.name} answered with {found} for {sent}"
            hint = (
                "it is not known which events it accepted; `backfill resume RUN` sends the same "
                "request again"
            )
            raise TargetError(message, hint=hint)
        if status == 400 and len(taken) >= count:
            raise TargetError(f"{self.target.name} refuses the request: {self._message(answer)}")
        refused = self._message(answer) if status == 400 else None
        return Answer(taken, refused, resent, trouble)

    def _message(self, answer: dict[str, Any]) -> str:
        reason = self.target.clean(words(answer.get("error"), _READ))
        return reason[:_MESSAGE_LENGTH] or "no reason given"


def _are_valid(taken: Sequence[Any], expected: Sequence[str]) -> bool:
    """Whether these are ids, and those that the seed gives are in their places."""
    in_place = taken == expected[: len(taken)]
    return are_ids(taken) and (in_place or {*expected}.isdisjoint(taken))


async def _then(body: bytes, meanwhile: Callable[[], object]) -> AsyncIterator[bytes]:
    """Send the body in one piece, then call `meanwhile`, while the server is busy."""
    yield body
    meanwhile()


def trace_context(env: Mapping[str, str]) -> dict[str, str]:
    """Return headers that join the server's traces to the one in TRACEPARENT (W3C Trace Context);
    none if it is malformed."""
    parent, state = env.get("TRACEPARENT", ""), env.get("TRACESTATE", "")
    if not re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent):
        return {}
    plain = state.isascii() and state.isprintable()
    return {"traceparent": parent, **({"tracestate": state} if state and plain else {})}
