"""Time left, and the simulated schedule: pure figures, which say what they are based on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.model import Driven, ExecutionPlan, Needs, RunRecord, RunView, StageRecord, Waiting
from runner.model.function import Function, Rest, Trigger
from runner.planning.estimate import (
    Past,
    before,
    left,
    measured,
    needed,
    past_of,
    rough,
    simulate,
)
from runner.planning.serialize import dump_head, load_head
from tests.support import make_plan, repos

RECORD = RunRecord(
    id="01RUN", plan="test", path="plan.yaml", digest="sha256:0", target="dev", address="x",
    variables={}, planned=100, follow=True, status="running", started_at=1000.0,
    started_by="somebody", ended_at=None, head="", parent=None, wanted=None, batch_size=None,
    delay=None,
)  # fmt: skip
DRIVEN = Driven(((1000.0, 1100.0),))
NOTHING = StageRecord(1, "sync", 100)


@pytest.fixture
def plan(tmp_path: Path) -> ExecutionPlan:
    """100 events in 10 batches, 5 s apart."""
    return make_plan(tmp_path, repos(100) + "operations: [sync]\nbatch_size: 10\ndelay: 5s\n")


def view(plan: ExecutionPlan, *, now: float = 1022.0, **stage: object) -> RunView:
    head = load_head(dump_head(plan))
    known = NOTHING._replace(**stage)  # type: ignore[arg-type]
    record = measured(known, head.stages[0].pacing, (), DRIVEN, now, through=False, drains=False)
    return RunView(RECORD, "somebody", head, now, (record,), {}, (), (), driven=DRIVEN)


def test_before_anything_is_sent_the_pacing_is_all_that_is_known(plan: ExecutionPlan) -> None:
    estimate = before(plan, {}, 0.0)
    assert estimate.seconds == 45.0
    assert estimate.words == "about 45s (its pacing; how long its jobs take is not known)"


@pytest.mark.parametrize(
    ("batch_size", "delay", "seconds"),
    [(None, None, 40.0), (None, 60.0, 480.0), (1, None, 400.0), (80, 60.0, 60.0), (10, 0.0, None)],
)
def test_what_is_left_goes_by_the_pace_that_an_operator_has_set(
    plan: ExecutionPlan, batch_size: int | None, delay: float | None, seconds: float | None
) -> None:
    made = view(plan, sent=20, began=1000.0, last_sent=1005.0)
    tuned = replace(made.record, batch_size=batch_size, delay=delay)
    estimate = left(replace(made, record=tuned))
    assert estimate
    assert (estimate.seconds if estimate.basis == "by the pacing" else None) == seconds


def test_an_earlier_run_tells_how_long_the_jobs_take(plan: ExecutionPlan) -> None:
    slow = before(plan, {"sync": Past("01OLD", rate=0.5, took=10.0)}, 0.0)
    assert slow.seconds == 210.0
    assert slow.basis == "its pacing and its jobs as in run 01OLD"
    fast = before(plan, {"sync": Past("01OLD", rate=100.0, took=1.0)}, 0.0)
    assert fast.seconds == 46.0, "it is not faster than its pacing"


@pytest.mark.parametrize(
    ("cap", "seconds", "governs"), [(20, 45 + 2, "its pace"), (2, 100 + 2, "max_in_flight")]
)
def test_which_governs_pace_or_cap_is_said_where_jobs_are_known(
    tmp_path: Path, cap: int, seconds: float, governs: str
) -> None:
    body = f"operations: [sync]\nbatch_size: 10\ndelay: 5s\nmax_in_flight: {cap}\n"
    estimate = before(make_plan(tmp_path, repos(100) + body), {"sync": Past("OLD", 90.0, 2.0)}, 0.0)
    assert estimate.seconds == seconds
    assert estimate.basis.endswith(f"; `sync` goes by {governs}, with jobs of 2s")


@pytest.mark.parametrize(
    ("body", "known", "basis"),
    [
        ("", False, "its pacing; how long its jobs take is not known"),
        ("", True, "its jobs as in run OLD"),
        ("batch_size: 1\ndelay: 3s\nmax_in_flight: 2\n", True,
         "its pacing and its jobs as in run OLD"),
        ("batch_size: 1\ndelay: 3s\nmax_in_flight: 1\n", True,
         "its pacing and its jobs as in run OLD; `sync` goes by max_in_flight, with jobs of 3.3s"),
        ("batch_size: 1\ndelay: 6.68s\nmax_in_flight: 1\n", True,
         "its pacing and its jobs as in run OLD; `sync` goes by its pace, with jobs of 3.3s"),
    ],
)  # fmt: skip
def test_an_estimate_is_of_what_is_known_and_says_from_where(
    tmp_path: Path, body: str, known: bool, basis: str
) -> None:
    past = {"sync": Past("OLD", 1e9, 3.34)} if known else {}
    estimate = before(make_plan(tmp_path, repos(2) + "operations: [sync]\n" + body), past, 0.0)
    assert (estimate.basis, estimate.telling) == (basis, known)
    if not body:
        assert round(estimate.seconds, 3) == (3.34 if known else 0.0)


STARTING = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {}, done: completed}
  fire: {event: app/fire, for_each: repo, payload: {}, after: [sync], own}
"""


