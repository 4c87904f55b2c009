"""Internal-id seeds: resending a body under the same seed gives the same internal ids."""

from __future__ import annotations

import base64
from random import Random

from runner.model import StageSpec

_LOW = 0xFFFFFFFF
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # ten bits each


def make_seed(now: float, random: Random) -> str:
    """Make a seed, ``"<ms>,<base64 of 10 random bytes>"``, as in the header (protocol page, section
    1)."""
    return f"{int(now * 1000)},{base64.b64encode(random.randbytes(10)).decode()}"


def event_id(
    run_id: str, stage: StageSpec, item: str, index: int, operation: str | None = None
) -> str:
    """Make the idempotency key of the `index`-th event of a stage.

    The server claims a run per function and id, whatever the event's name (protocol page, section
    2). So the id has the operation, and the run, so that a second run is not a duplicate; and the
    place in the stage, if an item may occur more than once. `operation`: the event's own, in a
    stage of several.
    """
    place = f"#{index + 1}" if stage.numbered else ""
    return f"{run_id}:{operation or stage.operation}:{item}{place}"


def internal_ids(seed: str, indices: range) -> list[str]:
    """Derive the ULIDs that the server gives the events of a request at these indices: the last
    four bytes of the entropy, + index + 1.

    Mostly only the last two of the 26 characters differ: building each with a ULID library would
    cost more than rendering, journaling and sending the event.
    """
    milliseconds, _, encoded = seed.partition(",")
    entropy = base64.b64decode(encoded)
    high = int(milliseconds) << 80 | int.from_bytes(entropy[:6], "big") << 32
    low, index, found = int.from_bytes(entropy[6:], "big"), indices.start, list[str]()
    while index < indices.stop:
        number = high | (low + index + 1) & _LOW
        head = "".join([_PAIRS[number >> bits & 1023] for bits in range(120, 0, -10)])
        alike = _PAIRS[number & 1023 :][: indices.stop - index]
        found += [head + last for last in alike]
        index += len(alike)
    return found
