"""An endpoint that says whether sending is fine."""

from __future__ import annotations

from dataclasses import field

import httpx

from runner.adapters.http import Client, retry_after
from runner.adapters.http_faults import Unanswered
from runner.errors import TargetError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import HttpGuard, frozen

_AGAIN = 5.0  # seconds
_TIMEOUT = 10.0  # seconds
_LONGEST = 3_600.0  # seconds: what it asks for beyond that is asked again


@frozen
class Http:
    """Raises `httpx.InvalidURL` where the URL is none. Its name leaves out what may be a key."""

    spec: HttpGuard = field(repr=False)
    client: Client
    name: str = field(init=False)

    def __post_init__(self) -> None:
        url = httpx.URL(self.spec.url)
        path = url.raw_path.partition(b"?")[0]
        object.__setattr__(self, "name", f"http {(url.netloc + path).decode('ascii')}")

    async def ask(self) -> Hold | None:
        try:
            # Its body is no news, and stays unread.
            response, _ = await self.client.exchange(
                "GET", self.spec.url, seconds=_TIMEOUT, unread=True
            )
        except (Unanswered, TargetError) as error:
            raise GuardUnanswered(str(error)) from None
        if response.is_success:
            return None
        wait = retry_after(response.headers)
        reason = f"{self.name} answers {response.status_code}"
        return Hold(reason, _AGAIN if wait is None else min(_LONGEST, max(1.0, wait)))
