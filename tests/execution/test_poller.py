"""which questions a poll of many events takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runner.execution.listeners import Listeners
from runner.execution.poller import OpenEvent, Poller
from runner.execution.ports import Listed, ListsTooLong
from runner.model import Job, SentEvent
from tests.support import FakeClock

ID = "01JXT21Q00000G40R40M30E20A"


@dataclass
class Busy:
    """A server whose lists hold so many pages, nearly all of them of the jobs of others."""

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
        OpenEvent(SentEvent(number, 1, "sync", f"o/r{number}", "app/sync", 0, ID), FakeClock().now)
        for number in range(count)
    ]


def looks(server: Busy, *counts: int, doubt: bool = False) -> list[tuple[int, int]]:
    """Of one look after the other, at so many events: requests of lists, and about one event."""
    now = 0
    poller = Poller(server, FakeClock(), Listeners(), lambda: now)
    found = []
    for now in counts:
        server.asked.clear()
        asyncio.run(poller.poll(watched(now), lambda _one, _jobs, _now: doubt))
        found.append((server.asked.count("list"), server.asked.count("event")))
    return found


def test_lists_that_are_too_long_for_some_events_are_read_once_there_are_more() -> None:
    """They are left at what asking about each event takes, and not tried again for so few."""
    assert looks(Busy(pages=150), 100, 100, 200) == [(100, 100), (0, 100), (150, 0)]


def test_lists_of_any_length_are_read_before_an_event_is_given_up() -> None:
    """What they cost is never the reason for an outcome."""
    assert looks(Busy(pages=150), 4, doubt=True) == [(150, 4)]
