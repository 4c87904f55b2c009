"""Jobs that fail while a run is held or waits: it sends no more, and ends without waiting on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from runner.adapters.journal.store import Store
from runner.errors import BackfillError
from tests.execution.test_pacing import World
from tests.support import (
    ORIGIN,
    Fault,
    HoldsOnce,
    Recorder,
    StandIn,
    lost_after,
    make_plan,
    new_store,
    repos,
)

HOUR = 3_600.0


ORDERS: Mapping[str, Callable[[Store], object]] = {
    "pause": lambda store: store.request_pause("RUN1"),
    "hold": lambda store: store.hold(ORIGIN, "prod", "incident 42", HOUR),
}


def _with_the_first_request(folder: Path, by: str) -> list[Fault | None]:
    def order(_server: StandIn, _request: httpx.Request) -> None:
        ORDERS[by](new_store(folder))

    return [order] if by in ORDERS else []


@pytest.mark.parametrize("limit", ["on_failure: stop", "max_failures: 1"])
@pytest.mark.parametrize("by", ["delay", "guard", *ORDERS])
def test_a_run_ends_once_a_job_fails_whatever_it_waits_for(
    tmp_path: Path, by: str, limit: str
) -> None:
    delay = "1h" if by == "delay" else "0s"
    body = f"operations: [sync]\nbatch_size: 2\ndelay: {delay}\n{limit}\n"
    made = World(tmp_path, make_plan(tmp_path, repos(6) + body))
    made.guards = [HoldsOnce(2, int(HOUR / 15.0) - 1)] if by == "guard" else []
    made.server.failing = {"o/r0"}
    made.server.faults = _with_the_first_request(tmp_path, by)
    began = made.clock.now
    ending, _ = made.drive(2 * HOUR)
    assert len(made.server.received) == 2, "nothing was sent after the failure"
    assert ending.how == ("complete" if limit.startswith("on") else "limit")
    assert made.clock.now - began < 20.0
    assert isinstance(made.observer, Recorder)
    assert made.observer.progresses[-1].waiting is None


def test_a_request_without_an_answer_is_repeated_though_the_run_has_failed(tmp_path: Path) -> None:
    body = "operations: [sync]\nbatch_size: 2\ndelay: 0s\n"
    made = World(tmp_path, make_plan(tmp_path, repos(6) + body))
    made.server.failing = {"o/r0"}
    made.server.faults = [None, *[lost_after] * 500]
    with suppress(BackfillError):
        made.drive()
    made.server.faults = []
    requests = len(made.server.bodies)
    assert made.drive()[0].how == "complete"
    assert len(made.server.bodies) == requests + 1
    assert len(made.server.effects) == 4
    assert not made.journal.unanswered()
