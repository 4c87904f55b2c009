"""Sends the events of a plan in order, each request written down before it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random

from runner.errors import TargetError
from runner.execution.chunks import Encoded, RequestLimits, cut, encode, join
from runner.execution.ports import (
    Answer,
    Chunk,
    ChunkEvent,
    Clock,
    EventApi,
    Journal,
    RequestTooLarge,
)
from runner.execution.seeds import internal_ids, make_seed
from runner.model import Observer, SentEvent, Stage


@dataclass(slots=True)
class Sender:
    api: EventApi
    journal: Journal
    clock: Clock
    observer: Observer
    random: Random
    limits: RequestLimits
    _chunks: int = field(init=False)
    _most: int = field(init=False)

    def __post_init__(self) -> None:
        self._chunks = self.journal.next_chunk()
        self._most = self.limits.events

    async def send_batch(
        self, batch: Sequence[Encoded], stop: asyncio.Event
    ) -> AsyncIterator[Sent]:
        """Send one batch, in as many requests as its size asks for; ends early on `stop`."""
        pending = list(batch)
        self._most = min(self.limits.events, self._most * 2)  # one large event must not slow all
        while pending and not stop.is_set():
            chunk = self._next_chunk(pending)
            self.journal.begin_chunk(chunk)
            try:
                answer = await self.api.send(chunk.body, len(chunk.events), chunk.seed)
            except RequestTooLarge as refusal:
                if len(chunk.events) > 1:
                    self._shrink(chunk, str(refusal))
                    continue
                answer = Answer((), refused=str(refusal))
            sent = self._accept(chunk, answer)
            del pending[: sent.accepted + sent.rejected]
            yield sent

    async def send_again(self, chunk: Chunk) -> Sent:
        """Make a request whose answer was lost once more: same bytes, same ids, same seed."""
        try:
            answer = await self.api.send(chunk.body, len(chunk.events), chunk.seed)
        except RequestTooLarge as refusal:
            if len(chunk.events) == 1:
                return self._accept(chunk, Answer((), refused=str(refusal), resent=True))
            if self.journal.next_position() != chunk.events[-1].position + 1:
                raise TargetError(f"batch {chunk.batch} cannot be sent again: {refusal}") from None
            self._shrink(chunk, str(refusal))
            return Sent(chunk, Answer(()))
        return self._accept(chunk, Answer(answer.ids, answer.refused, resent=True))

    def _accept(self, chunk: Chunk, answer: Answer) -> Sent:
        self.journal.accept(chunk, answer)
        if answer.refused is not None:
            item = chunk.events[len(answer.ids)].item
            self.observer.note(f"{chunk.operation}: {item} was rejected: {answer.refused}")
        return Sent(chunk, answer)

    def _next_chunk(self, pending: Sequence[Encoded]) -> Chunk:
        events = pending[: cut(pending, replace(self.limits, events=self._most))]
        seed = make_seed(self.clock.time(), self.random)
        first = events[0].planned
        self._chunks += 1
        return Chunk(
            number=self._chunks - 1,
            stage=first.stage,
            batch=first.batch,
            operation=first.operation,
            event=first.event.name,
            seed=seed,
            body=join(events),
            events=tuple(
                ChunkEvent(event.position, event.planned.item, event.event_id, internal_id)
                for event, internal_id in zip(events, internal_ids(seed, len(events)), strict=True)
            ),
        )

    def _shrink(self, chunk: Chunk, reason: str) -> None:
        """413: what follows goes out in requests of half the size."""
        self.journal.withdraw(chunk)
        self._most = len(chunk.events) // 2
        self.observer.note(f"{reason}: now at most {self._most} events a request")


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
        for event, id_ in zip(chunk.events, self.answer.ids, strict=False):
            yield SentEvent(
                event.position, chunk.stage, chunk.operation, event.item, chunk.event, id_
            )


def batches(run_id: str, stage: Stage, offset: int, start: int) -> Iterator[list[Encoded]]:
    """The batches of a stage from its `start`-th event on; `offset` is the stage's first position.

    A batch that was begun before keeps its bounds: what is left of it comes first.
    """
    planned = enumerate(stage.planned(start), offset + start)
    size = stage.pacing.batch_size
    left = size - start % size
    while batch := [encode(run_id, position, event) for position, event in islice(planned, left)]:
        yield batch
        left = size
