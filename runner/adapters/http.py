"""Create HTTP clients and make exchanges; all of ours go through here.

A server may be a stranger's: an exchange has an overall deadline, its answer is limited while it is
decoded, no redirect is followed, no cookie kept. Errors are explained by their type and cause,
never with a key, a URL's secret part or an answer's bytes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import h11
import httpx
import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.errors import TargetError, UsageError
from runner.model import frozen
from runner.version import __version__

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_WORDS = 100  # characters from a TLS library's message
MAX_BODY = 64 * 1024 * 1024  # bytes, decoded
SECONDS = 30.0  # for one exchange, from the connection to the answer's last byte
# Seconds for each part of it, as transports take them.
_TIMEOUT = {"timeout": httpx.Timeout(30.0, connect=10.0).as_dict()}
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip",
    "connection": "keep-alive",
    "user-agent": f"backfill/{__version__}",
}
_url = lru_cache(maxsize=100)(httpx.URL)  # many requests go to one
_LARGE = 4 * 1024 * 1024  # bytes beyond which answers are read one at a time
_MOST_VALUES = 3_000_000  # in a large answer: a value of 3 bytes takes some 100 in memory
_SHOWN = 40  # characters of a header's value
_HTTPX_LOGGERS = ("httpx", "httpcore")
Answer: TypeAlias = tuple[httpx.Response, bytes]
_SCHEMES = ("http", "https", "socks5", "socks5h")
_HINT = "write it like http://proxy.example.com:3128"
_PORTED = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):(\d{1,5})")
_BRACKETED = re.compile(r"\[([^\]]*)\]$")
_ENTRY = 60  # characters
_Net: TypeAlias = IPv4Network | IPv6Network


class Unanswered(Exception):
    """A try failed that may be repeated. `maybe_taken`: the request may have had its effect.
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
    """Return `Unanswered` for what may pass by itself, else the error to end with.

    `host`: the server. `answered`: the answer had begun. `proxy`: the one in between.
    """
    chain = list(_causes(error))
    known = _tls(chain, host) or _proxys(error, host, proxy) or _unfit(error, chain, host, answered)
    return known or _passing(error, chain, f"the proxy {proxy}" if proxy else host)


def asks_for_password(proxy: str | None) -> TargetError:
    message = f"the proxy{f' {proxy}' if proxy else ''} requires a user and a password (407)"
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
            hint = (
                "if your own authority has signed it, name the authority's certificate in "
                "SSL_CERT_FILE"
            )
            return TargetError(message, hint=hint)
    for one in chain:
        if isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return Unanswered(
                "no connection: it was closed while it was being made", maybe_taken=False
            )
        if isinstance(one, ssl.SSLError):
            reason = _plain((one.reason or "").replace("_", " ").lower()) or "refused"
            hint = "is it https or http at this address?"
            return TargetError(f"no TLS connection to {host}: {reason}", hint=hint)
    return None


