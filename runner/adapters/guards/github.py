"""GitHub's hourly rate limit: ``GET /rate_limit``, which itself costs no points."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import GithubGuard

_LONGEST = 3_700.0  # seconds; the limit is reset every hour


@dataclass(frozen=True, slots=True)
class Github:
    spec: GithubGuard
    client: httpx.AsyncClient
    origin: str
    token: str = field(repr=False)
    clock: Callable[[], float] = time.time
    name: str = "github"

    async def ask(self) -> Hold | None:
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/vnd.github+json",
        }
        try:
            response = await self.client.get(f"{self.origin}/rate_limit", headers=headers)
        except httpx.HTTPError as error:
            raise GuardUnanswered(f"no answer ({type(error).__name__})") from None
        if response.status_code != 200:
            raise GuardUnanswered(f"it answers {response.status_code}")
        try:
            core = response.json()["resources"]["core"]
            remaining, limit, reset = (int(core[key]) for key in ("remaining", "limit", "reset"))
        except (ValueError, KeyError, TypeError):
            raise GuardUnanswered("its answer has no rate limit in it") from None
        if remaining >= self.spec.remaining:
            return None
        until = datetime.fromtimestamp(reset, UTC).strftime("%H:%M UTC")
        reason = (
            f"GitHub has {remaining:,} of {limit:,} points left (needs {self.spec.remaining:,}) "
            f"until {until}"
        )
        return Hold(reason, min(_LONGEST, max(1.0, reset - self.clock() + 1)))
