"""Send the events of a plan in order, and record each request before it is made: as many events as
the batch, the server's limit and a byte limit allow."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, count, islice
from random import Random
from typing import TypeAlias

import orjson

from runner.errors import Incomplete, TargetDown, TargetError
from runner.execution.context import RequestLimits
from runner.execution.pacing import Pace
from runner.execution.ports import Answer, Chunk, Clock, Control, EventApi, Journal, RequestTooLarge
from runner.execution.seeds import event_id, make_seed
from runner.model import ExecutionPlan, Observer, SentEvent, Stage, frozen
from runner.planning.event_blocks import cells_of, parted, start_of
from runner.spec.units import counted

_PART = 500  # events
_DATA = b',"data":'


Kind: TypeAlias = tuple[str, str]  # an operation, and the name of its events


def what_of(stage: Stage, cell: bytes) -> Kind:
    """Return the operation of an event, and its name."""
    own = parted(cell) if stage.members else {}
    return own.get("operation", stage.operation), own.get("name", stage.event)


class Wire:
    """Encodes the events of a stage for a run.

    `base` is the time from which scheduled events count: with it, a repeated request has the same
    bytes.
    """

    def __init__(self, run_id: str, base: float, stage: Stage) -> None:
        self.stage, self.base = stage, base
        self._run_id = run_id
        self._head = b'{"name":' + orjson.dumps(stage.event) + b',"id":'
        # For items that occur once: what precedes an item, with its opening quote.
        self._before = self._head + orjson.dumps(event_id(run_id, stage, "", 0))[:-1]
        self._plain = not (stage.numbered or stage.own) and stage.begins is None
        around = len(self._before) + len(_DATA) - len(b"\t") + len(b"}")
        self.around = around if self._plain else 0  # bytes of an event besides its piece

    def encode(self, index: int, item: str, data: bytes) -> bytes:
        """Encode the `index`-th event of the stage as it is sent, with its idempotency key."""
        if self.stage.own:
            return self._own(index, item, data)
        id_ = orjson.dumps(event_id(self._run_id, self.stage, item, index))
        at = self.stage.at(self.stage.batch_of(index))
        time = b"" if at is None else b',"ts":%d' % ((self.base + at) * 1000)
        return b"".join((self._head, id_, _DATA, data, time, b"}"))

    def _own(self, index: int, item: str, cell: bytes) -> bytes:
        """Encode an event with an id, a time or an operation of its own."""
        found = parted(cell)
        operation = found.get("operation")
        known = event_id(self._run_id, self.stage, item, index, operation)
        event = {
            "name": found.get("name", self.stage.event),
            "id": found.get("id", known),
            "data": found["data"],
        }
        at = self.stage.at(self.stage.batch_of(index))
        ts = found.get("ts") if at is None else int((self.base + at) * 1000)
        return orjson.dumps(event if ts is None else {**event, "ts": ts})

    def pages(self, start: int) -> Iterator[tuple[list[bytes], list[bytes], list[Kind]]]:
        """Yield the events from the `start`-th on in pages of some hundreds: the lines of items,
        the pieces from which requests are built, and the kinds of events in a stage of several
        operations."""
        for lines in _parts(self.stage.items.lines(start)):
            if self._plain:
                yield lines, lines, []
            else:
                items, payloads = cells_of(lines)
                numbered = zip(count(start), items, payloads, strict=False)
                kinds = [what_of(self.stage, cell) for cell in payloads if self.stage.members]
                yield lines, [self.encode(*event) for event in numbered], kinds
            start += len(lines)

    def request(self, pieces: Sequence[bytes]) -> bytes:
        """Build the body of a request with these events."""
        if not (self._plain and pieces):
            return join(pieces)
        # The same as `encode`, but all at once, since this is done a million times. A raw tab
        # occurs only after an item.
        events = (b"}," + self._before).join(pieces)
        return b"".join((b"[", self._before, events.replace(b"\t", _DATA), b"}]"))


def _parts(pages: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Split into parts smaller than a request, so that no more than the next one needs is encoded
    while one is under way."""
    for lines in pages:
        for at in range(0, len(lines), _PART):
            yield lines[at : at + _PART]


