"""Internal-id seeds: resending the same body under the same seed gives the same internal ids."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from random import Random

from runner.model import StageSpec

_LOW = 0xFFFFFFFF
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # ten bits each


def make_seed(now: float, random: Random) -> str:
    """``"<ms>,<base64 of 10 random bytes>"``, the header's form (protocol page, section 1)."""
    return f"{int(now * 1000)},{base64.b64encode(random.randbytes(10)).decode()}"


def event_id(
    run_id: str, stage: StageSpec, item: str, index: int, operation: str | None = None
) -> str:
    """The idempotency key of the `index`-th event of a stage.

    The server claims a run per function and id, whatever the event's name (protocol page, section
    2): so the operation is part of the id, and the run, so that a second run is not a duplicate;
    and the place in the stage, where an item may come more than once. `operation`: the event's
    own, in a stage of several.
    """
    place = f"#{index + 1}" if stage.numbered else ""
    return f"{run_id}:{operation or stage.operation}:{item}{place}"


def internal_ids(seed: str, indices: Iterable[int]) -> Iterator[str]:
    """The ULIDs that the server derives for the events of a request at these indices: the last four
    bytes of the entropy, + index + 1.

    Only the last 7 of the 26 characters differ, so only they are made anew: a library's ULID for
    each would cost more than rendering, journaling and sending the event.
    """
    from ulid import ULID  # most that read a journal need no ids

    milliseconds, _, encoded = seed.partition(",")
    entropy = base64.b64decode(encoded)
    common = str(ULID(int(milliseconds).to_bytes(6, "big") + entropy))[:19]
    low, high = int.from_bytes(entropy[6:], "big"), (entropy[5] & 7) << 32
    pairs = _PAIRS
    for index in indices:
        tail = high | ((low + index + 1) & _LOW)
        yield (
            f"{common}{_CROCKFORD[tail >> 30]}"
            f"{pairs[tail >> 20 & 1023]}{pairs[tail >> 10 & 1023]}{pairs[tail & 1023]}"
        )
