"""What is checked before a request goes out, and while work is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from runner.execution.gate import Gate, beside, watch
from runner.execution.pacing import Pace, Waits
from runner.execution.ports import Control, Guard, Hold, Journal
from runner.execution.progress import Tracker
from runner.model import Pacing, Waiting
from tests.support import FakeClock, Recorder
from tests.virtual_time import VirtualClock


@dataclass
class Requests:
    """A journal with these control requests, one after the other; the last one stays."""

    script: list[Control] = field(default_factory=lambda: [Control()])
    asked: int = 0

    def control(self) -> Control:
        self.asked += 1
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@dataclass
class Shown:
    waits: list[str | None] = field(default_factory=list)
    control: Control = field(default_factory=Control)

    def waiting(self, stage: int, wait: Waiting | None) -> None:
        assert stage == 1
        self.waits.append(wait and wait.reason)

    def tuned(self, control: Control) -> None:
        self.control = control


class Made:
    def __init__(self, *script: Control, held: str = "", guards: Sequence[Guard] = ()) -> None:
        self.clock, self.observer, self.shown = FakeClock(), Recorder(), Shown()
        self.stop, self.requests = asyncio.Event(), Requests([*(script or [Control()])])
        waits = Waits(self.clock, self.stop, lambda: None, held)
        journal, tracker = cast(Journal, self.requests), cast(Tracker, self.shown)
        self.gate = Gate(journal, waits, self.observer, tracker, self.stop, guards)

    def opened(self, pace: Pace | None = None, *, batch: bool = True) -> bool:
        return asyncio.run(self.gate.opened(1, pace or Pace(Pacing(4, 1.0)), batch=batch))


PAUSE, CANCEL = Control("pause"), Control("cancel")


def test_what_held_the_step_before_is_shown_until_it_lets_go() -> None:
    made = Made(held="busy")
    assert made.opened()
    assert made.shown.waits == ["busy", None]
    assert made.observer.notes == ["going on"]
    assert made.gate.waits.held == ""


def test_a_pause_is_shown_once_and_asked_about_each_second() -> None:
    made = Made(PAUSE, PAUSE, PAUSE, Control())
    assert made.opened()
    assert made.clock.slept == [1.0] * 3
    assert made.shown.waits == ["paused by an operator", None]
    assert made.observer.notes == ["waiting: paused by an operator", "going on"]


def test_what_is_not_held_shows_nothing() -> None:
    made = Made()
    assert made.opened()
    assert (made.shown.waits, made.observer.notes, made.clock.slept) == ([], [], [])


@pytest.mark.parametrize("held", ["", "busy"])
def test_a_run_that_is_cancelled_sends_no_more(held: str) -> None:
    made = Made(CANCEL, held=held)
    assert not made.opened()
    assert made.gate.cancelled


def test_a_run_that_is_stopped_sends_no_more() -> None:
    made = Made()
    assert made.opened()
    made.stop.set()
    assert not made.opened()
    assert not made.gate.cancelled


def test_a_run_that_is_stopped_while_it_is_held_sends_no_more() -> None:
    made = Made(PAUSE)

    class Stopping(FakeClock):
        async def sleep(self, seconds: float, until: asyncio.Event) -> None:
            await super().sleep(seconds, until)
            until.set()

    made.gate.waits.clock = Stopping()
    assert not made.opened()
    assert made.gate.waits.held == "paused by an operator"


def test_requests_are_read_at_first_and_where_writing_one_down_was_refused() -> None:
    """The statement that records a request reads control requests too: another round trip for each
    batch would slow the sending."""
    made = Made(Control(), Control(batch_size=2))
    pace = Pace(Pacing(4, 1.0))
    assert made.opened(pace)
    assert made.opened(pace)
    assert made.requests.asked == 1
    assert made.opened(pace, batch=False)
    assert (made.requests.asked, pace.size) == (2, 2)
    assert made.observer.notes == ["batches of 2, 1s apart: tuned by an operator"]
    assert made.shown.control.batch_size == 2, "what is left is told by it"
    another = Pace(Pacing(8, 1.0))
    assert made.opened(another)
    assert (made.requests.asked, another.size) == (2, 2)


class Busy:
    name = "busy"

    def __init__(self, *seconds: float) -> None:
        self.left = [*seconds]

    async def ask(self) -> Hold | None:
        return Hold("busy", self.left.pop(0)) if self.left else None


def test_a_guard_is_asked_again_when_it_says_so_and_after_15_seconds_at_most() -> None:
    made = Made(guards=[Busy(), Busy(7.0, 99.0)])
    assert made.opened(batch=False), "guards count before batches"
    assert made.opened()
    assert made.clock.slept == [7.0, 15.0]
    assert made.opened()
    assert made.requests.asked == 5, "each time, where there are guards"


@dataclass
class Late:
    """A guard that answers after so many seconds; `ended`: it was asked to its end, whatever that
    was."""

    seconds: float
    hold: Hold | None = None
    ended: int = 0
    name: str = "late"

    async def ask(self) -> Hold | None:
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.ended += 1
        hold, self.hold, self.seconds = self.hold, None, 0.0
        return hold


NAMED = "for the guard `late` to answer"


@pytest.mark.parametrize(
    ("guard", "held", "shown"),
    [
        (Late(0.9), "", []),
        (Late(9.0), "", [NAMED, None]),
        (Late(9.0, Hold("busy", 7.0)), "", [NAMED, "busy", None]),
        (Late(9.0), "busy", ["busy", None]),
    ],
)
def test_a_guard_that_answers_late_is_what_the_run_waits_for(
    guard: Late, held: str, shown: list[str | None]
) -> None:
    """ "waiting: 2s between batches" stood there while a guard hung for half a minute."""
    made = Made(guards=[replace(guard)], held=held)
    assert VirtualClock().run(made.gate.opened(1, Pace(Pacing(4, 1.0)), batch=True))
    assert made.shown.waits == shown


@pytest.mark.parametrize("seconds", [0.5, 9.0])
def test_a_stop_does_not_wait_for_a_guard(seconds: float) -> None:
    guards = [Late(99.0), Late(99.0)]
    made = Made(guards=guards)

    async def main() -> bool:
        asyncio.get_running_loop().call_later(seconds, made.stop.set)
        found = await made.gate.opened(1, Pace(Pacing(4, 1.0)), batch=True)
        assert [guard.ended for guard in guards] == [1, 0], "its program, too, is ended"
        return found

    virtual = VirtualClock()
    began = virtual.now
    assert not virtual.run(main())
    assert virtual.now - began == pytest.approx(seconds)
    assert (made.shown.waits or [None])[-1] is None


@dataclass
class Kept:
    """A journal that gets a request to cancel after so many seconds."""

    clock: VirtualClock
    cancelled_at: float
    kept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.clock.now

    def control(self) -> Control:
        return CANCEL if self.clock.now - self.began >= self.cancelled_at else Control()

    def keep_lease(self) -> None:
        self.kept.append(round(self.clock.now - self.began))


@pytest.mark.parametrize(
    ("cancelled_at", "kept"),
    [(1e9, [15, 30, 45, 60]), (20.0, [15, 20, 35, 50, 65]), (0.0, [0, 15, 30, 45, 60])],
)
def test_beside_the_work_the_lease_is_kept_and_a_request_to_cancel_is_found(
    cancelled_at: float, kept: list[float]
) -> None:
    """This goes on after the request to cancel: what is under way may take a while."""
    clock = VirtualClock()
    journal = Kept(clock, cancelled_at)

    async def main() -> None:
        stop = asyncio.Event()
        async with beside(watch(cast(Journal, journal), stop)):
            await asyncio.sleep(cancelled_at - 0.5 if 0 < cancelled_at < 60 else 0.0)
            assert not stop.is_set() or not cancelled_at
            await asyncio.sleep(67.0 - (cancelled_at if 0 < cancelled_at < 60 else 0.0))
            assert stop.is_set() == (cancelled_at < 60)

    clock.run(main())
    assert journal.kept == kept


def test_a_fault_beside_the_work_ends_it_with_its_own_error() -> None:
    async def fails() -> None:
        raise KeyError("lost")

    async def main() -> None:
        async with beside(fails()):
            await asyncio.sleep(60)

    with pytest.raises(KeyError, match="lost"):
        asyncio.run(main())