class Ahead:
    """The events to be sent, in order, encoded before they are needed.

    `position` is that of the first of them, counted from 0 over the run.
    """

    def __init__(self, wire: Wire, start: int, first: int = 0) -> None:
        """Begin with the stage's `start`-th event; `first`: the stage's own position."""
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []  # from which requests are built
        self.position, self.base = first + start, wire.base
        self._wire = wire
        self._ends = array("Q")  # the end of each piece, in bytes from the first one encoded
        self._dropped = 0  # bytes
        self._spent: object = None
        self._kinds: list[Kind] = []  # of each event, if the stage has several operations
        self._pages = wire.pages(start)
        self._ready: tuple[int, RequestLimits] | None = None  # its first position and its limits
        self._request: tuple[int, bytes]  # the prepared one

    def drop(self, count: int, sent: Sent | None = None) -> None:
        """Remove the next `count` events. Their memory, and that of the request with which they
        were `sent`, is freed while a server is busy with the next one."""
        self._dropped = self._ends[count - 1] if count else self._dropped
        self._spent = sent, self.pieces[:count]
        del self.lines[:count], self.pieces[:count], self._ends[:count], self._kinds[:count]
        self.position += count

    def prepare(self, skipped: int, limits: RequestLimits) -> None:
        """Prepare the request after the next `skipped` events, which are in the current one."""
        self._spent = None
        count = self._fitting(skipped, limits)
        while skipped + count == len(self.pieces) and count < limits.events and self._make():
            count = self._fitting(skipped, limits)
        count = self._alike(skipped, count)
        self._ready = self.position + skipped, limits
        self._request = count, self._wire.request(self.pieces[skipped : skipped + count])

    @property
    def kind(self) -> Kind:
        """The kind of the next event."""
        stage = self._wire.stage
        return self._kinds[0] if self._kinds else (stage.operation, stage.event)

    def _alike(self, skipped: int, count: int) -> int:
        """Cut a request at the first event of another operation: the journal counts by
        operation."""
        kinds = self._kinds[skipped : skipped + count]
        return next((n for n, kind in enumerate(kinds) if kind != kinds[0]), count)

    def request(self, limits: RequestLimits) -> tuple[int, bytes]:
        """Return how many events go into the next request, and its body."""
        if self._ready != (self.position, limits):
            self.prepare(0, limits)
        return self._request

    def _make(self) -> bool:
        """Encode the next page; False if there are no more."""
        lines, pieces, kinds = next(self._pages, ((), (), ()))
        self._kinds += kinds
        last = self._ends[-1] if self._ends else self._dropped
        self.lines += lines
        self.pieces += pieces
        self._ends.extend(islice(accumulate(map(len, pieces), initial=last), 1, None))
        return bool(lines)

    def _fitting(self, skipped: int, limits: RequestLimits) -> int:
        """Return how many encoded events fit into one request; at least one."""
        before = self._ends[skipped - 1] if skipped else self._dropped
        following = range(skipped, min(len(self._ends), skipped + limits.events))
        each = self._wire.around + len(b",")
        # One comma less than events, and two brackets.
        within = bisect_right(
            following,
            limits.bytes + before - 1,
            key=lambda last: self._ends[last] + each * (last - skipped + 1),
        )
        return max(within, min(1, len(following)))


def stage_at(plan: ExecutionPlan, position: int) -> tuple[Stage, int]:
    """Return the stage that holds a position, and the stage's first position."""
    first = 0
    for stage in plan.stages:
        if position < first + stage.total:
            return stage, first
        first += stage.total
    raise IndexError(position)


def pick(plan: ExecutionPlan, positions: Iterable[int]) -> Iterator[tuple[Stage, int, str, bytes]]:
    """Yield stage, index in the stage, item and payload at each of the (ascending) positions."""
    end = 0  # of the stage
    for position in positions:
        if position >= end:
            stage, first = stage_at(plan, position)
            index, end = position - first, first + stage.total
            items = stage.items.raw(index)
        while index < position - first:
            next(items)
            index += 1
        item, data = next(items)
        index += 1
        yield stage, index - 1, item, data


