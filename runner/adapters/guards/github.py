"""GitHub's hourly rate limit: ``GET /rate_limit``, which itself costs no points."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import orjson

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import GithubGuard

_LONGEST = 3_700.0  # seconds; the limit is reset every hour
_TIMEOUT = 10.0  # seconds
_MAX_BODY = 64 * 1024


class Rate(NamedTuple):
    """How many points remain, of how many, and when (since 1970) they are all there again."""

    remaining: int
    limit: int
    reset: int


@dataclass(frozen=True, slots=True)
class Github:
    spec: GithubGuard
    client: httpx.AsyncClient
    origin: str
    token: str = field(repr=False)
    clock: Callable[[], float] = time.time
    name: str = "github"

    async def ask(self) -> Hold | None:
        remaining, limit, reset = await self.rate()
        if remaining >= self.spec.remaining:
            return None
        try:
            until = datetime.fromtimestamp(reset, UTC).strftime("%H:%M UTC")
        except (ValueError, OverflowError, OSError):
            raise GuardUnanswered("its answer has no rate limit in it") from None
        reason = (
            f"GitHub has {remaining:,} of {limit:,} points left (needs {self.spec.remaining:,}) "
            f"until {until}"
        )
        # A second more, so that the first look after the reset sees it.
        return Hold(reason, min(_LONGEST, max(1.0, reset - self.clock()) + 1))

    async def rate(self) -> Rate:
        """Raises `GuardUnanswered`."""
        return _core(await self._get())

    async def _get(self) -> bytes:
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/vnd.github+json",
        }
        url = f"{self.origin}/rate_limit"
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                self.client.stream("GET", url, headers=headers, timeout=_TIMEOUT) as response,
            ):
                if response.status_code != 200:
                    raise GuardUnanswered(f"it answers {response.status_code}")
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _MAX_BODY:
                        raise GuardUnanswered("its answer has no rate limit in it")
                return bytes(body)
        except TimeoutError:
            raise GuardUnanswered("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GuardUnanswered(f"no answer ({type(error).__name__})") from None


def _core(body: bytes) -> Rate:
    try:
        core = orjson.loads(body)["resources"]["core"]
        found = core["remaining"], core["limit"], core["reset"]
    except (ValueError, KeyError, TypeError):
        found = None, None, None
    remaining, limit, reset = found
    if type(remaining) is not int or type(limit) is not int or type(reset) is not int:
        raise GuardUnanswered("its answer has no rate limit in it")
    return Rate(remaining, limit, reset)
