"""Keys and tokens do not belong in a plan: find them, and never echo them.

The shapes are those that the services publish for secret scanning; a key without a shape of its
own (Inngest's event keys) is known by the name it is written under, or by its sheer length.
"""

from __future__ import annotations

import re

_SHAPES = (
    r"signkey-\w+-[0-9A-Za-z]{8,}",  # Inngest signing keys
    r"gh[pousr]_[0-9A-Za-z]{20,}|github_pat_\w{20,}",
    r"sk-[0-9A-Za-z_-]{20,}",
    r"xox[abprs]-[0-9A-Za-z-]{10,}",
    r"A(?:KIA|SIA)[0-9A-Z]{16}",
    r"eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]*",  # JWTs: Supabase's keys
    r"sb_secret_\w{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"(?<=://)[^\s:/@]*:[^\s:/@{}]+(?=@)",  # user:password in a URL
    r"(?<![0-9A-Za-z_/+=.-])[0-9A-Za-z_+-]{80,}={0,2}(?![0-9A-Za-z_/+=.-])",
)
_NAMED = (
    r"(?i:(?:event|signing|api|access|service_role|private|secret)[_-]?key|token|password|secret)"
    r"[\"']?\s*[:=]\s*[\"']?(?P<value>[0-9A-Za-z_+/=.-]{16,})"
)
_SECRET = re.compile("|".join([*_SHAPES, rf"(?<![0-9A-Za-z]){_NAMED}"]))


def find(text: str) -> list[tuple[int, int]]:
    """The spans of `text` that look like a key or token."""
    return [_span(match) for match in _SECRET.finditer(text)]


def redact(text: str) -> str:
    """`text` with whatever looks like a key or token replaced by ``***``."""
    for start, end in reversed(find(text)):
        text = text[:start] + "***" + text[end:]
    return text


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("value") if match["value"] else match.span()
