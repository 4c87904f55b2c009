"""Sends the events of a plan in order, each request written down before it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from runner.errors import Incomplete, TargetDown, TargetError
from runner.execution.chunks import Ahead
from runner.execution.options import RequestLimits
from runner.execution.pace import Pace
from runner.execution.ports import Answer, Chunk, Clock, Control, EventApi, Journal, RequestTooLarge
from runner.execution.seeds import make_seed
from runner.model import Observer, SentEvent, Stage


@dataclass(slots=True)
class Sender:
    api: EventApi
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    limits: RequestLimits
    answered: bool = False  # has the server taken anything from this process?
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
        seen: Control,
        stop: asyncio.Event,
    ) -> AsyncIterator[Sent]:
        """Send one batch, the next `count` events, in as many requests as they ask for; ends early
        on `stop`, and where other control requests have come than `seen`.

        While a request is under way the events after it are made. Trouble on the way slows the
        pace down.
        """
        self._most = min(self.limits.events, self._most * 2)  # one large event must not slow all
        while count and not stop.is_set():
            chunk = self._next_chunk(stage, events, min(count, self._most), number)
            if not self.journal.begin_chunk(chunk, seen):
                return
            self._chunks += 1
            taken = len(chunk.positions)
            most = min(self._most, count - taken or pace.size)
            try:
                answer = await self._post(chunk, partial(self._meanwhile, events, taken, most))
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
            events.drop(sent.accepted + sent.rejected)
            count -= sent.accepted + sent.rejected
            yield sent

    async def send_again(self, chunk: Chunk) -> Sent:
        """Make a request whose answer was lost once more: same bytes, same ids, same seed.

        Raises `RequestTooLarge`.
        """
        return self._accept(chunk, replace(await self._post(chunk), resent=True))

    def cut_anew(self, chunk: Chunk, refusal: RequestTooLarge) -> Sent:
        """A chunk that was never taken, and is too large: its events are sent in smaller ones."""
        if len(chunk.positions) == 1:
            return self._accept(chunk, Answer((), refused=str(refusal), resent=True))
        if self.journal.next_position() != chunk.positions[-1] + 1:
            raise TargetError(f"batch {chunk.batch} cannot be sent again: {refusal}") from None
        self._shrink(chunk, str(refusal))
        return Sent(chunk, Answer(()))

    def take_as_sent(self, chunk: Chunk, ids: Sequence[str]) -> Sent:
        """The server has the chunk already: its events have started jobs, or so it was decided."""
        return self._accept(chunk, Answer(tuple(ids)))

    def _meanwhile(self, events: Ahead, under_way: int, most: int) -> None:
        """While the server is at work: the answer before is written down, the next events made."""
        self.journal.settle()
        events.prepare(under_way, replace(self.limits, events=most))

    async def _post(self, chunk: Chunk, meanwhile: Callable[[], object] | None = None) -> Answer:
        """Raises `Incomplete` where a server that has answered this process is gone."""
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
        self.journal.accept(chunk, answer)
        if answer.refused is not None:
            item = chunk.items[len(answer.ids)]
            self.observer.note(f"{chunk.operation}: {item} was rejected: {answer.refused}")
        return Sent(chunk, answer)

    def _next_chunk(self, stage: Stage, events: Ahead, most: int, batch: int) -> Chunk:
        taken, body = events.request(replace(self.limits, events=most))
        now = self.clock.time()
        return Chunk(
            number=self._chunks,
            stage=stage.number,
            batch=batch,
            operation=stage.operation,
            event=stage.event,
            seed=make_seed(now, self.random),
            body=body,
            positions=range(events.position, events.position + taken),
            items=events.items[:taken],
            sent_at=now,
            base=events.base,
        )

    def _shrink(self, chunk: Chunk, reason: str) -> None:
        """413: what follows goes out in requests of half the size."""
        self.journal.withdraw(chunk)
        self._most = len(chunk.positions) // 2
        self.observer.note(f"{reason}: now at most {self._most} events a request")


def _contradicted(chunk: Chunk, refusal: RequestTooLarge) -> Incomplete:
    """Cutting it anew would give its events other internal ids than those of their jobs."""
    message = f"batch {chunk.batch} of {chunk.operation}: an answer was lost, and then {refusal}"
    return Incomplete(message, hint="`backfill resume` looks for its jobs first")


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one request."""

    chunk: Chunk
    answer: Answer

    @property
    def accepted(self) -> int:
        return len(self.answer.ids)

    @property
    def rejected(self) -> int:
        return int(self.answer.refused is not None)

    def events(self) -> Iterator[SentEvent]:
        chunk = self.chunk
        for position, item, id_ in zip(chunk.positions, chunk.items, self.answer.ids, strict=False):
            yield SentEvent(
                position, chunk.stage, chunk.operation, item, chunk.event, chunk.number, id_
            )


def batch_size(stage: Stage, index: int, pace: Pace) -> int:
    """How many events the batch has that begins with the stage's `index`-th event.

    At the planned pace a batch keeps its bounds: what is left of one that was begun comes first.
    """
    left = stage.left_of_batch(index)
    size = left if pace.as_planned or index < stage.canary else pace.size
    return min(size, stage.total - index)
