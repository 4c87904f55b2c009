"""Events of one key, spread among others as its throttle asks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from runner.model import Json, Pacing, Throttle


def spread(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> Sequence[int]:
    """The order of the events, given by their keys: as it is where it keeps the throttle; else with
    those of each key as far apart as they can be, in their own order."""
    if keeps(keys, throttle, pacing):
        return range(len(keys))
    counts, seen = Counter(keys), Counter[Json]()
    places = []
    for key in keys:
        places.append((2 * seen[key] + 1) / counts[key])
        seen[key] += 1
    return sorted(range(len(keys)), key=places.__getitem__)


def keeps(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> bool:
    return needed_delay(keys, throttle, pacing) <= pacing.delay


def needed_delay(keys: Sequence[Json], throttle: Throttle, pacing: Pacing) -> float:
    """The least delay between batches with which no key has more than `limit` events in `per`
    seconds; infinite where a batch alone has more."""
    batches: dict[Json, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        batches[key].append(index // pacing.batch_size)
    needed = 0.0
    for places in batches.values():
        for first, last in zip(places, places[throttle.limit :], strict=False):
            apart = last - first
            needed = max(needed, throttle.per / apart if apart else float("inf"))
    return needed


def throttled(
    keys: Sequence[Json], throttle: Throttle, pacing: Pacing
) -> tuple[Sequence[int], Pacing]:
    """The order of the events, and the pace at which it keeps the throttle: with smaller batches
    where one alone has too many of a key, and a longer delay."""
    order = spread(keys, throttle, pacing)
    known = [keys[index] for index in order]
    while (needed := needed_delay(known, throttle, pacing)) == float("inf"):
        pacing = replace(pacing, batch_size=max(1, pacing.batch_size // 2))
    return order, replace(pacing, delay=max(pacing.delay, needed))
