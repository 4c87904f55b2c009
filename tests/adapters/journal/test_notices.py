"""Notices of a run: once for each hook, and from one driver at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.model import Hook, Job, Waiting
from runner.model.record import Occasion
from runner.model.run import WaitKind
from tests.adapters.journal.lives import Life
from tests.support import let_go, new_store, repos, start_journal

SYNC = "operations: [sync]\n"
FAILED = Job("j", "f", "Failed", ended=True, url="http://x/j")


def hook(*on: Occasion, held_after: float = 600.0) -> Hook:
    return Hook("webhook", "URL", on, held_after)


def told(folder: Path, *hooks: Hook, **more: Any) -> Life:
    return Life(folder, repos(2) + SYNC, hooks=hooks, **more)


def bodies(life: Life) -> list[dict[str, Any]]:
    return [notice.body for notice in life.store.due_notices("RUN1")]


def test_each_hook_is_told_of_what_it_wants_to_know(tmp_path: Path) -> None:
    life = told(tmp_path, hook("started"), hook("started", "ended"), hook("failed"))
    life.journal.end("completed")
    found = life.store.due_notices("RUN1")
    assert [(one.body["event"], one.hook.on) for one in found] == [
        ("started", ("started",)),
        ("started", ("started", "ended")),
        ("ended", ("started", "ended")),
    ]
    assert life.store.hooks("RUN1") == [hook("started"), hook("started", "ended"), hook("failed")]


@pytest.mark.parametrize("link", [None, "http://page"])
def test_a_failure_is_told_with_the_page_of_its_job_or_else_of_the_run(
    tmp_path: Path, link: str | None
) -> None:
    life = told(tmp_path, hook("failed", "ended"), link=link)
    life.take(1, range(2))
    life.see(0, "failed")
    first = {"operation": "sync", "item": "o/r0", "outcome": "failed", "message": "failed"}
    (failed,) = bodies(life)
    assert (failed["failure"], failed["link"]) == (first, link)
    life.see(1, "failed", "why", jobs=[FAILED])
    life.journal.end("failed", "it ended")
    _, ended = bodies(life)
    assert (ended["failure"], ended["link"]) == (first, link), "the first one"
    assert (ended["status"], ended["reason"], ended["totals"]["failed"]) == (
        "failed",
        "it ended",
        2,
    )


@pytest.mark.parametrize(("environment", "says"), [("", None), ("staging", "staging")])
def test_a_notice_names_the_environment_where_the_run_has_one(
    tmp_path: Path, environment: str, says: str | None
) -> None:
    (started,) = bodies(told(tmp_path, hook("started"), environment=environment))
    assert (started["environment"], started["status"]) == (says, "running")


def test_a_failure_with_a_job_links_to_it(tmp_path: Path) -> None:
    life = told(tmp_path, hook("failed"), link="http://page")
    life.take(1, range(2))
    life.see(1, "failed", "why", jobs=[FAILED])
    (failed,) = bodies(life)
    assert (failed["link"], failed["failure"]["message"]) == ("http://x/j", "why")


@pytest.mark.parametrize(
    ("kind", "waited", "expected"),
    [
        ("held", 599.0, []),
        ("held", 600.0, [600]),
        ("away", 600.0, [600]),
        ("held", 900.0, [600, 900]),
        ("pace", 900.0, []),
        ("jobs", 900.0, []),
    ],
)
def test_a_run_that_is_held_for_long_is_told_once_to_each_hook_that_calls_it_so(
    tmp_path: Path, kind: WaitKind, waited: float, expected: Sequence[int]
) -> None:
    life = told(tmp_path, hook("held"), hook("held", held_after=900.0), hook("failed"))
    life.journal.waiting(1, Waiting("for noon", kind))
    life.clock.now += waited
    for _ in range(2):
        found = life.store.due_notices("RUN1")
        assert [one.hook.held_after for one in found] == expected
    assert all(one.body["reason"] == "for noon" for one in found)
    since = {one.body["since"] for one in found}
    assert since == ({"2025-06-15T15:06:40.000Z"} if expected else set())


def test_a_hook_that_is_called_later_is_told_when_its_time_has_come(tmp_path: Path) -> None:
    life = told(tmp_path, hook("held"), hook("held", held_after=900.0))
    life.journal.waiting(1, Waiting("for noon"))
    life.clock.now += 700
    assert len(bodies(life)) == 1
    life.clock.now += 200
    assert len(bodies(life)) == 2


@pytest.mark.usefixtures("state")
def test_what_holds_a_run_is_told_once_though_its_reason_changes(tmp_path: Path) -> None:
    life = told(tmp_path, hook("held"))
    kinds: Sequence[WaitKind] = ("pace", "held", "away", "held", "held")
    for look, kind in enumerate(kinds):
        life.journal.waiting(1, Waiting(f"{kind} at look {look}", kind))
        life.clock.now += 200
        found = bodies(life)
    assert [(one["since"], one["reason"]) for one in found] == [
        ("2025-06-15T15:10:00.000Z", "held at look 3")
    ]
    life.journal.waiting(1, None)
    life.clock.now += 1
    life.journal.waiting(1, Waiting("held again"))
    life.clock.now += 600
    assert [one["reason"] for one in bodies(life)][1:] == ["held again"], "a hold of its own"


def test_a_wait_that_is_over_is_not_told(tmp_path: Path) -> None:
    life = told(tmp_path, hook("held"))
    life.journal.waiting(1, Waiting("for noon"))
    life.clock.now += 700
    life.journal.waiting(1, None)
    assert bodies(life) == []


@pytest.mark.usefixtures("state")
def test_a_notice_is_one_drivers_and_tried_again_until_it_is_delivered(tmp_path: Path) -> None:
    life, other = told(tmp_path, hook("started")), new_store(tmp_path)
    (notice,) = life.store.due_notices("RUN1")
    assert (other.claim_notice(notice), life.store.claim_notice(notice)) == (True, False)
    assert life.store.due_notices("RUN1") == [], "for a while it is nobody else's"
    other.settle_notice(notice, again=0.0)
    (again,) = life.store.due_notices("RUN1")
    assert again.tries == 1
    assert life.store.claim_notice(again)
    life.store.settle_notice(again, again=60.0)
    assert life.store.due_notices("RUN1") == []
    assert [one.number for one in life.store.notices_left("RUN1")] == [notice.number]
    life.store.settle_notice(again)
    assert life.store.notices_left("RUN1") == []
    assert not life.store.claim_notice(again._replace(tries=2)), "it was delivered"


def test_each_end_of_a_run_is_told(tmp_path: Path) -> None:
    life = told(tmp_path, hook("ended"))
    life.journal.end("incomplete")
    life.clock.now += 1
    life.journal.end("completed")
    assert [body["status"] for body in bodies(life)] == ["incomplete", "completed"]


def test_what_an_earlier_run_of_the_plan_has_left_is_delivered_by_the_next(tmp_path: Path) -> None:
    life = told(tmp_path, hook("started"))
    life.journal.end("completed")
    let_go(life.store)
    start_journal(life.store, life.plan, "RUN2")
    assert [one.body["run_id"] for one in life.store.due_notices("RUN2")] == ["RUN1"]
    assert life.store.notices_left("RUN2") == []


def test_a_run_that_tells_nobody_writes_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    life.journal.waiting(1, Waiting("for noon"))
    life.clock.now += 10_000
    life.journal.end("completed")
    assert (bodies(life), life.store.hooks("RUN1")) == ([], [])
