"""The events of a stage, rendered once and stored compactly."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain

import orjson

from runner.errors import TargetError
from runner.model import Data, Event, Json, frozen
from runner.spec.json_limits import MAX_EVENT, MAX_ITEM
from runner.spec.units import counted

BLOCK = 2_000  # events in each block except the last
_LEVEL = 1  # compression: payloads are alike, so more effort saves little and costs much
LARGE = 128 * 1024 * 1024  # bytes that the larger events of an operation may have together
ORDINARY = 16 * 1024  # bytes of an event; the larger events of an operation are counted
_MOST_NAME = 6 * MAX_ITEM + 2  # bytes of an item in JSON if every character is escaped
_MOST = LARGE + BLOCK * (ORDINARY + _MOST_NAME)  # bytes of an unpacked block
_ROOM = 2**18  # bytes of a block: unpacking takes half the time if the buffer need not grow


RESTORE = "restore the state from a backup, or name another with --state"


def damaged() -> TargetError:
    """Return the error for a value of a state that is no longer as it was written."""
    return TargetError("the state is damaged: a value in it cannot be read", hint=RESTORE)


@frozen
class EventBlocks:
    """Items and payloads as compressed lines, ``"item"<TAB>{payload}``. Both are JSON, so neither
    holds a raw tab or line end. These very bytes are previewed, journaled and sent.

    An event's own members follow its payload: ``{payload},"id":"u-7","ts":1767225600000``; see
    `parted`.
    """

    event: str
    count: int
    blocks: tuple[bytes, ...]

    def __len__(self) -> int:
        return self.count

    def check(self) -> None:
        """Validate blocks that may have been edited; unpack no more than a plan can have packed.

        Raises `ValueError` if they are not what `Packing` makes.
        """
        left = self.count
        for block in self.blocks:
            lines = min(BLOCK, left)
            _check(block, lines)
            left -= lines
        if left:
            raise ValueError(f"{counted(left, 'event', 'are')} not there")

    def raw(self, start: int = 0) -> Iterator[tuple[str, bytes]]:
        for lines in self.lines(start):
            yield from zip(*cells_of(lines), strict=True)

    def names(self) -> Iterator[str]:
        for item, _ in self.raw():
            yield item

    def events(self, start: int = 0) -> Iterator[tuple[str, Event]]:
        for item, data in self.raw(start):
            yield item, event_of(self.event, data)

    def lines(self, start: int = 0) -> Iterator[list[bytes]]:
        """Yield lines without their opening quote, so that an event id can be prepended to the
        item."""
        first, skipped = divmod(start, BLOCK)
        for block in self.blocks[first:]:
            try:
                text = zlib.decompress(block, bufsize=_ROOM)
            except zlib.error:
                raise damaged() from None
            yield text[1:].split(b'\n"')[skipped:]
            skipped = 0


class Packing:
    """Packs the events of a stage in sending order. The digest covers the event's name, and each
    item and payload as JSON."""

    def __init__(self, event: str) -> None:
        self._event, self._digest = event, sha256(orjson.dumps(event))
        self._lines: list[bytes] = []
        self._blocks: list[bytes] = []
        self._whole = 0  # events in full blocks

    def add(self, item: bytes, data: bytes) -> None:
        """Add an event; `item` and `data` are JSON."""
        lines = self._lines
        lines.append(item + b"\t" + data)
        if len(lines) == BLOCK:
            self._close()

    def packed(self) -> tuple[EventBlocks, bytes]:
        """Return the items and their digest."""
        count = self._whole + len(self._lines)
        self._close()
        return EventBlocks(self._event, count, tuple(self._blocks)), self._digest.digest()

    def _close(self) -> None:
        if self._lines:
            text = b"\n".join(self._lines)
            self._digest.update(text.translate(None, b"\t\n"))
            self._blocks.append(zlib.compress(text, _LEVEL))
            self._whole += len(self._lines)
            self._lines.clear()


def line_of(item: str, data: bytes) -> bytes:
    """Format a line as `EventBlocks.lines` yields it."""
    return orjson.dumps(item)[1:] + b"\t" + data


def cells_of(lines: Sequence[bytes]) -> tuple[list[str], list[bytes]]:
    """Split lines into items and payloads."""
    if not lines:
        return [], []
    cells = b"\t".join(lines).split(b"\t")
    return orjson.loads(b'["' + b',"'.join(cells[::2]) + b"]"), cells[1::2]


def _check(block: bytes, lines: int) -> None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(block, _MOST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof or text.count(b"\n") != lines - 1 or text.count(b"\t") != lines:
        raise ValueError(f"no block of {counted(lines, 'event')}")
    for line in text.split(b"\n"):
        item, _, data = line.partition(b"\t")
        if len(item) > _MOST_NAME or len(data) > MAX_EVENT:
            raise ValueError("an event is larger than it may be")
        if type(orjson.loads(item)) is not str or type(parted(data)["data"]) is not dict:
            raise ValueError("an event is no item and payload")


def parted(cell: bytes) -> Data:
    """Parse a cell into `data` and the event's own members: `id`, `ts`, `name`, `operation`."""
    found: Data = orjson.loads(b'{"data":' + cell + b"}")
    return found


def start_of(cell: bytes) -> float:
    """Return when the event's job is to start, in seconds since 1970; 0: at once."""
    return parted(cell).get("ts", 0) / 1000 if b',"ts":' in cell else 0.0


def event_of(name: str, cell: bytes) -> Event:
    """Parse a cell into an event; `name`: the default, that of the stage's events."""
    found = parted(cell)
    return Event(
        found.get("name", name),
        found["data"],
        found.get("id"),
        found.get("ts"),
        found.get("operation"),
    )


def with_own(data: bytes, **own: Json) -> bytes:
    """Append the event's own members to a payload, except those that are None."""
    members = {key: value for key, value in own.items() if value is not None}
    return data + b"," + orjson.dumps(members)[1:-1] if members else data


def without(cell: bytes, *own: str) -> bytes:
    """Remove these of the event's own members from a cell."""
    found = {key: value for key, value in parted(cell).items() if key not in own}
    return with_own(orjson.dumps(found.pop("data")), **found)


def extended(items: EventBlocks, more: EventBlocks) -> EventBlocks:
    """Concatenate two lists of events; every block but the last is full."""
    whole = items.count // BLOCK
    rest = pack(items.event, chain(items.raw(whole * BLOCK), more.raw()))
    blocks = items.blocks[:whole] + rest.blocks
    return EventBlocks(items.event, items.count + more.count, blocks)


def pack(event: str, items: Iterable[tuple[str, bytes]]) -> EventBlocks:
    """Pack items and their payloads, which are JSON already."""
    packing = Packing(event)
    for item, data in items:
        packing.add(orjson.dumps(item), data)
    return packing.packed()[0]
