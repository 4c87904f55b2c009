"""Register this process with the server, repeatedly, since the server knows only one URL for an
app."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

import httpx
import inngest
import jcs  # type: ignore[import-untyped]

from runner.adapters.http import open_client, parsed
from runner.adapters.inngest.http import request, words
from runner.adapters.worker.request import FUNCTION
from runner.model import frozen
from runner.spec.secrets import redact

SDK = f"inngest-py:v{version('inngest')}"  # as the SDK calls itself in headers
_AGAIN = 2.0  # seconds between two tries
_EVERY = (45.0, 75.0)  # ... and between two registrations, at least and at most
_TIMEOUT = 10.0  # seconds for an exchange
_URL = 300  # characters
_APPS = "{apps{url functions{slug}}}"
_OLDEST = 5 * 60.0  # seconds
_EARLIEST = 60.0  # ... that the engine's clock may be ahead of this one
_REMEMBERED = 100_000  # signatures; a worker does not get as many requests in five minutes
_VALUES = 200_000  # in a body: its canonical form is computed before the signature is verified
_SIGNATURE = re.compile(r"t=([0-9]{1,12})&s=([0-9a-f]{64})")
_PREFIX = re.compile(r"signkey-\w+-")


@frozen
class App:
    """An app on the server: functions, and their URL in this process, the only one that is ever
    registered; None if others register it."""

    client: inngest.Inngest
    functions: Sequence[inngest.Function[Any]]
    url: str | None


@dataclass(slots=True)
class Registration:
    """Registers apps that have an address; the first is that of the runs. `trouble`: why the server
    has not known them so far; None once it has."""

    apps: Sequence[App]
    log: logging.Logger
    trouble: str | None = "the server is asked for the first time"
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _refused: str | None = ""  # why the latest was refused; None: it was not; "": there was none
    _tried: float = 0.0

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the apps registered within the block."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def anew(self) -> str | None:
        """Register now, unless that was tried a moment ago, since anybody may ask for it if there
        is no key. Return why the server refuses, or None."""
        async with self._one:
            if self._refused == "" or time.monotonic() - self._tried >= _AGAIN:
                await self._register()
            return self._refused

    async def _keep(self) -> None:
        """Register until the server accepts, since either may start first, and then repeatedly:
        another worker that took over the URL may have ended, and a restarted server may have
        forgotten."""
        while True:
            async with self._one:
                await self._register()
            known = self._refused is None
            await asyncio.sleep(SystemRandom().uniform(*_EVERY) if known else _AGAIN)

    async def _register(self) -> None:
        before, other, url = self._refused, await self._called_instead(), self.apps[0].url
        why = self._refused = await self._why_refused()
        self._tried = time.monotonic()
        if why is None:
            self.trouble = None
            if other:
                self.log.warning(
                    "the server calls %s instead of this process: registered again as "
                    "%s; workers take the runs from each other unless they have one --url",
                    other,
                    url,
                )
            elif before is not None:
                self.log.info("the server knows this process as %s", url)
        elif why != before:
            self.log.warning("not registered: %s", why)
            if self.trouble:
                self.trouble = why

    async def _called_instead(self) -> str | None:
        """Return the other URL that the server calls for the runs, if it has one and tells."""
        runs = self.apps[0]
        try:
            body = (await _exchange(runs, "GET", "/v0/gql", params={"query": _APPS}))[1]
            urls = [
                words(app["url"], _URL)
                for app in parsed(body)["data"]["apps"]
                if any(
                    one["slug"] == f"{runs.client.app_id}-{FUNCTION}" for one in app["functions"]
                )
            ]
            ours = any(_place(url) == _place(runs.url or "") for url in urls)
        except Exception:  # noqa: BLE001 - optional, and not every server tells
            return None
        return None if ours or not urls else urls[0]

    async def _why_refused(self) -> str | None:
        """Register all apps; return why one was refused. Failures of any kind are reported and
        retried, since nobody awaits this task."""
        try:
            for app in self.apps:
                if why := _judged(*await _send(app)):
                    return why
        except Exception as error:  # noqa: BLE001
            return redact(str(error) or type(error).__name__)
        return None


async def _send(app: App) -> tuple[httpx.Response, bytes]:
    """Send the SDK's registration request ourselves: the SDK would use the address of any caller,
    and hide the server's status."""
    registration = {
        "appname": app.client.app_id,
        "deploytype": "ping",
        "framework": "starlette",
        "functions": [_config(one, app.url or "") for one in app.functions],
        "sdk": SDK.removeprefix("inngest-"),
        "url": app.url,
        "v": "0.1",
    }
    headers = {"x-inngest-sdk": SDK, "x-inngest-framework": "starlette"}
    if app.client.env is not None:
        headers["x-inngest-env"] = app.client.env
    keys = [one for one in (app.client.signing_key, app.client.signing_key_fallback) if one]
    for key in keys or [""]:
        shown = {"authorization": f"Bearer {bearer(key)}"} if key else {}
        answer, body = await _exchange(
            app, "POST", "/fn/register", json=registration, headers=headers | shown
        )
        if answer.status_code not in (401, 403):
            break
    return answer, body


