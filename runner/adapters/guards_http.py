"""Guards over HTTP: GitHub's hourly rate limit (``GET /rate_limit``, which itself costs no points),
and an endpoint that says whether sending is fine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from typing import NamedTuple

import httpx

from runner.adapters.http import AnswerTooLarge, Client, Unanswered, parsed, retry_after
from runner.errors import TargetError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import GithubGuard, HttpGuard, frozen
from runner.spec.units import counted

_AGAIN = 5.0  # seconds
_LONGEST = 3_700.0  # seconds; GitHub's limit is reset every hour
_TIMEOUT = 10.0  # seconds
_MAX_BODY = 64 * 1024
_LONGEST_ASKED = 3_600.0  # seconds: the longest Retry-After that is obeyed


class Rate(NamedTuple):
    """How many points remain, of how many, and when (since 1970) the limit is reset."""

    remaining: int
    limit: int
    reset: int


@frozen
class Github:
    spec: GithubGuard
    client: Client
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
            f"GitHub has {remaining:,} of {counted(limit, 'point')} left "
            f"(needs {self.spec.remaining:,}) until {until}"
        )
        # One second more, so that the next look comes after the reset.
        return Hold(reason, min(_LONGEST, max(1.0, reset - self.clock()) + 1))

    async def rate(self) -> Rate:
        """Read the rate limit. Raises `GuardUnanswered`."""
        return _core(await self._get())

    async def _get(self) -> bytes:
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/vnd.github+json",
        }
        url = f"{self.origin}/rate_limit"
        try:
            response, body = await self.client.exchange(
                "GET", url, headers=headers, seconds=_TIMEOUT, most=_MAX_BODY
            )
        except AnswerTooLarge:
            raise GuardUnanswered("its answer has no rate limit in it") from None
        except (Unanswered, TargetError) as error:
            raise GuardUnanswered(str(error)) from None
        if response.status_code != 200:
            raise GuardUnanswered(f"it answers {response.status_code}")
        return body


def _core(body: bytes) -> Rate:
    try:
        core = parsed(body)["resources"]["core"]
        found = core["remaining"], core["limit"], core["reset"]
    except (ValueError, KeyError, TypeError):
        found = None, None, None
    remaining, limit, reset = found
    if type(remaining) is not int or type(limit) is not int or type(reset) is not int:
        raise GuardUnanswered("its answer has no rate limit in it")
    return Rate(remaining, limit, reset)


@frozen
class Http:
    """Raises `httpx.InvalidURL` for an invalid URL. Its name omits what may be a key."""

    spec: HttpGuard = field(repr=False)
    client: Client
    name: str = field(init=False)

    def __post_init__(self) -> None:
        url = httpx.URL(self.spec.url)
        path = url.raw_path.partition(b"?")[0]
        object.__setattr__(self, "name", f"http {(url.netloc + path).decode('ascii')}")

    async def ask(self) -> Hold | None:
        try:
            # The body does not matter.
            response, _ = await self.client.exchange(
                "GET", self.spec.url, seconds=_TIMEOUT, unread=True
            )
        except (Unanswered, TargetError) as error:
            raise GuardUnanswered(str(error)) from None
        if response.is_success:
            return None
        wait = retry_after(response.headers)
        reason = f"{self.name} answers {response.status_code}"
        return Hold(reason, _AGAIN if wait is None else min(_LONGEST_ASKED, max(1.0, wait)))
