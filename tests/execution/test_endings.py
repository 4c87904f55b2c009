"""The outcome of one event, by its jobs and by the configuration of its functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.execution.listeners import Ending, Listeners, verdict
from runner.model import Function, Job
from runner.model.function import Rate, Rest, Singleton, Trigger

EVENT = "app/sync"


def fn(name: str = "f", condition: str | None = None, **how: Any) -> Function:
    return Function((name,), (Trigger(EVENT, condition),), **how)


def job(function: str, status: str = "Completed", **how: Any) -> Job:
    return Job(f"{function}-1", function, status, ended=True, **how)


PLAIN, FILTERED = fn(), fn("filtered", "data.x")
LIMITED = fn("limited", rate_limit=Rate(1, 60.0))
DEBOUNCED, BATCHED = fn("debounced", debounce=Rest(9.0)), fn("batched", batch=Rest(7.0))
DROPS, CANCELS = fn("drops", singleton=Singleton(False)), fn("cancels", singleton=Singleton(True))
PAUSED = fn("paused", paused=True)
MAYBE = (
    "and the server does not list its functions: perhaps none listens, the event's id was seen "
    "within the last 24 hours, or a debounce, a batch, a rate limit, a singleton or a filter keeps "
    "it back"
)
ABSENT = (
    "`f` listens to `app/sync`, and no job started for it within 20s: is the server behind, or was "
    "its id seen within the last 24 hours?"
)
BATCH = (
    "`batched` takes its events in batches, and the server names only one event of each: it is not "
    "known whether a job had this one"
)


@pytest.mark.parametrize(
    ("functions", "jobs", "how", "ending"),
    [
        (None, [], {}, Ending("no_job", f"no job started for it, {MAYBE}")),
        (
            None,
            [],
            {"heard": True},
            Ending(
                "no_job",
                "no job started for it, although jobs started for other `app/sync` events, "
                f"{MAYBE}",
            ),
        ),
        (
            None,
            [],
            {"untold": {"x"}},
            Ending(
                "unknown",
                "the server names only one event of each batch, and not the functions that take "
                "batches: it is not known whether a job had this one",
            ),
        ),
        (
            [],
            [],
            {"untold": {"x"}},
            Ending("no_job", "no function listens to `app/sync`: no job started"),
        ),
        ([PAUSED], [], {}, Ending("no_job", "no job started: `paused` paused on the server")),
        ([PLAIN], [], {}, Ending("no_job", ABSENT)),
        (
            [LIMITED],
            [],
            {},
            Ending("dropped", "dropped by `limited`: by its rate limit (1 in 1m)"),
        ),
        ([LIMITED, PLAIN], [], {}, Ending("no_job", ABSENT)),
        ([LIMITED, BATCHED], [], {}, Ending("unknown", BATCH)),
        ([BATCHED], [], {}, Ending("unknown", BATCH)),
        ([BATCHED], [], {"complete": True, "untold": {"batched"}}, Ending("unknown", BATCH)),
        (
            [BATCHED],
            [],
            {"complete": True, "untold": {"x"}},
            Ending("no_job", ABSENT.replace("`f`", "`batched`")),
        ),
        ([PLAIN], [job("f")], {}, Ending("completed")),
        ([PLAIN], [job("f", "Failed", message="why")], {}, Ending("failed", "why")),
        ([PLAIN], [job("f", "Failed")], {}, Ending("failed", "the job ended as Failed")),
        ([PLAIN, LIMITED], [job("f", "Failed")], {}, Ending("failed", "the job ended as Failed")),
        ([PLAIN, FILTERED], [job("f")], {}, Ending("completed")),
        (
            [FILTERED],
            [],
            {},
            Ending("dropped", "dropped by `filtered`: by its filter (data.x)"),
        ),
        (
            [PLAIN, LIMITED],
            [job("f")],
            {},
            Ending("dropped", "dropped by `limited`: by its rate limit (1 in 1m)"),
        ),
        (
            [DROPS, PLAIN],
            [job("drops", "Skipped"), job("f")],
            {},
            Ending("dropped", "skipped: `drops` runs one job at a time (singleton)"),
        ),
        (
            [PLAIN],
            [job("f", "Skipped")],
            {},
            Ending(
                "dropped",
                "the server skipped its job: its function is paused, a singleton, or has too long "
                "a backlog",
            ),
        ),
        (
            [CANCELS, PLAIN],
            [job("cancels", "Cancelled"), job("f")],
            {},
            Ending(
                "cancelled",
                "the job ended as Cancelled; a later event cancels it, as `cancels` is a "
                "singleton that cancels",
            ),
        ),
        (
            [DROPS],
            [job("drops", "Cancelled")],
            {},
            Ending("cancelled", "the job ended as Cancelled"),
        ),
        ([CANCELS], [job("cancels", "Failed")], {}, Ending("failed", "the job ended as Failed")),
    ],
)
def test_an_event_ends_as_its_jobs_and_functions_tell(
    functions: list[Function] | None, jobs: list[Job], how: dict[str, Any], ending: Ending
) -> None:
    listeners = Listeners(functions, untold=how.get("untold", set()))
    complete, heard = how.get("complete", False), how.get("heard", False)
    assert listeners.ending(EVENT, jobs, 20.0, complete=complete, heard=heard) == ending


def test_functions_that_were_deployed_anew_are_those_that_count() -> None:
    listeners = Listeners()
    assert listeners.of(EVENT) == ()
    assert listeners.among([EVENT]) is None, "it is not known"
    listeners.know([PLAIN])
    assert listeners.of(EVENT) == (PLAIN,)
    listeners.know([LIMITED, FILTERED])
    assert listeners.of(EVENT) == (FILTERED, LIMITED)
    listeners.know(None)
    assert listeners.among([EVENT, EVENT]) == [FILTERED, LIMITED]
    assert listeners.among(["app/other"]) is None


def test_an_event_rests_as_long_as_one_of_its_functions_may_let_it() -> None:
    assert Listeners([]).rest(EVENT) == 0.0
    assert Listeners([PLAIN]).rest(EVENT) == 0.0
    assert Listeners([BATCHED, DEBOUNCED, PLAIN]).rest(EVENT) == 9.0
    assert Listeners([replace(DEBOUNCED, paused=True), BATCHED]).rest(EVENT) == 7.0


@pytest.mark.parametrize(
    ("missing", "routed", "at_once"),
    [
        ([], True, True),
        ([FILTERED], True, True),
        ([LIMITED], False, True),
        ([FILTERED, LIMITED], False, True),
        ([PLAIN], False, False),
        ([FILTERED, PLAIN], False, False),
        ([fn("g", "data.x", batch=Rest(7.0))], False, False),
        ([fn("g", "data.x", rate_limit=Rate(1, 60.0))], False, True),
    ],
)
def test_only_a_filter_leaves_an_event_to_others_and_only_what_lets_it_rest_starts_later(
    missing: list[Function], routed: bool, at_once: bool
) -> None:
    listeners = Listeners(missing)
    assert listeners.routed(EVENT, missing) is routed
    assert listeners.at_once(EVENT, missing) is at_once


def test_a_job_that_was_rerun_by_hand_is_what_its_rerun_came_to() -> None:
    failed = replace(job("f", "Failed"), id="one")
    again = replace(job("f"), id="two", original="one")
    assert verdict([failed, again]) == Ending("completed")
    assert verdict([failed]) == Ending("failed", "the job ended as Failed")
    assert Listeners([PLAIN]).missing(EVENT, [failed, again]) == []
    both = Listeners([PLAIN, LIMITED])
    assert both.missing(EVENT, [failed, again]) == [LIMITED]
    assert both.missing(EVENT, [job("unheard of")]) == [LIMITED], "a stranger is of the first"
    assert both.missing(EVENT, [job("unheard of"), job("limited")]) == []


def test_a_job_of_a_function_that_does_not_hear_the_event_is_nobodys() -> None:
    other = Function(("other",), (Trigger("app/other"),))
    assert Listeners([PLAIN, other]).missing(EVENT, [job("other")]) == [PLAIN]
