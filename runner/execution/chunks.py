"""Cutting a batch into requests: the smaller of the batch, the server's limit and a byte limit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple

import orjson

from runner.execution.seeds import event_id
from runner.model import ExecutionPlan, Stage

MAX_EVENTS = 5_000  # the Event API's own limit (protocol page, section 1)
MAX_BYTES = 450_000  # one documentation page says a request may be "up to 512kb" in all


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request may hold: events, and bytes of its body."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


class Encoded(NamedTuple):
    """An event as it goes over the wire; `position` counts from 0 over the run."""

    position: int
    item: str
    body: bytes


class Wire:
    """How a run writes the events of a stage.

    `started_at` is what the times of scheduled events count from, so that they are the same
    whenever they are sent.
    """

    def __init__(self, run_id: str, started_at: float, stage: Stage, first: int) -> None:
        self.stage, self.first = stage, first
        self._run_id, self._started_at = run_id, started_at
        self._head = b'{"name":' + orjson.dumps(stage.event) + b',"data":'
        # Of an item that comes once, all of the id but the item; its closing quote is the item's.
        self._before_item = b',"id":' + orjson.dumps(event_id(run_id, stage, "", 0))[:-1]
        self._plain = not stage.numbered and stage.begins is None

    def encode(self, index: int, item: str, data: bytes) -> Encoded:
        """The `index`-th event of the stage, with its idempotency key."""
        id_ = orjson.dumps(event_id(self._run_id, self.stage, item, index))
        at = self.stage.at(self.stage.batch_of(index))
        time = b"" if at is None else b',"ts":%d' % ((self._started_at + at) * 1000)
        body = b"".join((self._head, data, b',"id":', id_, time, b"}"))
        return Encoded(self.first + index, item, body)

    def events(self, start: int) -> Iterator[Encoded]:
        """The stage's events from the `start`-th on."""
        raw = self.stage.items.raw(start)
        if not self._plain:
            return (self.encode(index, item, data) for index, (item, data) in enumerate(raw, start))
        head, middle, dumps = self._head, self._before_item, orjson.dumps
        # As `encode` writes it, without its calls: this is done a million times.
        return (
            Encoded(position, item, head + data + middle + dumps(item)[1:] + b"}")
            for position, (item, data) in enumerate(raw, self.first + start)
        )


class Ahead:
    """Events in their order, the next ones made before they are needed."""

    def __init__(self, events: Iterator[Encoded]) -> None:
        self._events = events
        self._ready: list[Encoded] = []

    def peek(self, count: int) -> list[Encoded]:
        """The next events, as many as there are."""
        self._ready += islice(self._events, max(0, count - len(self._ready)))
        return self._ready[:count]

    def drop(self, count: int) -> None:
        """These were dealt with."""
        del self._ready[:count]


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


def cut(events: Sequence[Encoded], limits: RequestLimits) -> int:
    """How many of `events` go into the next request; at least one."""
    most = min(len(events), limits.events)
    sizes = accumulate((len(event.body) + 1 for event in events[:most]), initial=1)
    within = bisect_right(list(sizes), limits.bytes) - 1
    return max(1, min(within, most))


def join(events: Sequence[Encoded]) -> bytes:
    return b"[" + b",".join([event.body for event in events]) + b"]"
