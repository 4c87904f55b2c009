"""A state that is away for a while: the transaction at hand is made again, once it is back."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from runner.model import Patience

_MOST = 1_000  # statements of a transaction that are kept to be made again
_SLICE = 0.1  # seconds between two looks at whether somebody has stopped the process
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Outage:
    """`note` hears of each try. What is waited for blocks the process: nothing may be sent that
    cannot be written down."""

    patience: Patience
    note: Callable[[str], None]
    where: str
    clock: Callable[[], float] = time.monotonic

    def over(self, attempt: Callable[[], Any], errors: type[Exception]) -> Any:
        """`attempt`, again while it fails; raises its error once the time is up, or a signal has
        come, which is then handed on."""
        tries, began = 0, self.clock()
        with _signals() as came:
            while True:
                try:
                    return attempt()
                except errors as error:
                    tries += 1
                    spent = self.clock() - began
                    wait = self.patience.wait(tries, spent, random.random())  # noqa: S311
                    if wait is None or came:
                        raise
                    left = round(self.patience.seconds - spent)
                    said = str(error).strip().split("\n")[0]
                    self.note(
                        f"the state in {self.where} is away ({said}); trying again in "
                        f"{wait:.1f}s (try {tries + 1}, for {left}s more)"
                    )
                    _sleep(wait, came)


@dataclass(slots=True)
class Kept:
    """The statements of a transaction, and what they gave: made again, they must give the same."""

    made: list[tuple[Callable[[Any], Any], Any]] = field(default_factory=list)
    all_of_them: bool = True

    def add(self, statement: Callable[[Any], Any], gave: Any) -> None:
        self.all_of_them &= len(self.made) < _MOST
        if self.all_of_them:
            self.made.append((statement, gave))
        else:
            self.made.clear()

    def again(self, raw: Any) -> bool:
        return self.all_of_them and all(statement(raw) == gave for statement, gave in self.made)


def _sleep(seconds: float, came: list[int]) -> None:
    until = time.monotonic() + seconds
    while not came and (left := until - time.monotonic()) > 0:
        time.sleep(min(_SLICE, left))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Which have come meanwhile; they are raised again for whoever handles them."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def hear(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, hear)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came_in in came:
            signal.raise_signal(came_in)
