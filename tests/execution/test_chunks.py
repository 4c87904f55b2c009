"""How batches are cut into requests, and the ids that the requests have."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from runner.execution.context import RequestLimits
from runner.execution.seeds import internal_ids, make_seed
from runner.execution.send import Ahead, Wire, join
from runner.model import Pacing, Stage
from runner.planning.event_blocks import cells_of, pack, with_own


def _sized(sizes: list[int], **how: Any) -> Wire:
    data = [json.dumps({"x": "y" * size}).encode() for size in sizes]
    return _wire([(f"i{n}", one) for n, one in enumerate(data)], **how)


def _bodies(wire: Wire) -> list[bytes]:
    """Return each event as it is sent: a request with one event, without its brackets."""
    return [wire.request([piece])[1:-1] for _, pieces, _ in wire.pages(0) for piece in pieces]


def _wire(payloads: list[tuple[str, bytes]], **how: Any) -> Wire:
    items = pack("app/sync", payloads)
    pacing = Pacing(batch_size=2, delay=5.0)
    stage = Stage(1, "sync", "app/sync", "repo", pacing, "sent", 60.0, items=items, **how)
    return Wire("01RUN", 1_750_000_000.5, stage)


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=40),
    max_events=st.integers(1, 12),
    max_bytes=st.integers(2, 2000),
)
def test_requests_hold_all_events_in_order_within_both_limits(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    """Only an event that alone exceeds the byte limit may do so, and it is sent alone."""
    wire = _sized(sizes)
    encoded, ahead, limits = _bodies(wire), Ahead(wire, 0), RequestLimits(max_events, max_bytes)
    sent: list[object] = []
    while ahead.position < len(sizes):
        count, body = ahead.request(limits)
        assert 1 <= count <= max_events
        assert len(body) <= max_bytes or count == 1
        following = encoded[ahead.position :]
        assert body == join(following[:count])
        more = following[: count + 1]
        assert len(more) in (count, max_events + 1) or len(join(more)) > max_bytes
        sent += json.loads(body)
        ahead.drop(count)
    assert sent == [json.loads(body) for body in encoded]


def test_the_event_on_the_wire_has_name_data_and_a_readable_id() -> None:
    encoded = _wire([]).encode(0, "o/r", b'{"repo":"o/r"}')
    assert encoded == b'{"name":"app/sync","id":"01RUN:sync:o/r","data":{"repo":"o/r"}}'


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_the_short_way_writes_events_as_the_long_one_does(items: list[str]) -> None:
    data = orjson.dumps({"x": [1, *items]})
    wire = _wire([(item, data) for item in items])
    long = [wire.encode(index, item, data) for index, item in enumerate(items)]
    lines, pieces, _ = next(wire.pages(0))
    assert wire.request(pieces) == join(long)
    assert cells_of(lines) == (items, [data] * len(items))


@given(st.integers(1, 4_500), st.integers(0, 4_500), st.lists(st.integers(1, 3_000), max_size=6))
def test_events_made_ahead_are_those_of_the_stage_wherever_it_begins(
    count: int, start: int, steps: list[int]
) -> None:
    """Events are kept in blocks; neither the end of a block nor dropped events shift any."""
    start = min(start, count)
    wire = _wire([(f"i{n}", b"{}") for n in range(count)])
    ahead, every = Ahead(wire, start), [line for lines, _, _ in wire.pages(0) for line in lines]
    for step in steps:
        if ahead.position == count:
            break
        there, _ = ahead.request(RequestLimits(events=step))
        assert there == min(step, count - ahead.position)
        assert ahead.pieces == ahead.lines == every[ahead.position :][: len(ahead.lines)]
        ahead.drop(there)


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 25)), max_size=12),
)
def test_a_request_made_ready_is_the_one_that_would_be_made_now(
    count: int, steps: list[tuple[int, int, int]]
) -> None:
    """Whatever became of the request before it, and however many events the next one may have."""
    wire = _wire([(f"i{n}", b"{}") for n in range(count)])
    ahead, every = Ahead(wire, 0), _bodies(wire)
    for most, before, dropped in steps:
        if ahead.position == count:
            break
        taken, _ = ahead.request(RequestLimits(events=before))
        ahead.prepare(taken, RequestLimits(events=before))
        ahead.drop(min(dropped, count - ahead.position))
        if ahead.position == count:
            break
        taken, body = ahead.request(RequestLimits(events=most))
        assert taken == min(most, count - ahead.position)
        assert body == join(every[ahead.position : ahead.position + taken])


@pytest.mark.parametrize(("skipped", "most"), [(0, 2), (0, 3), (3, 1), (3, 4)])
@pytest.mark.parametrize("spare", [-1, 0, 1])
@pytest.mark.parametrize("numbered", [False, True])
def test_a_request_is_filled_to_its_last_byte(
    skipped: int, most: int, spare: int, numbered: bool
) -> None:
    wire = _sized([7, 0, 90, 4, 11, 2, 60, 5, 1], numbered=numbered)
    ahead, limits = Ahead(wire, 0), RequestLimits(100)
    ahead.request(limits)
    fitting = len(join(_bodies(wire)[skipped : skipped + most]))
    ahead.prepare(skipped, limits._replace(bytes=fitting + spare))
    ahead.drop(skipped)
    count, body = ahead.request(limits._replace(bytes=fitting + spare))
    assert count == max(1, most - (spare < 0))
    assert body == join(_bodies(wire)[skipped : skipped + count])


def test_a_request_that_was_made_ready_is_not_made_again() -> None:
    """It is ready when the server answers the previous request."""
    wire = _wire([(f"i{n}", b"{}") for n in range(6)])
    ahead, limits = Ahead(wire, 0), RequestLimits(2)
    taken, _ = ahead.request(limits)
    ahead.prepare(taken, limits)
    following = join(_bodies(wire)[2:4])
    ahead.drop(taken)
    ahead.pieces.clear()
    assert ahead.request(limits) == (2, following)


def test_no_more_is_made_than_the_request_asks_for() -> None:
    ahead = Ahead(_wire([(f"i{n}", b"{}") for n in range(1_500)]), 0)
    ahead.request(RequestLimits(500))
    assert len(ahead.pieces) == len(ahead.lines) == 500
    ahead.prepare(500, RequestLimits(500))
    assert len(ahead.pieces) == 1_000


def test_a_scheduled_event_has_the_time_of_its_batch() -> None:
    """The time counts from the start of the run, so that it is the same whenever the event is
    sent."""
    wire = _wire([(f"i{n}", b"{}") for n in range(3)], begins=10.0)
    times = [json.loads(body)["ts"] for body in _bodies(wire)]
    assert times == [1_750_000_010_500, 1_750_000_010_500, 1_750_000_015_500]


def test_an_event_has_the_id_time_name_and_operation_that_are_its_own() -> None:
    own = with_own(b"{}", id="u-7", ts=5, name="app/embed", operation="embed")
    assert [json.loads(body) for body in _bodies(_wire([("a", own), ("b", b"{}")], own=True))] == [
        {"name": "app/embed", "id": "u-7", "data": {}, "ts": 5},
        {"name": "app/sync", "id": "01RUN:sync:b", "data": {}},
    ]
    scheduled = _bodies(_wire([("a", own)], own=True, begins=10.0))
    assert json.loads(scheduled[0])["ts"] == 1_750_000_010_500
    numbered = _bodies(_wire([("a", b"{}"), ("a", with_own(b"{}", operation="embed"))], own=True))
    assert json.loads(numbered[1])["id"] == "01RUN:embed:a"


def test_an_item_that_comes_again_has_its_place_in_the_id() -> None:
    bodies = _bodies(_wire([("a", b"{}")] * 1_200, numbered=True))
    ids = [json.loads(body)["id"] for body in bodies]
    assert ids == [f"01RUN:sync:a#{place}" for place in range(1, 1_201)]


@given(st.lists(st.sampled_from(["sync", "embed"]), min_size=1, max_size=12), st.integers(1, 5))
def test_a_request_of_a_stage_of_several_operations_has_the_events_of_one(
    operations: list[str], most: int
) -> None:
    cells = [with_own(b"{}", operation=name, name=f"app/{name}") for name in operations]
    members = (("sync", "app/sync"), ("embed", "app/embed"))
    wire = _wire([(f"i{n}", cell) for n, cell in enumerate(cells)], own=True, members=members)
    ahead, limits = Ahead(wire, 0), RequestLimits(most)
    while ahead.position < len(cells):
        there = operations[ahead.position : ahead.position + most]
        alike = next((n for n, name in enumerate(there) if name != there[0]), len(there))
        taken, body = ahead.request(limits)
        assert ahead.kind == (there[0], f"app/{there[0]}")
        assert (taken, len(json.loads(body))) == (alike, alike)
        ahead.prepare(taken, limits)
        ahead.drop(taken)


def test_internal_ids_are_those_that_a_live_server_gave() -> None:
    """They were recorded from a live server, so that the derivation cannot drift from it."""
    seed = "1750000000000,AAECAwQFBgcICQ=="
    assert internal_ids(seed, range(2)) == [
        "01JXT21Q00000G40R40M30E20A",
        "01JXT21Q00000G40R40M30E20B",
    ]


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_internal_ids_are_distinct_and_of_the_seeds_millisecond(number: int, count: int) -> None:
    ids = list(internal_ids(make_seed(1_750_000_000, Random(number)), range(count)))  # noqa: S311
    assert len(set(ids)) == count
    assert {id_[:10] for id_ in ids} == {"01JXT21Q00"}


@given(st.binary(min_size=10, max_size=10), st.integers(0, 2**48 - 1))
def test_internal_ids_are_the_librarys_ulids(entropy: bytes, milliseconds: int) -> None:
    """The fast way gives the same text as the library for the same 16 bytes."""
    seed = f"{milliseconds},{base64.b64encode(entropy).decode()}"
    low = (int.from_bytes(entropy[6:], "big") + 1) % 2**32
    whole = milliseconds.to_bytes(6, "big") + entropy[:6] + low.to_bytes(4, "big")
    assert internal_ids(seed, range(1))[0] == str(ULID(whole))


def test_the_counter_wraps_around_at_32_bits() -> None:
    ids = internal_ids("0,AAAAAAAA/////w==", range(2))
    assert [id_[-7:] for id_ in ids] == ["0000000", "0000001"]
