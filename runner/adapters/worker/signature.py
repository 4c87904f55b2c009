"""Whether a request is the engine's: its signature is checked here, before anything else looks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jcs  # type: ignore[import-untyped]

_OLDEST = 5 * 60.0  # seconds
_EARLIEST = 60.0  # ... that the engine's clock may be ahead of this one
_REMEMBERED = 100_000  # signatures; as many requests in five minutes are more than a worker takes
_VALUES = 200_000  # in a body: its canonical form is made before anybody is known to have signed it
_SIGNATURE = re.compile(r"t=([0-9]{1,12})&s=([0-9a-f]{64})")
_PREFIX = re.compile(r"signkey-\w+-")


def bare(key: str) -> str:
    """A signing key without ``signkey-prod-``; the engine signs with these digits as a text."""
    prefix = _PREFIX.match(key)
    return key[prefix.end() :] if prefix else key


def bearer(key: str) -> str:
    """How the REST API is shown a key: the digest of the bytes that its digits stand for."""
    return hashlib.sha256(bytes.fromhex(bare(key))).hexdigest()


@dataclass
class Signatures:
    """Each is taken once, as far as this process remembers: only right ones are remembered, so a
    stranger cannot fill the memory."""

    keys: Sequence[str]
    clock: Callable[[], float] = time.time
    remembered: int = _REMEMBERED
    _taken: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def refusal(self, header: str | None, body: bytes) -> str | None:
        """Why the request is none of the engine's; None where it is. One thread at a time."""
        if header is None:
            return "it is not signed"
        found = _SIGNATURE.fullmatch(header)
        if found is None:
            return "its signature has not the form of one"
        signed_at, given = int(found[1]), bytes.fromhex(found[2])
        age = self.clock() - signed_at
        if age > _OLDEST:
            return f"its signature is {age:.0f} s old; five minutes are the most: are clocks right?"
        if age < -_EARLIEST:
            return f"its signature is {-age:.0f} s in the future: are clocks right?"
        if sum(body.count(mark) for mark in b",:[{") > _VALUES:
            return f"its body has more than {_VALUES:,} values"
        try:
            canonical = jcs.canonicalize(json.loads(body)) if body else b""
        except (ValueError, RecursionError, OverflowError):
            return "its body is no JSON"
        signed = canonical + found[1].encode()
        if not any(hmac.compare_digest(given, _mac(key, signed)) for key in self.keys):
            return "its signature is made with another key, or of another body"
        if given in self._taken:
            return "it was taken already"
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