async def _exchange(app: App, method: str, path: str, **more: Any) -> tuple[httpx.Response, bytes]:
    async with open_client(seconds=_TIMEOUT) as client:
        return await request(client, method, app.client.api_origin.rstrip("/") + path, **more)


def _config(function: inngest.Function[Any], url: str) -> Any:
    config = function.get_config(url).main.to_dict()
    if isinstance(config, Exception):
        raise config
    return _bare(config)


def _bare(value: Any) -> Any:
    """Remove None values, which a Go server takes for values."""
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items() if one is not None}
    return [_bare(one) for one in value] if isinstance(value, list) else value


def _place(url: str) -> tuple[str | None, int | None, str]:
    """Return the parts of a URL that a server does not change: it may rewrite local hosts, and
    prefer https."""
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104
    port = None if parts.port in (80, 443) else parts.port
    return "localhost" if here else parts.hostname, port, parts.path


def _judged(answer: httpx.Response, content: bytes) -> str | None:
    if answer.status_code in (401, 403):
        return (
            f"the server refuses the signing key ({answer.status_code}); "
            "set INNGEST_SIGNING_KEY to that of the server"
        )
    try:
        body = parsed(content)
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict):
        return None
    reason = body.get("error") if isinstance(body, dict) else None
    return redact(
        f"the server answers {answer.status_code}: {reason or 'is it an Inngest server?'}"
    )


def bare(key: str) -> str:
    """Remove ``signkey-prod-`` from a signing key; the engine signs with the remaining digits as
    text."""
    prefix = _PREFIX.match(key)
    return key[prefix.end() :] if prefix else key


def bearer(key: str) -> str:
    """Return a key as the REST API expects it: the digest of the bytes that its digits encode."""
    return hashlib.sha256(bytes.fromhex(bare(key))).hexdigest()


@dataclass
class Signatures:
    """Verifies signatures. Each is accepted once, as far as this process remembers; only valid ones
    are remembered, so strangers cannot fill the memory."""

    keys: Sequence[str]
    clock: Callable[[], float] = time.time
    remembered: int = _REMEMBERED
    _taken: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def refusal(self, header: str | None, body: bytes) -> str | None:
        """Say why the request is not from the engine, or return None. Only one thread at a time."""
        if header is None:
            return "it is not signed"
        found = _SIGNATURE.fullmatch(header)
        if found is None:
            return "its signature is malformed"
        signed_at, given = int(found[1]), bytes.fromhex(found[2])
        age = self.clock() - signed_at
        if age > _OLDEST:
            return (
                f"its signature is {age:.0f} s old, and at most five minutes are accepted: "
                "are the clocks right?"
            )
        if age < -_EARLIEST:
            return f"its signature is {-age:.0f} s in the future: are the clocks right?"
        if sum(body.count(mark) for mark in b",:[{") > _VALUES:
            return f"its body has more than {_VALUES:,} values"
        try:
            canonical = jcs.canonicalize(json.loads(body)) if body else b""
        except (ValueError, RecursionError, OverflowError):
            return "its body is not JSON"
        signed = canonical + found[1].encode()
        if not any(hmac.compare_digest(given, _mac(key, signed)) for key in self.keys):
            return "its signature does not match: it is made with another key, or for another body"
        if given in self._taken:
            return "it was processed already"
        self._remember(given, signed_at)
        return None

    def _remember(self, signature: bytes, signed_at: float) -> None:
        oldest = self.clock() - _OLDEST
        while self._taken and (
            len(self._taken) >= self.remembered or next(iter(self._taken.values())) < oldest
        ):
            self._taken.popitem(last=False)
        self._taken[signature] = signed_at


def _mac(key: str, signed: bytes) -> bytes:
    return hmac.new(bare(key).encode(), signed, hashlib.sha256).digest()
