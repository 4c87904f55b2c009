"""Telling the server where this process is, again and again: it knows one URL for an app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import SystemRandom
from urllib.parse import urlsplit

import httpx
from inngest._internal.comm_lib import CommHandler, CommRequest, CommResponse
from inngest._internal.comm_lib.handler import Syncer
from inngest._internal.net import fetch_with_auth_fallback

from runner.adapters.worker.function import APP_ID, FUNCTION
from runner.spec.secrets import redact

_AGAIN = 2.0  # seconds between two tries
_EVERY = (45.0, 75.0)  # ... and between two registrations, at least and at most
_TIMEOUT = 5.0  # seconds
_APPS = "{apps{url functions{slug}}}"


@dataclass(slots=True)
class Registration:
    """`server` is its API, `url` where this process is. `trouble`: why the server has never known
    it; None once it has."""

    handler: CommHandler
    server: str
    url: str
    log: logging.Logger
    trouble: str | None = "not registered: the server is asked for the first time"

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within the block; at its end the SDK's connections are closed, which it leaves open."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.handler._http_client._http_client.aclose()  # noqa: SLF001

    async def _keep(self) -> None:
        """Either may start first. Once more now and then: whoever has taken the runs over may have
        ended since, and a server that started anew may have forgotten."""
        said: str | None = ""
        while True:
            other = await self._called_instead()
            why = await self._refused()
            if why is None:
                self.trouble = None
                if other:
                    self.log.warning(
                        "the server calls %s instead of this process: registered again as "
                        "%s; workers take the runs from each other unless they have one --url",
                        other,
                        self.url,
                    )
                elif said is not None:
                    self.log.info("the server knows this process as %s", self.url)
            elif why != said:
                self.log.warning("not registered: %s", why)
                if self.trouble:
                    self.trouble = f"not registered: {why}"
            said = why
            await asyncio.sleep(SystemRandom().uniform(*_EVERY) if why is None else _AGAIN)

    async def _called_instead(self) -> str | None:
        """The other URL that the server has for the runs, where it has one and tells: see
        `HttpProbe.listeners`."""
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
                url = f"{self.server.rstrip('/')}/v0/gql"
                answer = await client.get(url, params={"query": _APPS})
            urls = [
                str(app["url"])
                for app in answer.json()["data"]["apps"]
                if any(one["slug"] == f"{APP_ID}-{FUNCTION}" for one in app["functions"])
            ]
            ours = any(_place(url) == _place(self.url) for url in urls)
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return None
        return None if ours or not urls else urls[0]

    async def _refused(self) -> str | None:
        """Why the server does not take the registration. A failure of any kind is said, and tried
        again: nobody waits for this task."""
        try:
            return _judged(await self._send())
        except Exception as error:  # noqa: BLE001
            return redact(f"{type(error).__name__}: {error}")

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


def _place(url: str) -> tuple[str | None, int | None, str]:
    """What a server leaves as it is: it writes this machine in one way, and may prefer https."""
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104
    port = None if parts.port in (80, 443) else parts.port
    return "localhost" if here else parts.hostname, port, parts.path


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
    return redact(f"the server answers {answer.status_code}: {said or 'is it an Inngest server?'}")
