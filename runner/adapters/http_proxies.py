"""Which proxy an address is reached by: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.

A variable that cannot be understood is named, and never shown: a proxy's has a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

from runner.errors import UsageError
from runner.model import frozen

_SCHEMES = ("http", "https", "socks5", "socks5h")
_HINT = "write it like http://proxy.example.com:3128"
_PORTED = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):(\d{1,5})")
_BRACKETED = re.compile(r"\[([^\]]*)\]$")
_SHOWN = 60  # characters
_Network: TypeAlias = IPv4Network | IPv6Network


@frozen
class Proxy:
    variable: str
    url: str = field(repr=False)
    place: str  # host and port


@frozen
class _Direct:
    """What one entry of NO_PROXY is about: a network, or a domain with what lies below it."""

    network: _Network | None
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
    """None where no proxy is named. Raises `UsageError`."""
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
        shown = "".join(c if c.isprintable() else "?" for c in text)[:_SHOWN]
        hint = (
            "write names, addresses and ranges with commas between: .example.com,10.0.0.0/8,[::1]"
        )
        raise UsageError(f"{variable} has `{shown}`, which is no name, address or range", hint=hint)
    return _Direct(None, domain, port)
