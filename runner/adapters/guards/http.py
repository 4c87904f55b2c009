"""An endpoint that says whether sending is fine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx

from runner.adapters.inngest.http import retry_after
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import HttpGuard

_AGAIN = 5.0  # seconds
_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Http:
    """Raises `httpx.InvalidURL` where the URL is none. Its name leaves out what may be a key."""

    spec: HttpGuard = field(repr=False)
    client: httpx.AsyncClient
    name: str = field(init=False)

    def __post_init__(self) -> None:
        url = httpx.URL(self.spec.url)
        path = url.raw_path.partition(b"?")[0]
        object.__setattr__(self, "name", f"http {(url.netloc + path).decode('ascii')}")

    async def ask(self) -> Hold | None:
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                # Its body is no news, and stays unread.
                self.client.stream("GET", self.spec.url, timeout=_TIMEOUT) as response,
            ):
                if response.is_success:
                    return None
                wait = retry_after(response.headers)
                reason = f"{self.name} answers {response.status_code}"
                return Hold(reason, _AGAIN if wait is None else max(1.0, wait))
        except TimeoutError:
            raise GuardUnanswered("no answer in time") from None
        except httpx.HTTPError as error:
            raise GuardUnanswered(f"no answer ({type(error).__name__})") from None
