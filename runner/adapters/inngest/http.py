"""One keep-alive client with bounded retries; no URL or key of it ever reaches a message."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from random import Random
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
)

from runner.errors import TargetDown, TargetError, UsageError

MAX_TRIES = 6
MAX_SECONDS = 120.0
LONGEST_WAIT = 60.0  # a Retry-After beyond this ends the tries: the run can be resumed
MAX_BODY = 64 * 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class Unanswered(Exception):
    """A try that may be made again. `maybe_taken`: the request may have had its effect."""

    def __init__(self, why: str, *, maybe_taken: bool, wait: float | None = None) -> None:
        super().__init__(why)
        self.maybe_taken = maybe_taken
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Retry:
    """How tries are spaced; the sleep and the randomness are handed in."""

    sleep: Callable[[float], Awaitable[None]]
    random: Random
    note: Callable[[str], None]
    stopped: Callable[[], bool] = lambda: False  # no further try once the run is to stop

    async def __call__(self, what: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """`attempt`, again while it raises `Unanswered`; a `TargetError` when the tries are up.

        Tenacity comes in where the first try fails: its books would cost each request 0.1 ms.
        """
        try:
            return await attempt()
        except Unanswered as error:
            first: Unanswered | None = error

        async def again() -> Any:
            nonlocal first
            if first is None:
                return await attempt()
            error, first = first, None
            raise error

        tries = AsyncRetrying(
            sleep=self.sleep,
            stop=lambda state: self.stopped() or _stop(state),
            wait=self._wait,
            retry=retry_if_exception_type(Unanswered),
            before_sleep=lambda state: self._say(what, state),
            reraise=True,
        )
        try:
            return await tries(again)
        except Unanswered as error:
            hint = "once it answers again, `backfill resume` carries the run on"
            raise TargetDown(f"{what}: {error}", hint=hint) from None

    def _wait(self, state: RetryCallState) -> float:
        asked = _error(state).wait
        backoff = self.random.uniform(0.5, 1.0) * min(10.0, 0.2 * 2**state.attempt_number)
        return backoff if asked is None else asked

    def _say(self, what: str, state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        self.note(f"{what}: {_error(state)}; trying again in {wait:.1f}s")


def _error(state: RetryCallState) -> Unanswered:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Unanswered)  # noqa: S101 - nothing else is retried
    return error


_BOUNDS = stop_after_attempt(MAX_TRIES) | stop_after_delay(MAX_SECONDS)


def _stop(state: RetryCallState) -> bool:
    return _BOUNDS(state) or (_error(state).wait or 0) > LONGEST_WAIT


_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@cache
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Read once, where the environment says: one client after the other would take its time."""
    return httpx.create_ssl_context()


@asynccontextmanager
async def open_client(
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[httpx.AsyncClient]:
    """`transport` is the embedded server's; None is the network."""
    network = transport is None
    for name in ("httpx", "httpcore"):  # httpx logs full URLs, and the event key is part of one
        logging.getLogger(name).disabled = True
    try:
        client = httpx.AsyncClient(
            transport=transport,
            timeout=_TIMEOUT,
            follow_redirects=False,
            trust_env=network,
            verify=not network or _certificates(*map(os.environ.get, _CERTIFICATES)),
        )
    except (ImportError, ValueError, OSError) as error:
        hint = "look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        message = f"the environment's proxy or certificates cannot be used ({type(error).__name__})"
        raise UsageError(message, hint=hint) from None
    async with client:
        yield client


async def request(
    client: httpx.AsyncClient, method: str, url: str, **arguments: Any
) -> tuple[httpx.Response, bytes]:
    """One try. Raises `Unanswered` for what may be tried again, `TargetError` for what may not."""
    try:
        async with client.stream(method, url, **arguments) as response:
            body = await _read(response)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unanswered(_reason(error), maybe_taken=False) from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise Unanswered(_reason(error), maybe_taken=True) from None
    except httpx.InvalidURL:
        raise TargetError("the target's URL or key has characters that no URL may have") from None
    status = response.status_code
    if status == 429 or status >= 500:
        wait = retry_after(response.headers)
        raise Unanswered(f"the server answers {status}", maybe_taken=status != 429, wait=wait)
    if 300 <= status < 400:
        message = f"the server redirects ({status}), and a key is never sent on"
        raise TargetError(message, hint="give --target the address that it redirects to")
    return response, body


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_BODY:
            raise TargetError(f"the server's answer is larger than {MAX_BODY // 1024 // 1024} MiB")
    return bytes(body)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its two forms."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _reason(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return "the connection broke before the answer was complete"
