"""Cancelling jobs: ``DELETE {origin}/v1/runs/{id}`` (protocol page, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from runner.adapters.inngest.http import Retry, Unanswered, request
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetError


@dataclass(frozen=True, slots=True)
class HttpCancelApi:
    client: httpx.AsyncClient
    target: Target
    retry: Retry

    async def cancel(self, job_id: str) -> bool:
        """Whether the job was still going on; False where it had ended, or is not known."""

        async def attempt() -> bool:
            return self._read(*await self._delete(job_id))

        return bool(await self.retry(f"cancelling at {self.target.name}", attempt))

    async def _delete(self, job_id: str) -> tuple[httpx.Response, bytes]:
        """After a rotation the fallback key may be the one that holds."""
        url = f"{self.target.api}/v1/runs/{quote(job_id, safe='')}"
        headers = {"x-inngest-env": self.target.environment} if self.target.environment else {}
        keys = self.target.signing_keys or (None,)
        for key in keys:
            if key:
                headers["authorization"] = f"Bearer {key}"
            response, body = await request(self.client, "DELETE", url, headers=headers)
            if response.status_code not in (401, 403):
                break
        return response, body

    def _read(self, response: httpx.Response, body: bytes) -> bool:
        status = response.status_code
        if status == 200 and (hidden := _hidden_status(body)):  # errors hide behind 200
            status = hidden
        if status in (200, 202, 204):
            return True
        if status in (400, 404, 409):  # ended, or not known: nothing is there to cancel
            return False
        if status in (401, 403):
            what = "refuses the signing key" if self.target.signing_keys else "asks for a key"
            raise KeyRefused(
                f"{self.target.name} {what} ({status})", hint="set INNGEST_SIGNING_KEY"
            )
        if status == 429 or status >= 500:
            raise Unanswered(f"the server answers {status}", maybe_taken=False)
        raise TargetError(f"cancelling at {self.target.name}: the server answers {status}")


def _hidden_status(body: bytes) -> int | None:
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not (isinstance(answer, dict) and answer.get("error")):
        return None
    status = answer.get("status")
    return status if isinstance(status, int) else 400
