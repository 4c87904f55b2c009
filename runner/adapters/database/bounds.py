"""Limits for answers, so that neither a plan nor the data can fill our memory; and retries of a
database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from random import random
from typing import TypeVar

from runner.model import Patience

T = TypeVar("T")
PATIENCE = 30  # seconds that a question may take
MAX_BYTES = 32 << 20  # of an answer, with its rows' own weight; in memory 10 to 20 times that
ROW, VALUE = 64, 8  # the least bytes counted for a row and for each of its values


def too_large() -> str:
    return f"its answer is larger than {MAX_BYTES >> 20} MiB"


NARROW = "narrow the query, or leave large columns out"


def tried(
    attempt: Callable[[], T],
    away: type[Exception],
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    until: float = inf,
    once: bool = False,
) -> T:
    """Call `attempt` again while it raises `away`, for as long as a connection is tried; or not,
    if it is to be asked `once`."""
    patience, tries, began, waited = Patience(), 0, monotonic(), 0.0
    while True:
        try:
            return attempt()
        except away as error:
            tries += 1
            # A sleep that ends early, as with a test's clock, still counts as waited.
            spent = max(waited, monotonic() - began)
            wait = patience.wait(tries, spent, random(), getattr(error, "wait", None))  # noqa: S311
            if once or wait is None or monotonic() + wait >= until:
                raise
            waited += wait
            sleep(wait)


def ahead(now: float, began: float, ended: float) -> float:
    """Return how far a clock is ahead that said `now` between two times: the least that is
    possible."""
    return now - min(max(now, began), ended)
