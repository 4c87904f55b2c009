"""What is said before sending about functions that are paused, or slower than the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.execution.doctor import listening
from runner.model import ExecutionPlan, Finding, Function, Rate, Rest, Singleton, Trigger
from tests.support import make_plan, repos

HEARS = (Trigger("app/sync"),)


def plan(folder: Path, count: int, pace: str) -> ExecutionPlan:
    return make_plan(folder, repos(count) + "operations: [sync]\n" + pace)


def warned(plan: ExecutionPlan, *functions: Function) -> list[Finding]:
    return [finding for finding in listening(plan, functions) if finding.level != "ok"]


@pytest.mark.parametrize(
    ("limit", "pace", "says"),
    [
        # A rate limit lets a tenth of its events plus one through at once; the others evenly.
        (
            Rate(100, 60),
            "",
            "its rate limit is 100 in 1m, and it drops the rest; the plan sends 40 at once",
        ),
        (Rate(400, 60), "", None),
        (Rate(100, 60), "batch_size: 10\ndelay: 10s\n", None),
        (Rate(10, 3600), "batch_size: 5\ndelay: 1s\n", "the plan sends 40, 5 every 1s"),
        (Rate(10, 10), "batch_size: 20\ndelay: 37s\n", "the plan sends 40, 20 every 37s"),
        (Rate(10, 10), "batch_size: 20\ndelay: 38s\n", None),
        (Rate(1, 86_400, "event.data.repo"), "", None),
        (Rate(1, 86_400, "event.data.owner"), "", "1 in 1d of each `event.data.owner`"),
        (Rate(1, 86_400, "event.data.a + event.data.b"), "", None),
    ],
)
def test_a_rate_limit_that_drops_events_of_the_plan_is_said_with_both_figures(
    tmp_path: Path, limit: Rate, pace: str, says: str | None
) -> None:
    found = warned(plan(tmp_path, 40, pace), Function(("f",), HEARS, rate_limit=limit))
    assert [finding.about for finding in found] == (["rate limit"] if says else [])
    assert says is None or says in found[0].message


@pytest.mark.parametrize(
    ("limit", "pace", "says"),
    [
        (Rate(10, 60), "", ("its throttle is 10 in 1m; the plan sends 40 at once", "about 4m")),
        (Rate(40, 60), "", None),
        (Rate(10, 60), "batch_size: 10\ndelay: 1m\n", None),
        (Rate(10, 60), "batch_size: 10\ndelay: 59s\n", ("the plan sends 40, 10 every", "about 4m")),
    ],
)
def test_a_throttle_slower_than_the_plan_is_said_with_the_time_that_it_takes(
    tmp_path: Path, limit: Rate, pace: str, says: tuple[str, str] | None
) -> None:
    found = warned(plan(tmp_path, 40, pace), Function(("f",), HEARS, throttle=limit))
    assert [finding.about for finding in found] == (["throttle"] if says else [])
    assert says is None or (says[0] in found[0].message and says[1] in str(found[0].hint))


@pytest.mark.parametrize(
    ("function", "about", "says"),
    [
        (
            Function(("f",), HEARS, debounce=Rest(10)),
            "debounce",
            "keeps only the latest event and drops",
        ),
        (Function(("f",), HEARS, debounce=Rest(10, "event.data.repo")), None, ""),
        (Function(("f",), HEARS, singleton=Singleton(False)), "singleton", "others are dropped"),
        (Function(("f",), HEARS, singleton=Singleton(True)), "singleton", "others are cancelled"),
        (Function(("f",), HEARS, batch=Rest(10)), None, ""),
    ],
)
def test_a_function_that_takes_one_event_of_many_is_said(
    tmp_path: Path, function: Function, about: str | None, says: str
) -> None:
    found = warned(plan(tmp_path, 2, ""), function)
    assert [finding.about for finding in found] == ([about] if about else [])
    assert not about or says in found[0].message
    assert warned(plan(tmp_path, 1, ""), function) == []


def test_a_paused_function_is_a_warning_and_where_all_are_paused_a_refusal(tmp_path: Path) -> None:
    paused, awake = Function(("f",), HEARS, paused=True), Function(("g",), HEARS)
    (found,) = warned(plan(tmp_path, 3, ""), paused, awake)
    assert (found.level, found.message) == ("warn", "`f` is paused: `app/sync` does not start it")
    assert [finding.level for finding in warned(plan(tmp_path, 3, ""), paused)] == ["fail"]


def test_a_stage_without_events_is_too_fast_for_nothing(tmp_path: Path) -> None:
    slow = Rate(1, 86_400, "event.data.repo")
    function = Function(("f",), HEARS, rate_limit=slow, throttle=slow, debounce=Rest(9, slow.key))
    assert warned(plan(tmp_path, 0, ""), function) == []
