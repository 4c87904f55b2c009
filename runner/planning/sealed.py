"""The events of a stage, rendered once and kept small."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from runner.model import Event

BLOCK = 2_000  # events in each block but the last
_LEVEL = 1  # payloads are alike: more effort saves little and costs much


@dataclass(frozen=True, slots=True)
class SealedItems:
    """Items and payloads as compressed lines, ``"item"<TAB>{payload}``: neither holds a raw tab or
    line end, since both are JSON. What is previewed, journaled and sent are these very bytes."""

    event: str
    count: int
    blocks: tuple[bytes, ...]

    def __len__(self) -> int:
        return self.count

    def raw(self, start: int = 0) -> Iterator[tuple[str, bytes]]:
        for names, payloads in self.pages(start):
            yield from zip(orjson.loads(b"[" + b",".join(names) + b"]"), payloads, strict=True)

    def events(self, start: int = 0) -> Iterator[tuple[str, Event]]:
        for item, data in self.raw(start):
            yield item, Event(self.event, orjson.loads(data))

    def pages(self, start: int = 0) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
        first, skipped = divmod(start, BLOCK)
        for block in self.blocks[first:]:
            cells = zlib.decompress(block).replace(b"\n", b"\t").split(b"\t")
            yield cells[2 * skipped :: 2], cells[2 * skipped + 1 :: 2]
            skipped = 0


@dataclass(slots=True)
class Sealing:
    """Takes the events of a stage in sending order."""

    _lines: list[bytes] = field(default_factory=list)
    _blocks: list[bytes] = field(default_factory=list)
    count: int = 0

    def add(self, item: bytes, data: bytes) -> None:
        """`item` and `data` as JSON."""
        self._lines.append(item + b"\t" + data)
        self.count += 1
        if len(self._lines) == BLOCK:
            self._close()

    def sealed(self, event: str) -> SealedItems:
        self._close()
        return SealedItems(event, self.count, tuple(self._blocks))

    def _close(self) -> None:
        if self._lines:
            self._blocks.append(zlib.compress(b"\n".join(self._lines), _LEVEL))
            self._lines.clear()


def extended(items: SealedItems, more: SealedItems) -> SealedItems:
    """The one's events and then the other's, in blocks that are full but for the last."""
    whole = items.count // BLOCK
    sealing = Sealing(_blocks=list(items.blocks[:whole]), count=whole * BLOCK)
    for source, start in ((items, whole * BLOCK), (more, 0)):
        for item, data in source.raw(start):
            sealing.add(orjson.dumps(item), data)
    return sealing.sealed(items.event)


def seal(event: str, items: Sequence[tuple[str, bytes]]) -> SealedItems:
    """Items and payloads that are JSON already."""
    sealing = Sealing()
    for item, data in items:
        sealing.add(orjson.dumps(item), data)
    return sealing.sealed(event)