@pytest.mark.parametrize(
    ("own", "seconds", "telling"),
    [
        ("at: '2027-01-01T00:10:00Z', done: completed", 500.0, True),
        ("at: '2027-01-01T00:01:50Z', done: completed", 10.0, True),
        ("at: '2027-01-01T00:10:00Z', done: sent", 10.0, True),
        ("id: '{{ repo.repo }}', done: completed", 10.0, False),
    ],
)
def test_a_stage_that_is_followed_lasts_until_its_last_event_may_start(
    tmp_path: Path, own: str, seconds: float, telling: bool
) -> None:
    """It is 00:01:40; each stage has 5 s of pacing."""
    body = repos(2) + "operations: [sync, fire]\nbatch_size: 1\ndelay: 5s\n"
    plan = make_plan(tmp_path, body, catalog=STARTING.replace("own", own))
    estimate = before(plan, {}, datetime(2027, 1, 1, 0, 1, 40, tzinfo=UTC).timestamp())
    assert (estimate.seconds, estimate.telling) == (seconds, telling)
    governs = "`fire` goes by the start times of its events" in estimate.basis
    assert governs is (seconds > 10.0)


@pytest.mark.parametrize("rests", ["debounce", "batch"])
def test_a_debounce_or_a_batch_takes_its_time_where_no_run_has_shown_it(
    plan: ExecutionPlan, rests: str
) -> None:
    (event,) = plan.stages[0].event_names
    resting: dict[str, Any] = {rests: Rest(300.0)}
    functions = [
        Function(("sync-repo",), (Trigger(event),), **resting),
        Function(("other",), (Trigger("other/event"),), debounce=Rest(9e9)),
    ]
    estimate = before(plan, {}, 0.0, functions)
    assert estimate.seconds == 45.0 + 300.0
    assert "`sync-repo` may delay events by 5m" in estimate.basis
    assert estimate.telling
    shown = {"sync": Past("01OLD", rate=100.0, took=301.0)}
    assert before(plan, shown, 0.0, functions) == before(plan, shown, 0.0), "it is in what it took"


def test_what_earlier_runs_have_shown_is_the_latest_ones(plan: ExecutionPlan) -> None:
    told = view(plan, sent=100, outcomes={"completed": 100}, began=1000.0, ended=1050.0, took=2.5)
    older = replace(told, record=replace(RECORD, id="01OLDER"))
    assert past_of([told, older]) == {"sync": Past("01RUN", 2.0, 2.5)}
    assert past_of([view(plan), view(plan, sent=100, outcomes={"failed": 100})]) == {}, (
        "nothing completed"
    )


def test_what_is_left_is_told_by_the_pacing_until_jobs_are_slower(plan: ExecutionPlan) -> None:
    none_sent = left(view(plan))
    assert none_sent is not None
    assert (none_sent.seconds, none_sent.basis) == (45.0, "by the pacing")
    half = {"sent": 50, "batches": 5, "began": 1000.0, "last_sent": 1020.0}
    fast = left(view(plan, **half, outcomes={"completed": 50}, ended=1020.5))
    assert fast is not None
    assert (fast.seconds, fast.basis) == (25.0, "by the pacing")
    slow = left(view(plan, **half, outcomes={"completed": 10}, ended=1020.0))
    assert slow is not None
    assert (slow.seconds, slow.basis) == (180.0, "at 0.5 events a second so far")


HALF: dict[str, Any] = {"sent": 50, "batches": 5, "began": 1000.0, "last_sent": 1025.0}
TEN: dict[str, Any] = {"sent": 100, "began": 1000.0, "last_sent": 1020.0}


