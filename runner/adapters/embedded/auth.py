"""The bearer that the REST API asks for: the signing key, or its hash, with or without prefix."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX = re.compile(r"^signkey-\w+-")
_NO_SNIFFING = {"x-content-type-options": "nosniff"}


class SigningKey:
    """ASGI middleware: 401 without the right bearer."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._accepted = _accepted(_PREFIX.sub("", key))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _PREFIX.sub("", _bearer(Headers(scope=scope))).encode()
        if any(hmac.compare_digest(given, accepted) for accepted in self._accepted):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse("Authentication failed\n", 401, headers=_NO_SNIFFING)
        await refusal(scope, receive, send)


def _accepted(key: str) -> tuple[bytes, ...]:
    """Signing keys are hexadecimal, and what is hashed is the bytes that the digits stand for."""
    try:
        hashed = hashlib.sha256(bytes.fromhex(key)).hexdigest()
    except ValueError:
        return (key.encode(),)
    return (key.encode(), hashed.encode())


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""
