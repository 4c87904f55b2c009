"""Which requests it takes to poll many events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from runner.execution.listeners import Listeners
from runner.execution.poller import OpenEvent, Polled, Poller
from runner.execution.ports import Listed, ListsTooLong
from runner.model import Job, SentEvent
from tests.support import FakeClock

ID = "01JXT21Q00000G40R40M30E20A"


@dataclass
class Busy:
    """A server with so many pages of jobs in its lists, nearly all of other functions."""

    pages: int
    asked: list[str] = field(default_factory=list)

    async def probe(self) -> None:
        raise AssertionError("a poll does not probe")

    async def jobs(self, _internal_id: str) -> Sequence[Job]:
        self.asked.append("event")
        return []

    async def functions(self) -> None:
        return None

    async def batch(self, _job_id: str) -> Sequence[str]:
        return []

    async def listed(
        self, _since: float, _of: object, most: Callable[[], float]
    ) -> Sequence[Listed]:
        for page in range(self.pages):
            if page >= most():
                raise ListsTooLong
            self.asked.append("list")
        return []


def watched(count: int) -> list[OpenEvent]:
    return [
        OpenEvent(
            SentEvent(number, 1, "sync", f"o/r{number}", "app/sync", 0, ID, 0.0), FakeClock().now
        )
        for number in range(count)
    ]


def looks(server: Busy, *counts: int, doubt: bool = False) -> list[tuple[int, int]]:
    """Poll with each count of events; return how many requests were for lists, and for single
    events."""
    now = 0
    poller = Poller(server, FakeClock(), Listeners(), lambda: now)
    found = []
    for now in counts:
        server.asked.clear()
        asyncio.run(poller.poll(watched(now), lambda _one, _jobs, _now: doubt))
        found.append((server.asked.count("list"), server.asked.count("event")))
    return found


def test_lists_that_are_too_long_for_some_events_are_read_once_there_are_more() -> None:
    """Reading lists stops when it costs as much as asking about each event, and is not tried again
    for so few."""
    assert looks(Busy(pages=150), 100, 100, 200) == [(100, 100), (0, 100), (150, 0)]


def test_lists_of_any_length_are_read_before_an_event_is_given_up() -> None:
    """The cost of lists must never decide an outcome."""
    assert looks(Busy(pages=150), 4, doubt=True) == [(150, 4)]


def id_of(number: int) -> str:
    return f"{ID[:-4]}{number:04d}"


def open_event(number: int, *jobs: Job, since: float = 0.0, polled_at: float = 0.0) -> OpenEvent:
    event = SentEvent(number, 1, "sync", f"o/r{number}", "app/sync", 0, id_of(number), 0.0)
    return OpenEvent(event, since, jobs, polled_at)


def job(name: str, status: str = "Running", **how: Any) -> Job:
    return Job(name, how.pop("function", "f"), status, status != "Running", **how)


@dataclass
class Server:
    """What its lists have, and what it answers about each event; reading its lists takes time."""

    clock: FakeClock
    lists: Sequence[Listed] | None = ()
    of: Mapping[str, Sequence[Job]] = field(default_factory=dict)
    batches: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: float = 0.0
    read: int = 0
    since: float = 0.0
    asked: list[int] = field(default_factory=list)

    async def probe(self) -> None:
        raise AssertionError("a poll does not probe")

    async def jobs(self, internal_id: str) -> Sequence[Job]:
        self.asked.append(int(internal_id[-4:]))
        return self.of.get(internal_id, ())

    async def functions(self) -> None:
        return None

    async def batch(self, job_id: str) -> Sequence[str]:
        return self.batches.get(job_id, ())

    async def listed(
        self, since: float, _of: object, most: Callable[[], float]
    ) -> Sequence[Listed] | None:
        assert most() >= 0
        self.read, self.since = self.read + 1, since
        self.clock.now += self.seconds
        return self.lists


class Polls:
    def __init__(self, **how: Any) -> None:
        self.clock = FakeClock()
        self.server, self.listeners = Server(self.clock, **how), Listeners()
        self.poller = Poller(self.server, self.clock, self.listeners, lambda: 0)

    def poll(
        self, watched: Sequence[OpenEvent], doubts: Collection[int] = ()
    ) -> tuple[dict[int, Polled], bool]:
        """Return the results by position. `doubts`: events that are about to be given up."""
        self.server.read, self.server.asked = 0, []

        def doubtful(one: OpenEvent, _jobs: Sequence[Job], _now: float) -> bool:
            return one.event.position in doubts

        polled, more = asyncio.run(self.poller.poll(watched, doubtful))
        return {one.open_event.event.position: one for one in polled}, more


def test_a_few_events_are_asked_about_one_by_one_which_proves_no_absence() -> None:
    made = Polls(of={id_of(1): [job("a")]})
    found, more = made.poll([open_event(n) for n in range(16)])
    assert (made.server.read, made.server.asked) == (0, [*range(16)])
    assert not more
    assert not any(one.alone for one in found.values())
    assert [one.id for one in found[1].jobs] == ["a"]
    assert not made.poller.complete


def test_a_server_without_lists_is_asked_about_each_event_and_that_is_all_there_is() -> None:
    made = Polls(lists=None)
    for _ in range(2):
        found, more = made.poll([open_event(n) for n in range(40)], doubts=range(40))
        assert made.server.asked == [*range(40)]
        assert not more
        assert all(one.alone for one in found.values())
    assert (made.server.read, made.poller.complete) == (0, False)


def test_lists_are_read_from_a_little_before_the_oldest_event() -> None:
    made = Polls(lists=[Listed(id_of(3), job("a"))])
    found, _ = made.poll([open_event(n, since=made.clock.now) for n in range(17)])
    assert made.server.since == 1_750_000_000.0 - 5.0
    assert (made.server.read, made.server.asked) == (1, [])
    assert {n: one.jobs for n, one in found.items()} == {3: (job("a"),)}
    assert not found[3].alone
    assert made.poller.complete


def test_lists_are_read_where_they_take_fewer_requests_than_the_events() -> None:
    others = [Listed("other", job(f"{n}")) for n in range(3_100)]
    made = Polls(lists=others)
    read = []
    for count in (20, 31, 32, 20):
        made.poll([open_event(n, since=made.clock.now) for n in range(count)])
        read.append(made.server.read)
    assert read == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("there", "read"),
    [
        (job("a", batch=True), 1),
        (job("a", "Completed", batch=True), 0),
        (job("a"), 0),
    ],
)
def test_how_the_job_of_a_batch_goes_on_only_lists_tell(there: Job, read: int) -> None:
    made = Polls()
    made.poll([open_event(0, there)])
    assert made.server.read == read


def test_a_job_of_a_batch_is_that_of_all_its_events() -> None:
    made = Polls(
        lists=[Listed(id_of(0), job("a", batch=True))], batches={"a": [id_of(2), id_of(3)]}
    )
    found, _ = made.poll([open_event(n, since=made.clock.now) for n in range(17)])
    assert {*found} == {0, 2, 3}
    assert made.listeners.untold == set()


def test_a_batch_whose_events_the_server_does_not_tell_is_remembered() -> None:
    made = Polls(lists=[Listed(id_of(0), job("a", batch=True))])
    made.poll([open_event(n, since=made.clock.now) for n in range(17)])
    assert made.listeners.untold == {"f"}


@pytest.mark.parametrize(("doubts", "more"), [(15, False), (16, False), (17, True)])
def test_16_events_in_doubt_are_asked_about_at_once_and_the_others_next(
    doubts: int, more: bool
) -> None:
    made = Polls()
    watched = [open_event(n, since=made.clock.now) for n in range(20)]
    found, left = made.poll(watched, doubts=range(doubts))
    assert sorted(made.server.asked) == [*range(min(16, doubts))]
    assert left is more
    assert all(found[n].alone for n in made.server.asked)


def test_of_5000_events_a_200th_is_asked_about_at_once() -> None:
    made = Polls()
    made.poll([open_event(n) for n in range(5_000)])
    assert len(made.server.asked) == 25


@pytest.mark.parametrize(("later", "read"), [(0.0, 0), (9.9, 0), (10.0, 1), (60.0, 1)])
def test_what_a_sweep_has_left_in_doubt_is_asked_about_without_reading_the_lists_again(
    later: float, read: int
) -> None:
    """The lists count as read for as long as it took to read them."""
    made = Polls(seconds=10.0)
    watched = [open_event(n, since=made.clock.now) for n in range(20)]
    assert made.poll(watched, doubts=range(20))[1]
    assert (made.server.read, len(made.server.asked)) == (1, 16)
    made.clock.now += later
    _, more = made.poll(watched[16:], doubts=range(16, 20))
    assert (made.server.read, made.server.asked, more) == (read, [16, 17, 18, 19], False)
    assert made.poller.complete


@pytest.mark.parametrize(("ago", "asked"), [(29.9, []), (30.0, [5, 2, 0])])
@pytest.mark.parametrize("by", ["sent", "asked about"])
def test_what_lists_do_not_tell_to_have_ended_is_asked_about_after_30_seconds(
    ago: float, asked: list[int], by: str
) -> None:
    """A list may omit a job, or show it as running forever. Events that the lists do not show come
    first, the one asked about longest ago before the others."""
    made = Polls(lists=[Listed(id_of(0), job("a")), Listed(id_of(1), job("b", "Completed"))])
    now = made.clock.now
    watched = [open_event(n, since=now) for n in range(20)]
    for number, since in ((0, 0.0), (1, 0.0), (2, 0.0), (5, 10.0)):
        one = watched[number]
        one.since, one.polled_at = (now - ago, 20.0 - since) if by == "sent" else (0.0, now - ago)
    if asked and by == "asked about":
        watched[5].polled_at -= 1.0
    made.poll(watched)
    assert made.server.asked == asked


RUNNING, DONE = job("a", function="ours"), job("a", "Completed", function="ours")


@pytest.mark.parametrize(
    ("known", "told", "alone", "kept"),
    [
        (RUNNING, job("a", "Completed", function="theirs"), True, DONE),
        (
            RUNNING,
            job("a", "Completed", function="theirs"),
            False,
            replace(DONE, function="theirs"),
        ),
        (DONE, job("a", function="theirs"), True, DONE),
        (DONE, job("a", function="theirs"), False, DONE),
        (RUNNING, job("a", function="theirs"), False, replace(RUNNING, function="theirs")),
        (replace(RUNNING, original="x"), DONE, True, replace(DONE, original="x")),
        (RUNNING, replace(DONE, original="y"), True, replace(DONE, original="y")),
    ],
)
def test_a_job_that_ended_stays_so_and_keeps_the_function_that_lists_name(
    known: Job, told: Job, alone: bool, kept: Job
) -> None:
    made = Polls(of={id_of(0): [told]}, lists=[Listed(id_of(0), told)])
    count = 1 if alone else 17
    watched = [open_event(0, known, since=made.clock.now)]
    watched += [open_event(n, since=made.clock.now) for n in range(1, count)]
    found, _ = made.poll(watched)
    assert found[0].jobs == (kept,)


def test_what_lists_tell_is_as_old_as_the_sweep_and_an_answer_as_its_question() -> None:
    made = Polls(lists=[Listed(id_of(0), job("a"))], seconds=10.0)
    began = made.clock.now
    found, _ = made.poll([open_event(n, since=began) for n in range(17)], doubts=[1])
    assert {number: one.at - began for number, one in found.items()} == {0: 0.0, 1: 10.0}