@pytest.mark.parametrize(
    ("stage", "now", "left_of_it"),
    [
        ({"total": 10}, 1022, None),
        (HALF, 1030, (25.0, "by the pacing")),
        ({**HALF, "last_sent": 1030.0}, 1030, (30.0, "at 1.7 events a second so far")),
        ({**HALF, "outcomes": {"completed": 50}, "ended": 1025.0}, 1030,
         (25.0, "at 2.0 events a second so far")),
        ({**HALF, "waiting": Waiting("until noon", "held")}, 1030, None),
        ({**HALF, "waiting": Waiting("for the server", "away")}, 1030, None),
        ({**HALF, "waiting": Waiting("for the delay", "pace")}, 1030, (25.0, "by the pacing")),
        *(({**HALF, "waiting": Waiting("for jobs", kind)}, 1030, None)
          for kind in ("jobs", "queued", "room")),
        ({**HALF, "outcomes": {"completed": 50}, "ended": 1025.0, "waiting": Waiting("x", "room")},
         1030, (25.0, "at 2.0 events a second so far")),
        ({**HALF, "outcomes": {"completed": 50}, "ended": 1020.0, "waiting": Waiting("x", "room")},
         1031, None),
        ({**TEN, "outcomes": {"completed": 50}, "ended": 1050.0}, 1060,
         (50.0, "at 1.0 events a second so far")),
        ({**TEN, "outcomes": {"completed": 50}, "ended": 1050.0}, 1061, None),
        ({**TEN, "outcomes": {"completed": 5}, "ended": 1050.0}, 1100,
         (950.0, "at 0.1 events a second so far")),
        ({**TEN, "outcomes": {"completed": 5}, "ended": 1050.0}, 1101, None),
        ({**HALF, "followed": False, "outcomes": {"completed": 1}, "ended": 1025.0}, 1030,
         (25.0, "by the pacing")),
    ],
)  # fmt: skip
def test_what_is_left_goes_by_the_slowest_of_pacing_sends_and_ends_unless_it_stands_still(
    plan: ExecutionPlan, stage: dict[str, Any], now: float, left_of_it: tuple[float, str] | None
) -> None:
    one = left(view(plan, now=float(now), **stage))
    assert (one and (one.seconds, one.basis)) == left_of_it


@pytest.mark.parametrize(
    ("first", "seconds"),
    [
        ({"sent": 0}, 90.0),
        ({"sent": 0, "waiting": Waiting("until noon", "held")}, None),
        ({"sent": 100, "outcomes": {"completed": 100}, "ended": 1020.0}, 45.0),
        ({"sent": 100, "waiting": Waiting("for its jobs", "jobs")}, None),
        ({"sent": 50, "waiting": Waiting("for the server", "away"), "followed": False}, None),
    ],
)
def test_what_comes_after_a_stage_of_which_nothing_is_known_is_not_known_either(
    tmp_path: Path, first: dict[str, Any], seconds: float | None
) -> None:
    body = repos(100) + "operations: [sync, embed]\nbatch_size: 10\ndelay: 5s\n"
    two = make_plan(tmp_path, body)
    shown = view(two, began=1000.0, last_sent=1010.0, **first)
    second = StageRecord(2, "embed", 100)
    estimate = left(replace(shown, stages=(*shown.stages, second)))
    assert (estimate and estimate.seconds) == seconds


def test_how_long_a_drain_takes_is_not_known(tmp_path: Path) -> None:
    """Its rounds are known once they are over. What is left of a run with one is neither."""
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: a/sync, for_each: repo, payload: {}}
  drain:
    event: a/drain
    for_each: repo
    payload: {}
    until: {query: select count(*) as n from items, expect: {column: n, at_most: 0}}