def _proxys(error: Exception, host: str, proxy: str | None) -> Unanswered | TargetError | None:
    """Explain a proxy's refusal; its status for CONNECT is only in the error's text."""
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
    """Explain errors that no retry can fix."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return TargetError("the URL or key has characters that are not allowed in a URL")
    if isinstance(error, httpx.LocalProtocolError):
        return TargetError(f"the request to {host} is not valid HTTP")
    garbled = any(isinstance(one, h11.RemoteProtocolError) for one in chain)
    if garbled and not answered:
        hint = "is it another server at this address, or does it need https?"
        return TargetError(f"{host} does not answer in HTTP", hint=hint)
    return None


def _passing(error: Exception, chain: list[BaseException], place: str) -> Unanswered:
    connecting = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    for one in chain:
        if isinstance(one, socket.gaierror):
            silent = one.errno == socket.EAI_AGAIN
            words = f"DNS does not answer for {place}" if silent else f"DNS does not know {place}"
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
            return "no connection: it was refused"
        if isinstance(one, OSError) and one.errno in _NO_ROUTE:
            return "no connection: no route to the host"
    return "no connection"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_WORDS]


class AnswerTooLarge(TargetError):
    """If the answer is a page of something, a smaller page may fit."""


@frozen
class Client:
    """Makes exchanges. `seconds`: the deadline of each; None if the server is in this process.

    A request goes to the transport directly: what a client of httpx does besides (cookies,
    redirects, URLs that are relative) takes longer than the transport, and none of it is wanted.
    """

    transport: httpx.AsyncBaseTransport
    headers: Mapping[str, str] = field(repr=False)  # some have keys
    seconds: float | None = SECONDS
    most: int = MAX_BODY
    proxies: Proxies | None = field(default=None, repr=False)
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        most: int | None = None,
        unread: bool = False,
        **content: Any,
    ) -> Answer:
        """Try once. Raises `Unanswered` for what may pass by itself, else `TargetError`.

        `seconds` and `most` are lower limits; with `unread` the body is not read. `content`: as
        `httpx.Request` takes it.
        """
        limits = [limit for limit in (self.seconds, seconds) if limit is not None]
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(min(limits, default=None)):
                request = self._request(method, _url(url), headers or {}, **content)
                response = await self.transport.handle_async_request(request)
                async with aclosing(response):
                    body = b"" if unread else await self._read(response, most or self.most)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
            place, proxy = self._place(url)
            raise explained(error, place, answered=response is not None, proxy=proxy) from None
        if response.status_code == 407:
            raise asks_for_password(self._place(url)[1])
        return response, body

    def _request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], **content: Any
    ) -> httpx.Request:
        request = httpx.Request(
            method, url, headers={**self.headers, **headers}, extensions=_TIMEOUT, **content
        )
        if url.userinfo:
            basic = b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")
            request.headers["authorization"] = f"Basic {basic}"
        return request

    def _place(self, url: str) -> tuple[str, str | None]:
        """Return host and port of a URL, and of its proxy."""
        try:
            parts = _url(url)
        except httpx.InvalidURL:
            return "the server", None
        proxy = self.proxies and self.proxies.of(parts.scheme, parts.host, parts.port)
        return parts.netloc.decode("ascii"), proxy.place if proxy else None

    async def _read(self, response: httpx.Response, most: int) -> bytes:
        """Decode the body ourselves, since httpx limits neither the encodings nor the decoded
        size."""
        if response.is_stream_consumed:  # by the transport: a stand-in that answers in one piece
            _check_size(len(response.content), most)
            return response.content
        unzip = _decoder(response.headers)
        body, sent, alone = bytearray(), 0, False
        try:
            async for part in response.aiter_raw():
                sent += len(part)
                body += unzip.decompress(part, most + 1 - len(body)) if unzip else part
                _check_size(max(len(body), sent), most)
                if len(body) > _LARGE and not alone:
                    alone = await self._large.acquire()
        except zlib.error:
            raise TargetError(
                "the server's answer is not valid gzip, although it says so"
            ) from None
        finally:
            if alone:
                self._large.release()
        if unzip and sent and not unzip.eof:
            raise TargetError("the server's answer ends before its gzip is complete")
        return bytes(body)


@asynccontextmanager
async def open_client(
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> AsyncIterator[Client]:
    """Open a client. `transport` is the embedded server's, or a stand-in's; None is the network,
    with the proxies and certificates that `env` names. Raises `UsageError` with the name of an
    invalid variable."""
    for name in _HTTPX_LOGGERS:  # they log full URLs, and some contain keys
        logging.getLogger(name).disabled = True
    proxies = None
    if transport is None:
        env = os.environ if env is None else env
        seconds = SECONDS if seconds is None else seconds
        proxies = read_proxies(env)
        named = env.get("SSL_CERT_FILE"), env.get("SSL_CERT_DIR")
        if any(named):
            _certificates(*named)  # fail early if they are invalid
        transport = _Network(partial(_certificates, *named), proxies)
    async with transport:
        yield Client(transport, {**_HEADERS, **(headers or {})}, seconds, proxies=proxies)


@frozen
class BlockingClient:
    """A client for callers without an event loop, which runs in a thread of its own."""

    client: Client
    portal: BlockingPortal

    def exchange(self, method: str, url: str, **arguments: Any) -> Answer:
        return self.portal.call(partial(self.client.exchange, method, url, **arguments))


@contextmanager
def open_blocking_client(
    transport: httpx.AsyncBaseTransport | None = None, **how: Any
) -> Iterator[BlockingClient]:
    """See `open_client`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_client(transport, **how)) as client,
    ):
        yield BlockingClient(client, portal)


def parsed(body: bytes) -> Any:
    """Parse a JSON answer; `ValueError` if it is invalid: not UTF-8, too deep, an infinite
    number."""
    if len(body) > _LARGE and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise AnswerTooLarge(f"the server's answer has more than {_MOST_VALUES:,} values")
    return orjson.loads(body)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either of its two forms."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:10])
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _check_size(size: int, most: int) -> None:
    if size > most:
        shown = f"{most // 1024 // 1024} MiB" if most >= 1024 * 1024 else f"{most // 1024} KiB"
        raise AnswerTooLarge(f"the server's answer is larger than {shown}")


