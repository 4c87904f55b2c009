"""Tell which texts are URLs of a server."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")


def is_http(text: str) -> bool:
    """Tell whether it is an HTTP URL of a server. Texts with blanks or invalid host names are not,
    even if a client would accept them."""
    if not text.isprintable() or " " in text or "\\" in text:
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            IPv6Address(host)
    except ValueError:
        return False
    place = parts.netloc.rpartition("@")[2]
    named = f"[{host}]" if ":" in host else host
    whole = named if port is None else f"{named}:{place.rpartition(':')[2]}"
    return (
        parts.scheme in ("http", "https")
        and port != 0
        and (":" in host or _NAME.fullmatch(host) is not None)
        and place.lower() == whole
    )
