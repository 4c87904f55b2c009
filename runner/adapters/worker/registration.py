"""Telling the server where this process is."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import httpx
from inngest._internal.comm_lib import CommHandler, CommRequest, CommResponse
from inngest._internal.comm_lib.handler import Syncer
from inngest._internal.net import fetch_with_auth_fallback

from runner.spec.secrets import redact

_AGAIN = 2.0  # seconds between two tries


@dataclass(slots=True)
class Registration:
    """`trouble`: why the server does not know this process, which is at `url`; None: it does."""

    handler: CommHandler
    url: str
    log: logging.Logger
    trouble: str | None = field(default="not registered: the server is asked for the first time")

    async def keep(self) -> None:
        """Either may start first."""
        while why := await self._refused():
            trouble = f"not registered: {redact(why)}"
            if trouble != self.trouble:
                self.log.warning("%s", trouble)
            self.trouble = trouble
            await asyncio.sleep(_AGAIN)
        self.trouble = None
        self.log.info("the server knows this process as %s", self.url)

    async def _refused(self) -> str | None:
        """Why the server does not take the registration. A failure of any kind is said, and tried
        again: nobody waits for this task."""
        try:
            return _judged(await self._send())
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"

    async def _send(self) -> httpx.Response:
        """As the SDK does it, whose own answer keeps the server's status to itself."""
        handler, asked = self.handler, request_at(self.url)
        syncer = Syncer(logger=handler._client.logger)  # noqa: SLF001
        prepared = syncer._create_out_of_band_request(handler, asked)  # noqa: SLF001
        if isinstance(prepared, Exception):
            raise prepared
        if isinstance(prepared, CommResponse):
            raise TypeError(str(prepared.body))
        answer = await fetch_with_auth_fallback(
            handler._http_client._http_client,  # noqa: SLF001
            handler._http_client._http_client_sync,  # noqa: SLF001
            prepared,
            signing_key=handler._signing_key,  # noqa: SLF001
            signing_key_fallback=handler._signing_key_fallback,  # noqa: SLF001
        )
        if isinstance(answer, Exception):
            raise answer
        return answer


def request_at(
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    query_params: dict[str, str] | None = None,
) -> CommRequest:
    return CommRequest(
        body=body,
        headers=headers or {},
        public_path=None,
        query_params=query_params or {},
        raw_request=None,
        request_url=url,
        serve_origin=None,
        serve_path=None,
    )


def _judged(answer: httpx.Response) -> str | None:
    if answer.status_code in (401, 403):
        return (
            f"the server refuses the signing key ({answer.status_code}); "
            "set INNGEST_SIGNING_KEY to that of the server"
        )
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict):
        return None
    said = body.get("error") if isinstance(body, dict) else None
    return f"the server answers {answer.status_code}: {said or 'is it an Inngest server?'}"
