"""Outlast a state that is away for a while: repeat the current transaction once it is back."""

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

_MOST = 1_000  # statements of a transaction that are kept for repeating it
_SLICE = 0.1  # seconds between two checks for a signal
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Outage:
    """Retries while the state is away, and reports each try to `note`. The wait blocks the process:
    nothing may be sent that cannot be recorded."""

    patience: Patience
    note: Callable[[str], None]
    where: str
    clock: Callable[[], float] = time.monotonic
    came: list[int] = field(default_factory=list)  # signals since the attempt began

    def over(self, attempt: Callable[[], Any], errors: type[Exception]) -> Any:
        """Call `attempt` until it succeeds; raise its error once the time is up, or if a signal
        came while `heard` is active."""
        tries, began = 0, self.clock()
        self.came.clear()
        while True:
            try:
                return attempt()
            except errors as error:
                tries += 1
                spent = self.clock() - began
                wait = self.patience.wait(tries, spent, random.random())  # noqa: S311
                if wait is None or self.came:
                    raise
                left = round(self.patience.seconds - spent)
                said = str(error).strip().split("\n")[0]
                self.note(
                    f"the state in {self.where} is away ({said}); trying again in "
                    f"{wait:.1f}s (try {tries + 1}, for {left}s more)"
                )
                _sleep(wait, self.came)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let `over` notice signals until the block ends; their handlers still run."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        if not _hearing:
            _listen()
        _hearing.append(self)
        try:
            yield
        finally:
            _hearing[:] = [other for other in _hearing if other is not self]
            if not _hearing:
                _leave()


# A process has one handler for a signal, and several blocks may end in any order.
_hearing: list[Outage] = []
_handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}


def _listen() -> None:
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):  # else the signal has its default effect or is ignored
            _handlers[number] = handler
            signal.signal(number, _hear)


def _leave() -> None:
    for number, handler in _handlers.items():
        signal.signal(number, handler)
    _handlers.clear()  # only now: a signal may still arrive until then


def _hear(number: int, frame: FrameType | None) -> None:
    for outage in _hearing:
        outage.came.append(number)
    _handlers[number](number, frame)


@dataclass(slots=True)
class Kept:
    """The statements of a transaction and their results: when repeated, the results must be the
    same."""

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
