"""Cutting a batch into requests: the smaller of the batch, the server's limit and a byte limit."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, count, islice

import orjson

from runner.execution.options import RequestLimits
from runner.execution.seeds import event_id
from runner.model import ExecutionPlan, Stage

_PART = 500  # events


class Wire:
    """How a run writes the events of a stage.

    `base` is what the times of scheduled events count from: with it, a request that is made again
    has the same bytes.
    """

    def __init__(self, run_id: str, base: float, stage: Stage, first: int) -> None:
        self.stage, self.first, self.base = stage, first, base
        self._run_id = run_id
        self._head = b'{"name":' + orjson.dumps(stage.event) + b',"data":'
        # Of an item that comes once: its payload, and the item as JSON without its first quote.
        before_item = orjson.dumps(event_id(run_id, stage, "", 0))[:-1]
        fixed = [part.replace(b"%", b"%%") for part in (self._head, b',"id":' + before_item)]
        self._form = b"%b".join((*fixed, b"}"))
        self._plain = not stage.numbered and stage.begins is None

    def encode(self, index: int, item: str, data: bytes) -> bytes:
        """The `index`-th event of the stage as it is sent, with its idempotency key."""
        id_ = orjson.dumps(event_id(self._run_id, self.stage, item, index))
        at = self.stage.at(self.stage.batch_of(index))
        time = b"" if at is None else b',"ts":%d' % ((self.base + at) * 1000)
        return b"".join((self._head, data, b',"id":', id_, time, b"}"))

    def pages(self, start: int) -> Iterator[tuple[list[str], list[bytes]]]:
        """Items and events of the stage from the `start`-th on, some hundreds at once."""
        for names, payloads in _parts(self.stage.items.pages(start)):
            items = orjson.loads(b"[" + b",".join(names) + b"]")
            if self._plain:
                # As `encode` writes it, without its calls: this is done a million times.
                form, pairs = self._form, zip(names, payloads, strict=True)
                yield items, [form % (data, name[1:]) for name, data in pairs]
            else:
                numbered = zip(count(start), items, payloads, strict=False)
                yield items, [self.encode(*event) for event in numbered]
            start += len(items)


def _parts(
    pages: Iterable[tuple[Sequence[bytes], Sequence[bytes]]],
) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
    """Less than a request at once, so that while one is under way no more is made than the next
    one asks for."""
    for names, payloads in pages:
        for at in range(0, len(names), _PART):
            yield names[at : at + _PART], payloads[at : at + _PART]


class Ahead:
    """The events that are to be sent, in their order, the next ones made before they are needed.

    `position` is that of the first of them, counted from 0 over the run.
    """

    def __init__(self, wire: Wire, start: int) -> None:
        self.items: list[str] = []
        self.bodies: list[bytes] = []
        self.position, self.base = wire.first + start, wire.base
        self._ends = array("Q")  # of each, counted in bytes from the first that was made
        self._dropped = 0  # bytes
        self._spent: list[bytes] = []
        self._pages = wire.pages(start)
        self._ready: tuple[int, RequestLimits] | None = None  # where it begins, what it may hold
        self._request = 0, b""

    def drop(self, count: int) -> None:
        """These were dealt with. What they took is given back while a server is at work."""
        self._dropped = self._ends[count - 1] if count else self._dropped
        self._spent = self.bodies[:count]
        del self.items[:count], self.bodies[:count], self._ends[:count]
        self.position += count

    def prepare(self, skipped: int, limits: RequestLimits) -> None:
        """Have the request ready that follows the next `skipped` events, which one has taken."""
        self._spent = []
        count = self._fitting(skipped, limits)
        while skipped + count == len(self.bodies) and count < limits.events and self._make():
            count = self._fitting(skipped, limits)
        self._ready = self.position + skipped, limits
        self._request = count, join(self.bodies[skipped : skipped + count])

    def request(self, limits: RequestLimits) -> tuple[int, bytes]:
        """How many events go into the next request, and its body."""
        if self._ready != (self.position, limits):
            self.prepare(0, limits)
        return self._request

    def _make(self) -> bool:
        """Make as many more as lie together; False where there are none."""
        items, bodies = next(self._pages, ((), ()))
        last = self._ends[-1] if self._ends else self._dropped
        self.items += items
        self.bodies += bodies
        self._ends.extend(islice(accumulate(map(len, bodies), initial=last), 1, None))
        return bool(bodies)

    def _fitting(self, skipped: int, limits: RequestLimits) -> int:
        """How many of those that are made go into one request; at least one of them."""
        before = self._ends[skipped - 1] if skipped else self._dropped
        following = range(skipped, min(len(self._ends), skipped + limits.events))
        # After the n-th event come n commas and two brackets.
        within = bisect_right(
            following,
            limits.bytes + before - 2,
            key=lambda last: self._ends[last] + last - skipped,
        )
        return max(within, min(1, len(following)))


def stage_at(plan: ExecutionPlan, position: int) -> tuple[Stage, int]:
    """The stage that holds a position, and the stage's first position."""
    first = 0
    for stage in plan.stages:
        if position < first + stage.total:
            return stage, first
        first += stage.total
    raise IndexError(position)


def pick(plan: ExecutionPlan, positions: Iterable[int]) -> Iterator[tuple[Stage, int, str, bytes]]:
    """Stage, index in the stage, item and payload at each of the (ascending) positions."""
    stage: Stage | None = None
    first = index = 0
    items: Iterator[tuple[str, bytes]] = iter(())
    for position in positions:
        if stage is None or position >= first + stage.total:
            stage, first = stage_at(plan, position)
            index = position - first
            items = stage.items.raw(index)
        while index < position - first:
            next(items)
            index += 1
        item, data = next(items)
        index += 1
        yield stage, index - 1, item, data


def join(bodies: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(bodies) + b"]"