"""
    body = repos(100) + "operations: [sync, drain]\nbatch_size: 10\ndelay: 5s\n"
    plan = make_plan(tmp_path, body, catalog=catalog)
    assert before(plan, {}, 0.0).basis.endswith("; with one round of `drain`")
    shown = view(plan, began=1000.0, last_sent=1010.0, sent=20)
    assert shown.stages[0].left
    drain = StageRecord(2, "drain", 100, began=1000.0, last_sent=1010.0, sent=20)
    pacing = plan.stages[1].pacing
    drain = measured(drain, pacing, (), DRIVEN, 1022.0, through=False, drains=True)
    assert drain.left is None
    assert left(replace(shown, stages=(shown.stages[0], drain))) is None
    assert left(replace(shown, stages=(shown.stages[0], drain._replace(done=True))))


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(), ""),
        (Needs(github_points=1500.4), "1,500 GitHub points"),
        (Needs(usd=1234.5), "$1,234.50"),
        (Needs(1.0, 0.25, 7200.0), "1 GitHub point, $0.25, 2h of jobs"),
    ],
)
def test_what_the_catalog_declares_is_said_and_nothing_else(needs: Needs, words: str) -> None:
    assert needed(needs) == words


def test_nothing_is_guessed(plan: ExecutionPlan) -> None:
    done = view(plan, sent=100, outcomes={"completed": 100}, began=1000.0, ended=1050.0)
    assert left(done) is None
    ended = replace(view(plan), record=replace(RECORD, status="completed"))
    assert left(ended) is None
    waiting: dict[str, Any] = {"sent": 100, "began": 1000.0}
    waiting["waiting"] = Waiting("for its jobs", "jobs")
    assert left(view(plan, **waiting)) is None, "no job has ended yet"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1s"), (44.6, "45s"), (99.0, "1m39s"), (99.6, "1m40s"), (123.0, "2m"), (3661.0, "1h1m")],
)
def test_an_estimate_is_as_rough_as_it_is_known(seconds: float, words: str) -> None:
    assert rough(seconds) == words


def test_the_schedule_plays_the_pacing_through(tmp_path: Path) -> None:
    body = repos(20) + "operations: [sync, embed]\nbatch_size: 5\ndelay: 2s\n"
    plan = make_plan(tmp_path, body)
    schedule = simulate(plan, [f"o/r{n}" for n in range(20)])
    assert [(slot.begins, slot.ends) for slot in schedule.slots] == [(0.0, 6.0), (6.0, 12.0)]
    assert schedule.duration == 12.0
    assert schedule.starved is None, "nothing is out of the written order"
    assert simulate(replace(plan, stages=()), []).duration == 0.0


@pytest.mark.parametrize(("delay", "waits"), [("3s", 12.0), ("100ms", 0.4)])
def test_the_item_that_waits_longest_because_of_priority_is_named(
    tmp_path: Path, delay: str, waits: float
) -> None:
    written = ["o/first", *(f"o/r{n}" for n in range(9))]
    listed = "".join(
        f"  - {{repo: {name}, priority: {'low' if name == 'o/first' else 'high'}}}\n"
        for name in written
    )
    body = (
        f"repos:\n{listed}operations: [sync]\nbatch_size: 2\ndelay: {delay}\norder_by: [priority]\n"
    )
    starved = simulate(make_plan(tmp_path, body), written).starved
    assert starved is not None
    assert (starved.item, starved.at, starved.waits) == ("o/first", waits, waits)


@pytest.mark.parametrize("operations", ["[sync]", "[sync, embed]"])
@pytest.mark.parametrize("delay", ["3650d", "999999999d"])
@pytest.mark.parametrize("other", ["22:00-06:00", "12:00-13:00"])
def test_work_that_no_calendar_has_an_end_for_has_none(
    tmp_path: Path, other: str, delay: str, operations: str
) -> None:
    """Looking for the windows of a year after 9999 once ended `run` with an internal error."""
    windows = f'guards: [{{window: {{allow: "22:00-06:00"}}}}, {{window: {{allow: "{other}"}}}}]\n'
    body = f"operations: {operations}\nbatch_size: 2\ndelay: {delay}\n{windows}"
    plan = make_plan(tmp_path, repos(4) + body)
    assert "about" in before(plan, {}, 1_795_777_200.0).words


def test_a_window_puts_the_end_off_and_the_preview_says_until_when(tmp_path: Path) -> None:
    window = "guards: [{window: {allow: '22:00-06:00', days: mon-fri, timezone: Europe/Berlin}}]\n"
    body = repos(10) + "operations: [sync]\nbatch_size: 1\ndelay: 1h\n" + window
    plan = make_plan(tmp_path, body)
    noon = 1_795_777_200.0  # Friday 2026-11-27, 12:00 in Berlin
    estimate = before(plan, {}, noon)
    assert estimate.words == (
        "about 83h, until 2026-11-30 22:00 UTC (its pacing; how long its jobs take is not known; "
        "only within 22:00-06:00, mon-fri, Europe/Berlin)"
    )
    never = "guards: [{window: {allow: '22:00-23:00'}}, {window: {allow: '01:00-02:00'}}]\n"
    both = make_plan(tmp_path, repos(2) + "operations: [sync]\n" + never)
    assert before(both, {}, noon).words.startswith("about for ever")


@pytest.mark.parametrize(
    ("allow", "ends"), [("00:10-00:20", 1022 + 80), ("00:10-00:17", 86_400 + 600 + 80)]
)
def test_what_is_left_of_a_run_knows_its_windows(tmp_path: Path, allow: str, ends: float) -> None:
    """It is 00:17:02, and 80 s are left."""
    window = f"guards: [{{window: {{allow: '{allow}'}}}}]\n"
    body = repos(100) + "operations: [sync]\nbatch_size: 10\ndelay: 5s\n"
    plan = make_plan(tmp_path, body + window)
    estimate = left(view(plan, sent=20, began=1000.0, last_sent=1020.0))
    assert estimate
    assert estimate.ends == pytest.approx(ends)
    assert f"only within {allow}, UTC" in estimate.words
