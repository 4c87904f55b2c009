"""Internal-id seeds: resending the same body under the same seed gives the same internal ids."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from random import Random

from ulid import ULID

_LOW = 0xFFFFFFFF


def make_seed(now: float, random: Random) -> str:
    """``"<ms>,<base64 of 10 random bytes>"``, the header's form (protocol page, section 1)."""
    return f"{int(now * 1000)},{base64.b64encode(random.randbytes(10)).decode()}"


def internal_ids(seed: str, count: int) -> Iterator[str]:
    """The ULIDs that the server derives: the last four bytes of the entropy, + index + 1."""
    milliseconds, _, encoded = seed.partition(",")
    entropy = base64.b64decode(encoded)
    prefix = int(milliseconds).to_bytes(6, "big") + entropy[:6]
    low = int.from_bytes(entropy[6:], "big")
    for index in range(count):
        yield str(ULID(prefix + ((low + index + 1) & _LOW).to_bytes(4, "big")))
