"""What an answer may take: neither a plan nor the data may fill our memory; and how long a
database that is away is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from random import random
from typing import TypeVar

from runner.model import Patience

T = TypeVar("T")
PATIENCE = 30  # seconds that a question may take
MAX_BYTES = 32 << 20  # of an answer, its rows' own weight included; it takes 10 to 20 times that
ROW, VALUE = 64, 8  # bytes, at least, that a row and each of its values weigh


def too_large() -> str:
    return f"its answer is larger than {MAX_BYTES >> 20} MiB"


NARROW = "narrow it, or leave large columns out"


def tried(
    attempt: Callable[[], T],
    away: type[Exception],
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    until: float = inf,
) -> T:
    """`attempt`, again while it raises `away`: as long as a connection is tried. A run, which is
    more patient, asks anew."""
    patience, tries, began, waited = Patience(), 0, monotonic(), 0.0
    while True:
        try:
            return attempt()
        except away as error:
            tries += 1
            # A sleep that is over before its time, as a clock's in tests, has still been waited.
            spent = max(waited, monotonic() - began)
            wait = patience.wait(tries, spent, random(), getattr(error, "wait", None))  # noqa: S311
            if wait is None or monotonic() + wait >= until:
                raise
            waited += wait
            sleep(wait)


def ahead(now: float, began: float, ended: float) -> float:
    """How far a clock is ahead that said `now` between two times: as little as that allows."""
    return now - min(max(now, began), ended)