def _decoder(headers: httpx.Headers) -> Any:
    encodings = [one.strip().lower() for one in headers.get("content-encoding", "").split(",")]
    match [one for one in encodings if one not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        case others:
            shown = "".join(c if c.isprintable() else "?" for c in ", ".join(others))[:_SHOWN]
            message = f"the server's answer is encoded as `{shown}`; only a single gzip is accepted"
            raise TargetError(message, hint="is there a proxy in between that encodes it again?")


class _Network(httpx.AsyncBaseTransport):
    """Sends each request directly or through a proxy, with or without TLS. `certificates` are only
    read for TLS, since that takes as long as everything else before a first request."""

    def __init__(self, certificates: Callable[[], ssl.SSLContext], proxies: Proxies | None) -> None:
        self._certificates, self._proxies = certificates, proxies
        found = set(proxies.by_scheme.values()) if proxies else set()
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        self._ways = {(proxy, False): _way(plain, proxy) for proxy in (None, *found)}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        proxy = self._proxies.of(url.scheme, url.host, url.port) if self._proxies else None
        secure = "https" in (url.scheme, proxy and urlsplit(proxy.url).scheme)
        way = self._ways.get((proxy, secure))
        if way is None:
            way = self._ways[proxy, secure] = _way(self._certificates(), proxy)
        return await way.handle_async_request(request)

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()


def _way(verify: ssl.SSLContext, proxy: Proxy | None) -> httpx.AsyncHTTPTransport:
    try:
        return httpx.AsyncHTTPTransport(
            verify=verify,
            limits=_LIMITS,
            trust_env=False,
            proxy=httpx.Proxy(proxy.url) if proxy else None,
        )
    except ImportError:
        message = f"{proxy and proxy.variable} is a SOCKS proxy, but the package socksio is missing"
        raise UsageError(message, hint="pip install socksio, or name an http:// proxy") from None
    except (ValueError, httpx.InvalidURL):
        raise UsageError(f"{proxy and proxy.variable} is not a proxy's address") from None


@cache  # read once: each client would spend the time again
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file:
        return _context("SSL_CERT_FILE", "file", file, Path(file).is_file())
    if folder:
        return _context("SSL_CERT_DIR", "folder", folder, Path(folder).is_dir())
    return httpx.create_ssl_context(trust_env=False)


def _context(variable: str, kind: str, path: str, there: bool) -> ssl.SSLContext:
    """Load certificates; raise if they cannot be read, since then nothing could be trusted."""
    hint = f"name a {kind} of certificates (PEM), or unset {variable}"
    if not there:
        raise UsageError(f"{variable} names a {kind} that does not exist: {path!r}", hint=hint)
    try:
        if kind == "file":
            return ssl.create_default_context(cafile=path)
        return ssl.create_default_context(capath=path)
    except (OSError, ValueError):
        message = f"{variable} names a {kind} without certificates that can be read: {path!r}"
        raise UsageError(message, hint=hint) from None


@frozen
class Proxy:
    variable: str
    url: str = field(repr=False)
    place: str  # host and port


@frozen
class _Direct:
    """One entry of NO_PROXY: a network, or a domain and its subdomains."""

    network: _Net | None
    domain: str
    port: int | None

    def holds(self, host: str, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return host == self.domain or host.endswith(f".{self.domain}")
        try:
            address = ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return address in self.network or mapped in self.network


@frozen
class Proxies:
    by_scheme: Mapping[str, Proxy]
    direct: tuple[_Direct, ...]

    def of(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        proxy = self.by_scheme.get(scheme)
        host = host.lower().rstrip(".")
        port = port or (443 if scheme == "https" else 80)
        return None if any(one.holds(host, port) for one in self.direct) else proxy


def read_proxies(env: Mapping[str, str]) -> Proxies | None:
    """Read the proxies; None if none is named. Raises `UsageError`."""
    found: dict[str, Proxy] = {}
    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", "all_proxy"):
            variable = next((one for one in (name, name.upper()) if env.get(one)), None)
            if variable:
                found[scheme] = _proxy(variable, env[variable].strip())
                break
    variable = "no_proxy" if env.get("no_proxy") else "NO_PROXY"
    entries = re.split(r"[,\s]+", env.get(variable, ""))
    direct = tuple(_entry(variable, entry) for entry in entries if entry not in ("", "*"))
    return None if not found or "*" in entries else Proxies(found, direct)


def _proxy(variable: str, text: str) -> Proxy:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        more = parts.path not in ("", "/") or parts.query or parts.fragment
        plain = text.isascii() and text.isprintable() and " " not in text
        fine = parts.scheme in _SCHEMES and host and port != 0 and not more and plain
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(f"{variable} is not a proxy's address", hint=_HINT)
    shown = f"[{host}]" if host and ":" in host else host
    return Proxy(variable, url, f"{shown}:{port}" if port else str(shown))


def _entry(variable: str, text: str) -> _Direct:
    entry = text.partition("://")[2] or text
    host, port = entry, None
    if ported := _PORTED.fullmatch(entry):
        host, port = ported[1], int(ported[2])
    host = (bracketed[1] if (bracketed := _BRACKETED.match(host)) else host).lower()
    try:
        return _Direct(ip_network(host, strict=False), "", port)
    except ValueError:
        pass
    domain = host.removeprefix("*").strip(".")
    if not domain or (port or 0) > 65_535 or re.search(r"[][/:*]", domain):
        shown = "".join(c if c.isprintable() else "?" for c in text)[:_ENTRY]
        hint = (
            "write names, addresses and ranges with commas between: .example.com,10.0.0.0/8,[::1]"
        )
        raise UsageError(
            f"{variable} has `{shown}`, which is not a name, address or range", hint=hint
        )
    return _Direct(None, domain, port)
