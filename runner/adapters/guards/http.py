"""An endpoint that says whether sending is fine."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from runner.adapters.inngest.http import retry_after
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import HttpGuard

_AGAIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Http:
    spec: HttpGuard
    client: httpx.AsyncClient
    name: str = field(init=False)

    def __post_init__(self) -> None:
        url = httpx.URL(self.spec.url)
        object.__setattr__(self, "name", f"http {url.host}{url.path}")

    async def ask(self) -> Hold | None:
        try:
            async with self.client.stream("GET", self.spec.url) as response:  # its body is no news
                if response.is_success:
                    return None
                wait = retry_after(response.headers)
                reason = f"{self.name} answers {response.status_code}"
                return Hold(reason, _AGAIN if wait is None else max(1.0, wait))
        except httpx.HTTPError as error:
            raise GuardUnanswered(f"no answer ({type(error).__name__})") from None
