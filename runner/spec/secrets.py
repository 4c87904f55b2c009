"""Find keys and tokens, which do not belong in a plan, and never echo them.

The shapes are those that the services publish for secret scanning; a key without a shape of its
own (Inngest's event keys) is recognised by the name it is written under, or by its length.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping

# A random text has lower case, upper case and digits; prose, rulers and digests lack one of them.
# Every repetition is bounded, or starts where no other can, so that a search takes linear time. If
# every place may start one, it gives nothing back (`+`): 64 MiB took 40 seconds.
_RANDOM = "".join(
    rf"(?=[{others}_+=/.-]{{0,99}}+[{kind}])"
    for kind, others in (("0-9", "A-Za-z"), ("a-z", "0-9A-Z"), ("A-Z", "0-9a-z"))
)

_SHAPES = (
    r"signkey-\w+-[0-9A-Za-z]{8,}",  # Inngest signing keys
    r"gh[pousr]_[0-9A-Za-z]{20,}",
    r"github_pat_\w{20,}",
    r"glpat-[\w-]{20,}",
    rf"sk[-_]{_RANDOM}[0-9A-Za-z_-]{{20,}}",
    r"xox[abprs]-[0-9A-Za-z-]{10,}",
    r"A(?:KIA|SIA)[0-9A-Z]{16}",
    r"AIza[\w-]{35}",
    # JWTs, such as Supabase's keys: a header in ASCII has neither `-` nor `_`.
    r"eyJ[0-9A-Za-z]{10,999}\.[0-9A-Za-z_-]{10,9999}\.[0-9A-Za-z_-]*",
    r"sb_secret_\w{10,}",
    r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[\w/-]{8,}",
    rf"(?<![\w/+.-]){_RANDOM}[0-9A-Za-z_+-]{{80,}}={{0,2}}(?![\w/+=.-])",
)
# Whatever the shapes and names match contains one of these, or a run of 80 characters.
_SIGNS = (
    *(b"signkey-", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-"),
    *(b"sk-", b"sk_", b"xox", b"akia", b"asia", b"aiza", b"eyj", b"sb_secret_", b"://"),
    b"private key-----",
)
# A name counts only before a value: the word alone may be on every line of a large file.
_NAMES = tuple(
    (word, re.compile(word + rb"[\"']?[ \t]{0,99}[:=]"))
    for word in (b"key", b"token", b"password", b"secret")
)
_RUN = b"x" * 80  # after every character that keys may have is replaced by `x`
_IN_A_RUN = bytes(ord("x") if chr(c).isalnum() or chr(c) in "_+-" else 0 for c in range(128))
_IN_A_RUN += bytes(128)
_PART, _OVERLAP = 1 << 20, 256  # bytes; signs, names and runs are shorter than the overlap
_NAMED = (
    r"(?<![0-9A-Za-z])"
    r"(?i:(?:event|signing|api|access|service_role|private|secret)[_-]?key|token|password|secret)"
    r"[\"']?[ \t]{0,99}[:=](?:[ \t]*+[|>][-+]?[ \t]*\n)?[ \t\"']*+"
    # The name of an environment variable is not a key: `event_key: STAGING_EVENT_KEY`.
    r"(?P<value>(?![A-Z][A-Z0-9]{0,60}(?:_[A-Z0-9]{1,60}){1,20}(?![\w+/=.-]))"
    r"(?=[\w+/=.-]{0,99}[A-Za-z])[0-9A-Za-z_+/=.-]{16,})"
)
_SECRET = re.compile(
    "|".join(
        [
            r"(?<![0-9A-Za-z])(?=[\w+-])(?:" + "|".join(_SHAPES) + ")",
            r"(?<=://)[^\s:/@]*:[^\s:/@{}]+(?=@)",  # user:password in a URL
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            _NAMED,
        ]
    )
)
# Endings of names of variables with keys, and beginnings of those whose URLs hold none.
_HOLD_KEYS = ("_KEY", "_TOKEN", "_KEY_FALLBACK", "_SECRET", "PASSWORD", "_URL")
_PLAIN_URLS = ("INNGEST_", "GITHUB_")
_SHORTEST_PART = 8  # characters of a truncated key that are worth hiding


def find(text: str) -> list[tuple[int, int]]:
    """Return the spans of `text` that look like a key or token."""
    if not _is_suspect(text.encode(errors="replace")):
        return []
    return [_span(match) for match in _SECRET.finditer(text)]


def suspect(raw: bytes) -> bool:
    """Tell whether the file may contain a key, without copying all of it."""
    parts = (raw[start : start + _PART + _OVERLAP] for start in range(0, len(raw), _PART))
    return any(map(_is_suspect, parts))


def _is_suspect(raw: bytes) -> bool:
    lowered = raw.lower()
    return (
        any(sign in lowered for sign in _SIGNS)
        or any(word in lowered and name.search(lowered) for word, name in _NAMES)
        or _RUN in lowered.translate(_IN_A_RUN)
    )


def redact(text: str) -> str:
    """Replace whatever looks like a key or token by ``***``."""
    return _replaced(text, find(text), lambda _: "***")


def without_keys(text: str, environ: Mapping[str, str]) -> str:
    """Replace the values of variables that hold a key, or a URL with one, by the variables'
    names."""
    for name, value in environ.items():
        if len(value) < _SHORTEST_PART or not name.endswith(_HOLD_KEYS):
            continue
        if not name.endswith("_URL") or not name.startswith(_PLAIN_URLS):
            text = text.replace(value, f"<{name}>")
    return text


def mask(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Replace the spans by stars; every other character keeps its line and column."""
    return _replaced(text, spans, lambda key: re.sub(r"[^\r\n]", "*", key))


class Scrubber:
    """Removes known keys from texts, even if only the beginning of one is left."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = sorted({key for key in keys if len(key) >= _SHORTEST_PART})
        self._starts = {key[:_SHORTEST_PART] for key in self._keys}

    def __call__(self, text: str) -> str:
        spans: list[tuple[int, int]] = []
        end = 0
        for start in range(len(text) - _SHORTEST_PART + 1) if self._keys else ():
            if start >= end and text[start : start + _SHORTEST_PART] in self._starts:
                end = start + self._hidden(text[start:])
                spans.append((start, end))
        return _replaced(text, spans, lambda _: "***")

    def _hidden(self, text: str) -> int:
        """Return how many characters are the beginning of a key: in sorted order, one of the two
        neighbours shares the longest prefix."""
        place = bisect(self._keys, text)
        return max(_common(text, key) for key in self._keys[max(0, place - 1) : place + 1])


def _common(text: str, key: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(text, key, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(text), len(key)))


def _replaced(text: str, spans: Iterable[tuple[int, int]], by: Callable[[str], str]) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], by(text[start:end])]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("value") if match["value"] else match.span()
