"""What went wrong with an exchange: by the type of each error down to the first cause of it."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import h11
import httpx

from runner.errors import TargetError

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_WORDS = 100  # characters of what a TLS library says


class Unanswered(Exception):
    """A try that may be made again. `maybe_taken`: the request may have had its effect.
    `answered`: the server is there, and says that it cannot."""

    def __init__(
        self, why: str, *, maybe_taken: bool, wait: float | None = None, answered: bool = False
    ) -> None:
        super().__init__(why)
        self.answered = answered
        self.maybe_taken = maybe_taken
        self.wait = wait


def explained(
    error: Exception, host: str, *, answered: bool, proxy: str | None = None
) -> Unanswered | TargetError:
    """`Unanswered` for what may pass by itself, else the error to end with.

    `host`: whom it was sent to. `answered`: the answer had begun. `proxy`: the one in between.
    """
    chain = list(_causes(error))
    known = _tls(chain, host) or _proxys(error, host, proxy) or _unfit(error, chain, host, answered)
    return known or _passing(error, chain, f"the proxy {proxy}" if proxy else host)


def asks_for_password(proxy: str | None) -> TargetError:
    message = f"the proxy{f' {proxy}' if proxy else ''} asks for a user and a password (407)"
    hint = "write them into the proxy's variable: HTTPS_PROXY=http://user:password@host:port"
    return TargetError(message, hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    left: list[BaseException] = [error]
    visited: set[int] = set()
    while left:
        one = left.pop(0)
        if id(one) in visited:
            continue
        visited.add(id(one))
        yield one
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _tls(chain: list[BaseException], host: str) -> Unanswered | TargetError | None:
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            message = f"the certificate of {host} is not trusted: {_plain(one.verify_message)}"
            hint = "where an authority of your own signs it, name its certificate in SSL_CERT_FILE"
            return TargetError(message, hint=hint)
    for one in chain:
        if isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return Unanswered("no connection: it was cut as it was made", maybe_taken=False)
        if isinstance(one, ssl.SSLError):
            reason = _plain((one.reason or "").replace("_", " ").lower()) or "refused"
            hint = "does it speak https at this address, or http?"
            return TargetError(f"no TLS connection to {host}: {reason}", hint=hint)
    return None


def _proxys(error: Exception, host: str, proxy: str | None) -> Unanswered | TargetError | None:
    """The status with which a proxy has answered CONNECT stands in the error's words alone."""
    if not isinstance(error, httpx.ProxyError):
        return None
    found = re.match(r"(\d{3})\b", str(error))
    status = int(found[1]) if found else 0
    if status == 407:
        return asks_for_password(proxy)
    shown = f"the proxy{f' {proxy}' if proxy else ''}"
    if 400 <= status < 500 and status not in (408, 429):
        return TargetError(f"{shown} refuses to connect to {host} ({status})")
    return Unanswered(
        f"{shown} has no connection to {host} ({status or 'broken'})", maybe_taken=False
    )


def _unfit(
    error: Exception, chain: list[BaseException], host: str, answered: bool
) -> TargetError | None:
    """What no further try makes good."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return TargetError("the URL or key has characters that no URL may have")
    if isinstance(error, httpx.LocalProtocolError):
        return TargetError(f"the request to {host} cannot be written as HTTP")
    garbled = any(isinstance(one, h11.RemoteProtocolError) for one in chain)
    if garbled and not answered:
        hint = "is there another server at this address, or does it speak https?"
        return TargetError(f"{host} answers with something else than HTTP", hint=hint)
    return None


def _passing(error: Exception, chain: list[BaseException], place: str) -> Unanswered:
    connecting = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    for one in chain:
        if isinstance(one, socket.gaierror):
            silent = one.errno == socket.EAI_AGAIN
            words = f"DNS does not answer for {place}" if silent else f"DNS knows no {place}"
            return Unanswered(f"no connection: {words}", maybe_taken=False)
    if connecting:
        return Unanswered(_unconnected(error, chain), maybe_taken=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Unanswered("no answer in time", maybe_taken=True)
    return Unanswered("the connection broke before the answer was complete", maybe_taken=True)


def _unconnected(error: Exception, chain: list[BaseException]) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no connection in time"
    for one in chain:
        if isinstance(one, ConnectionRefusedError):
            return "no connection: it is refused"
        if isinstance(one, OSError) and one.errno in _NO_ROUTE:
            return "no connection: there is no way to it"
    return "no connection"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_WORDS]