def join(bodies: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(bodies) + b"]"


@dataclass(slots=True)
class Sender:
    api: EventApi
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    limits: RequestLimits
    answered: bool = False  # whether the server has answered this process
    _chunks: int = field(init=False)
    _most: int = field(init=False)

    def __post_init__(self) -> None:
        self._chunks = self.journal.next_chunk()
        self._most = self.limits.events

    async def send_batch(
        self,
        stage: Stage,
        events: Ahead,
        count: int,
        number: int,
        pace: Pace,
        control: Control,
        stop: asyncio.Event,
    ) -> AsyncIterator[Sent]:
        """Send one batch, the next `count` events, in as many requests as needed.

        Ends early on `stop`, or if control requests differ from `control`. While a request is under
        way, the next events are encoded. Trouble slows down the pace.
        """
        self._most = min(self.limits.events, self._most * 2)  # recover from one large event
        while count and not stop.is_set():
            chunk = self._next_chunk(stage, events, min(count, self._most), number)
            if not self.journal.begin_chunk(chunk, control):
                return
            self._chunks += 1
            taken = len(chunk.positions)
            most = min(self._most, count - taken or pace.size)
            following = self.limits._replace(events=most)
            try:
                answer = await self._post(chunk, partial(events.prepare, taken, following))
            except RequestTooLarge as refusal:
                if refusal.maybe_taken:
                    raise _contradicted(chunk, refusal) from None
                if taken > 1:
                    self._shrink(chunk, str(refusal))
                    continue
                answer = Answer((), refused=str(refusal))
            sent = self._accept(chunk, answer)
            if answer.trouble:
                self.observer.note(pace.slow_down(answer.trouble))
            events.drop(sent.decided, sent)
            count -= sent.decided
            yield sent
            del sent, answer  # see `Ahead.drop`

    async def send_again(self, chunk: Chunk) -> Sent:
        """Repeat a request whose answer was lost: same bytes, same ids, same seed.

        Raises `RequestTooLarge`.
        """
        return self._accept(chunk, replace(await self._post(chunk), resent=True))

    def cut_anew(self, chunk: Chunk, refusal: RequestTooLarge) -> Sent:
        """Withdraw a chunk that was never accepted and is too large; its events go into smaller
        ones."""
        if len(chunk.positions) == 1:
            return self._accept(chunk, Answer((), refused=str(refusal)))
        if self.journal.next_position() != chunk.positions[-1] + 1:
            raise TargetError(f"batch {chunk.batch} cannot be sent again: {refusal}") from None
        self._shrink(chunk, str(refusal))
        return Sent(chunk, Answer(()))

    def take_as_sent(self, chunk: Chunk, ids: Sequence[str]) -> Sent:
        """Record a chunk as accepted: its events have started jobs, or an operator decided so."""
        return self._accept(chunk, Answer(tuple(ids)))

    async def _post(self, chunk: Chunk, meanwhile: Callable[[], object] | None = None) -> Answer:
        """Post a request. Raises `Incomplete` if a server that has answered this process is
        gone."""
        try:
            count = len(chunk.positions)
            answer = await self.api.send(chunk.body, count, chunk.seed, meanwhile)
        except TargetDown as error:
            if not self.answered:
                raise
            raise Incomplete(f"stopped: {error}", hint=error.hint) from None
        self.answered = True
        return answer

    def _accept(self, chunk: Chunk, answer: Answer) -> Sent:
        """Record an answer; a request that took more than one try counts as sent now."""
        if answer.resent or answer.trouble:
            chunk = replace(chunk, sent_at=self.clock.time())
        self.journal.accept(chunk, answer)
        if answer.refused is not None:
            item = chunk.items[len(answer.ids)]
            self.observer.note(f"{chunk.operation}: {item} was rejected: {answer.refused}")
        return Sent(chunk, answer)

    def _next_chunk(self, stage: Stage, events: Ahead, most: int, batch: int) -> Chunk:
        taken, body = events.request(self.limits._replace(events=most))
        now = self.clock.time()
        return Chunk(
            number=self._chunks,
            stage=stage.number,
            batch=batch,
            operation=events.kind[0],
            event=events.kind[1],
            seed=make_seed(now, self.random),
            body=body,
            positions=range(events.position, events.position + taken),
            lines=events.lines[:taken],
            sent_at=now,
            base=events.base,
        )

    def _shrink(self, chunk: Chunk, reason: str) -> None:
        """After a 413, halve the size of the following requests."""
        self.journal.withdraw(chunk)
        self._most = len(chunk.positions) // 2
        self.observer.note(
            f"{reason}: from now on at most {counted(self._most, 'event')} a request"
        )


def _contradicted(chunk: Chunk, refusal: RequestTooLarge) -> Incomplete:
    """The error if a request may have been accepted: cutting it anew would change the ids of its
    events."""
    message = f"batch {chunk.batch} of {chunk.operation}: an answer was lost, and then {refusal}"
    return Incomplete(message, hint="`backfill resume RUN` looks for its jobs first")


@frozen
class Sent:
    """The result of one request."""

    chunk: Chunk
    answer: Answer

    @property
    def accepted(self) -> int:
        return len(self.answer.ids)

    @property
    def rejected(self) -> int:
        return int(self.answer.refused is not None)

    @property
    def decided(self) -> int:
        return self.accepted + self.rejected

    def events(self) -> Iterator[SentEvent]:
        chunk = self.chunk
        items, cells = cells_of(chunk.lines)
        sent = zip(chunk.positions, items, self.answer.ids, cells, strict=False)
        for position, item, id_, cell in sent:
            yield SentEvent(
                position,
                chunk.stage,
                chunk.operation,
                item,
                chunk.event,
                chunk.number,
                id_,
                chunk.sent_at,
                start_of(cell),
            )


def batch_size(stage: Stage, index: int, pace: Pace) -> int:
    """Return the size of the batch that begins with the stage's `index`-th event.

    At the planned pace batches keep their bounds: what is left of a begun batch comes first.
    """
    left = stage.left_of_batch(index)
    size = left if pace.as_planned or index < stage.canary else pace.size
    return min(size, stage.total - index)
