"""Who may see the pages, and what a browser may do with them."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Answers nothing but GET and HEAD, and with a token nobody without it.

    The token is the password of HTTP Basic, whatever the user, so that browsers can ask for it; or
    a bearer.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: MutableMapping[str, Any]) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if self._token is not None and not self._is_known(headers.get("authorization", "")):
            asks = {"www-authenticate": 'Basic realm="backfill", charset="UTF-8"'}
            return PlainTextResponse("The token is asked for, as the password.", 401, asks)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Read-only.", 405, {"allow": "GET, HEAD"})
        return None

    def _is_known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return secrets.compare_digest(given.encode(), (self._token or "").encode())
