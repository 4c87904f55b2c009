"""Events in blocks: what was packed is read back from any position, and nothing else is
accepted."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from runner.planning import event_blocks
from runner.planning.event_blocks import (
    EventBlocks,
    Packing,
    event_of,
    extended,
    pack,
    parted,
    with_own,
    without,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of three events, with up to 20 bytes each."""
    monkeypatch.setattr(event_blocks, "BLOCK", 3)
    monkeypatch.setattr(event_blocks, "MAX_EVENT", 20)
    monkeypatch.setattr(event_blocks, "_MOST_NAME", 10)


def events(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    return [(f"o/r{n}", b'{"n":%d}' % n) for n in range(first, first + count)]


@pytest.mark.parametrize("count", range(8))
def test_what_was_packed_comes_out_from_wherever_it_is_asked_for(count: int) -> None:
    blocks = pack("app/x", events(count))
    assert (len(blocks), len(blocks.blocks)) == (count, -(-count // 3))
    assert list(blocks.names()) == [item for item, _ in events(count)]
    for start in range(count + 1):
        assert list(blocks.raw(start)) == events(count)[start:]
        found = [(item, event.name, event.data) for item, event in blocks.events(start)]
        assert found == [(f"o/r{n}", "app/x", {"n": n}) for n in range(start, count)]
    blocks.check()


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("more", range(5))
def test_what_is_appended_is_packed_as_if_it_had_been_there(count: int, more: int) -> None:
    both = extended(pack("app/x", events(count)), pack("app/x", events(more, count)))
    assert both == pack("app/x", events(count + more))


def test_a_digest_is_of_the_events_name_its_items_and_their_payloads() -> None:
    def digest(name: str, items: list[tuple[bytes, bytes]]) -> bytes:
        packing = Packing(name)
        for item in items:
            packing.add(*item)
        return packing.packed()[1]

    items = [(b'"a"', b'{"n":1}'), (b'"b"', b"{}"), (b'"c"', b"{}"), (b'"d"', b"{}")]
    others = [
        ("app/y", items),
        ("app/x", items[:3]),
        ("app/x", items[::-1]),
        ("app/x", [(b'"a"', b'{"n":2}'), *items[1:]]),
        ("app/x", [*items[:3], (b'"e"', b"{}")]),
    ]
    assert digest("app/x", items) == digest("app/x", items)
    assert len({digest("app/x", items), *(digest(*one) for one in others)}) == 6


def block(*lines: bytes) -> bytes:
    return zlib.compress(b"\n".join(lines))


LINE = b'"a"\t{}'


@pytest.mark.parametrize(
    ("count", "blocks", "words"),
    [
        (3, [block(LINE, LINE, LINE)], None),
        (1, [block(b'"aaaaaaaa"\t{"aaaaaaaaaaaa":1}')], None),
        (4, [block(LINE, LINE, LINE), block(LINE)], None),
        (0, [], None),
        (4, [block(LINE, LINE, LINE)], "1 event is not there"),
        (5, [block(LINE, LINE, LINE)], "2 events are not there"),
        (2, [block(LINE, LINE, LINE)], "no block of 2 events"),
        (3, [block(LINE, LINE)], "no block of 3 events"),
        (4, [block(LINE), block(LINE, LINE, LINE)], "no block of 3 events"),
        (4, [block(LINE, LINE, LINE, LINE)], "no block of 3 events"),
        (3, [block(LINE, LINE, LINE), block(LINE)], "no block of 0 events"),
        (1, [block(b'"a"')], "no block of 1 event"),
        (1, [block(b'"a"\t{}\t{}')], "no block of 1 event"),
        (1, [block(LINE)[:-5]], "no block of 1 event"),
        (1, [b"no block"], "incorrect header"),
        (1, [block(b"5\t{}")], "an event is no item and payload"),
        (1, [block(b'"a"\t[]')], "an event is no item and payload"),
        (1, [block(b'"aaaaaaaaa"\t{}')], "an event is larger than it may be"),
        (1, [block(b'"a"\t{"aaaaaaaaaaaaa":1}')], None),
        (1, [block(b'"a"\t{"aaaaaaaaaaaaaaa":1}')], "an event is larger than it may be"),
    ],
)
def test_blocks_that_somebody_may_have_edited_are_as_they_are_made_or_refused(
    count: int, blocks: list[bytes], words: str | None
) -> None:
    found = EventBlocks("app/x", count, tuple(blocks))
    if words is None:
        found.check()
        assert len(list(found.raw())) == count
    else:
        with pytest.raises(ValueError, match=words):
            found.check()


def test_a_block_is_not_unpacked_beyond_what_a_plan_can_have_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_blocks, "_MOST", 100)
    bomb = replace(pack("x", []), count=1, blocks=(zlib.compress(b" " * 1_000_000),))
    with pytest.raises(ValueError, match="no block of 1 event"):
        bomb.check()


def test_what_an_event_has_of_its_own_follows_its_payload() -> None:
    plain = b'{"n":1}'
    own = with_own(plain, id="u-1", ts=5, name=None)
    assert own == b'{"n":1},"id":"u-1","ts":5'
    assert parted(own) == {"data": {"n": 1}, "id": "u-1", "ts": 5}
    assert without(own, "id") == b'{"n":1},"ts":5'
    assert with_own(plain, id=None) == without(plain, "id") == plain
    event = event_of("app/x", own)
    assert (event.name, event.data, event.id, event.ts) == ("app/x", {"n": 1}, "u-1", 5)
    other = event_of("app/x", with_own(plain, name="app/y", operation="y"))
    assert (other.name, other.operation, other.id) == ("app/y", "y", None)
