"""What others see of a run: its progress, each of its events, and how long they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product, starmap
from pathlib import Path

import pytest

from runner.execution.seeds import internal_ids
from runner.model import (
    LOST,
    CheckResult,
    EventFilter,
    EventRecord,
    FailureGroup,
    Job,
    Note,
    Round,
    SentBatch,
    Waited,
    Waiting,
)
from tests.adapters.journal.lives import Life
from tests.support import (
    CATALOG,
    change_leases,
    let_go,
    reopen,
    repos,
    start_journal,
)

SYNC = "operations: [sync]\n"
BODY = repos(9) + "operations: [sync, fire]\nbatch_size: 3\n"
DONE = Job("j1", "f", "Completed", ended=True)
FAILED = Job("j2", "f", "Failed", ended=True, message="no", url="http://x/j2")
GOES_ON = Job("j3", "f", "Running", ended=False)


def mixed(folder: Path) -> Life:
    """A run with an event of each kind: nine of `sync`, and nine of `fire` that wait."""
    life = Life(folder, BODY)
    life.take(1, range(3), 1)
    life.take(1, range(3, 6), 2, after=5, refused="bad event")
    life.begin(1, range(6, 8), 3, after=5)
    life.see(0, "completed", jobs=[DONE], after=1)
    life.see(1, "failed", "no such o/r1", jobs=[FAILED, replace(DONE, id="j4")], after=1)
    life.see(2, None, jobs=[GOES_ON], after=1)
    life.see(3, "no_job", "50% gone!", after=1)
    return life


def all_events(life: Life) -> list[EventRecord]:
    return list(life.store.events(life.record))


OUTCOMES = [
    *("completed", "failed", "running", "no_job", "running", "rejected", "sending", "sending"),
    *["unsent"] * 10,
]


def test_every_event_is_listed_once_in_sending_order_with_what_came_of_it(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    found = all_events(life)
    assert [event.outcome for event in found] == OUTCOMES
    assert [event.position for event in found] == list(range(18))
    assert [event.item for event in found] == [f"o/r{number}" for number in range(9)] * 2
    assert [event.batch for event in found] == [1, 1, 1, 2, 2, 2, 3, 3, 3] * 2
    assert [event.stage for event in found] == [1] * 9 + [2] * 9
    assert [event.operation for event in found] == ["sync"] * 9 + ["fire"] * 9
    assert [event.event for event in found] == ["app/sync"] * 9 + ["app/fire"] * 9
    assert found[1].event_id == "RUN1:sync:o/r1"
    assert found[10].event_id == "RUN1:fire:o/r1"


def test_an_event_is_told_with_its_times_its_internal_id_and_its_jobs(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    found = all_events(life)
    began = life.began
    assert [event.sent_at for event in found] == [
        *[began] * 3,
        *[began + 5] * 3,
        *[began + 10] * 2,
        *[None] * 10,
    ]
    ends = {0: began + 11, 1: began + 12, 3: began + 14, 5: began + 5}
    assert {event.position: event.ended_at for event in found if event.ended_at} == ends
    taken = {
        **dict(zip(range(3), internal_ids(life.chunks[0].seed, range(3)), strict=True)),
        **dict(zip((3, 4), internal_ids(life.chunks[1].seed, range(2)), strict=True)),
    }
    assert {one.position: one.internal_id for one in found if one.internal_id} == taken
    assert {one.position: one.message for one in found if one.message} == {
        1: "no such o/r1",
        3: "50% gone!",
        5: "bad event",
    }
    assert {one.position: [job.id for job in one.jobs] for one in found if one.jobs} == {
        0: ["j1"],
        1: ["j2", "j4"],
        2: ["j3"],
    }
    (job,) = found[2].jobs
    assert job == replace(GOES_ON, since=began + 13)
    assert found[1].jobs[0].ended


def test_an_event_with_an_id_of_its_own_is_told_with_it(tmp_path: Path) -> None:
    life = Life(tmp_path, f"{repos(2)}operations: [{{use: sync, id: 'own-{{{{ repo.name }}}}'}}]\n")
    life.take(1, [0])
    assert [event.event_id for event in all_events(life)] == ["own-r0", "own-r1"]


@pytest.mark.parametrize("how", ["not followed", "over", "left"])
def test_an_event_that_nobody_looks_at_is_not_said_to_run(tmp_path: Path, how: str) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    life.take(1, range(2))
    assert [event.outcome for event in all_events(life)] == ["running"] * 2
    record = life.record
    if how == "not followed":
        record = replace(record, follow=False)
    elif how == "over":
        life.journal.end("cancelled")
        record = life.record
    else:
        change_leases(life.store, "expires_at = 0, machine = 'elsewhere'")
    assert [event.outcome for event in life.store.events(record)] == ["unfollowed"] * 2


FILTERS = list(
    starmap(
        EventFilter,
        product(
            ["", "R1", "such", "50%", "_"],
            [None, 1, 2],
            [None, LOST, "completed", "failed", "running", "sending", "unsent"],
        ),
    )
)


def says(event: EventRecord, text: str) -> bool:
    lost = event.outcome in ("failed", "no_job", "rejected")
    said = f"{event.message}" if lost else ""
    return text.lower() in event.item.lower() or text.lower() in said.lower()


def test_a_page_of_events_is_a_piece_of_all_that_are_wanted(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    record, whole = life.record, all_events(life)

    for wanted, (skip, limit) in product(FILTERS, [(0, 20), (1, 2), (11, 4)]):
        outcomes = {"failed", "no_job", "rejected"} if wanted.outcome == LOST else {wanted.outcome}
        matching = [
            event.position
            for event in whole
            if says(event, wanted.text)
            and wanted.stage in (None, event.stage)
            and (wanted.outcome is None or event.outcome in outcomes)
        ]
        page = life.store.find_events(record, wanted, limit, skip)
        assert [event.position for event in page] == matching[skip : skip + limit], wanted
        for event in page:
            known = whole[event.position]
            if event.event_id is None:  # only the plan has its ids
                known = known._replace(event_id=None, internal_id=None)
            assert event == known


def test_events_of_some_stages_with_some_outcomes_are_those_of_all(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    record, whole = life.record, all_events(life)
    wanted = [*({one} for one in dict.fromkeys(OUTCOMES)), {"completed", "failed"}]
    for outcomes, stages in product(wanted, [(), (1,), (2,), (1, 2)]):
        assert list(life.store.events(record, stages, outcomes)) == [
            event
            for event in whole
            if event.outcome in outcomes and event.stage in (stages or (1, 2))
        ]


def test_where_a_stage_stands_is_counted_from_what_was_sent_and_seen(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    life.clock.now += 2
    sync, fire = life.store.glance(life.record).stages
    assert (sync.number, sync.operation, sync.total, sync.sent, sync.batches) == (
        1,
        "sync",
        9,
        6,
        3,
    )
    assert sync.outcomes == {"completed": 1, "failed": 1, "no_job": 1, "rejected": 1}
    assert (sync.began, sync.last_sent) == (life.began, life.began + 10)
    assert sync.ended == life.began + 14
    assert (sync.followed, sync.done, sync.rounds) == (True, False, ())
    assert (fire.sent, fire.batches, fire.began, fire.ended, fire.took) == (0, 0, None, None, None)
    view = life.store.glance(life.record)
    assert view.outcomes == {"failed": 1, "rejected": 1, "no_job": 1}
    assert (view.plan.name, view.now, view.state) == ("test", life.clock.now, "running")


@pytest.mark.parametrize("requests", [[range(2), range(2, 3)], [range(3)]])
def test_how_long_an_event_takes_is_an_average_over_the_time_in_which_the_run_was_driven(
    tmp_path: Path, requests: list[range]
) -> None:
    """Even if it paused between the ends of two events of one request."""
    life = Life(tmp_path, repos(3) + SYNC)
    life.journal.drive()
    for positions in requests:
        life.take(1, positions)
    life.see(0, "completed", after=2)
    life.see(1, "completed")
    life.journal.rest()
    life.clock.now += 100
    life.journal.drive()
    life.see(2, "completed", after=3)
    life.journal.keep_lease()
    (stage,) = life.store.glance(life.record).stages
    assert stage.took == pytest.approx((2 + 2 + 5) / 3)
    assert stage.ended == life.clock.now


@pytest.mark.parametrize(
    ("sent", "seen", "through"), [(2, 2, True), (2, 1, False), (1, 1, False), (0, 0, False)]
)
def test_a_stage_is_done_when_all_was_sent_and_has_ended(
    tmp_path: Path, sent: int, seen: int, through: bool
) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    for position in range(sent):
        life.take(1, [position])
    for position in range(seen):
        life.see(position, "completed")
    (stage,) = life.store.glance(life.record).stages
    assert stage.done is through
    life.journal.waiting(1, Waiting("for something"))
    (stage,) = life.store.glance(life.record).stages
    assert stage.done is False
    assert stage.waiting == Waiting("for something")


def test_what_a_run_waits_for_is_told_while_somebody_drives_it(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(1) + "operations: [sync, fire]\n")
    wait = Waiting("for noon", "held", "o/r0", 1.0, 2.0, 3.0, 4)
    life.journal.waiting(1, Waiting("for a while"))
    life.journal.waiting(2, wait)
    assert [stage.waiting for stage in life.store.glance(life.record).stages] == [None, wait]
    (line,) = life.store.runs()
    assert line.waiting == wait
    change_leases(life.store, "expires_at = 0, machine = 'elsewhere'")
    assert [stage.waiting for stage in life.store.glance(life.record).stages] == [None, None]
    assert [one.waiting for one in life.store.runs()] == [None]


def test_a_run_is_driven_until_now_unless_it_is_left_to_the_workers_or_over(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, repos(1) + SYNC)
    life.journal.drive()
    life.clock.now += 5
    life.journal.keep_lease()
    life.clock.now += 5
    assert life.store.glance(life.record).driven.seconds == 10
    life.store.park(life.journal._lease, life.began + 7, "somebody")
    assert life.store.glance(life.record).driven.seconds == 7
    life.journal = reopen(life.store, life.plan)
    life.journal.end("completed")
    assert life.store.glance(life.record).driven.seconds == 7


DRAIN = """\
  drain:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    until: {query: backlog, expect: {column: pending, at_most: 0}}
"""


def test_a_stage_that_is_sent_until_a_goal_holds_is_done_when_it_was_reached(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, f"{repos(2)}operations: [drain]\n", catalog=CATALOG + DRAIN)
    begun = Round(1, 1, 0, 2, 9.0, life.began)
    life.journal.begin_round(life.plan, begun, {})
    life.take(1, range(2))
    for position in range(2):
        life.see(position, "completed")
    (stage,) = life.store.glance(life.record).stages
    assert (stage.rounds, stage.done) == ((begun,), False), "another round may follow"
    life.journal.reach(1, 0.0)
    (stage,) = life.store.glance(life.record).stages
    assert (stage.rounds, stage.done) == ((begun,), True)


def test_runs_are_listed_the_latest_first_with_how_far_they_have_come(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(3) + SYNC)
    life.take(1, range(2))
    life.see(0, "completed")
    life.see(1, "failed", "no")
    life.journal.end("failed")
    life.clock.now += 1
    let_go(life.store)
    retry = start_journal(life.store, life.plan, "RUN2", parent="RUN1")
    second, first = life.store.runs()
    assert (first.record.id, first.state, first.holder) == ("RUN1", "failed", None)
    assert (first.sent, first.outcomes) == (2, {"completed": 1, "failed": 1})
    assert (first.retries, second.retries) == (("RUN2",), ())
    assert (second.record.id, second.state, second.record.parent) == ("RUN2", "running", "RUN1")
    assert (second.sent, second.outcomes, second.now) == (0, {}, life.clock.now)
    assert second.holder
    assert life.store.glance(life.store.find("RUN1")).retries == ("RUN2",)
    retry.end("completed")
    assert [line.holder for line in life.store.runs()] == [None, None]


def test_a_run_that_nobody_drives_is_told_with_since_when(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(1) + SYNC)
    view = life.store.glance(life.record)
    assert (view.silent, view.submission) == (None, None)
    assert life.store.run_state("RUN1").silent is None
    assert view.holder
    change_leases(life.store, "expires_at = 50, machine = 'elsewhere'")
    view = life.store.glance(life.record)
    assert (view.holder, view.state) == (None, "dead")
    assert view.silent is not None
    assert view.silent < 50
    assert life.store.run_state("RUN1").silent == view.silent


def test_failures_that_are_alike_are_one_group_the_largest_first(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(12) + SYNC)
    life.take(1, range(12))
    life.see(0, "timed_out", "o/r0 took 5s", jobs=[replace(GOES_ON, id="a")])
    life.see(1, "completed")
    for number in range(2, 9):
        jobs = [replace(DONE, id=f"d{number}"), replace(FAILED, id=f"f{number}", url=f"u{number}")]
        life.see(number, "failed", f"no o/r{number} at line {number}", jobs=jobs)
    life.see(9, "failed", "another of o/r9")
    life.see(10, "cancelled")
    life.see(11, "failed", "another of o/r11")
    assert life.store.glance(life.record).failures == (
        FailureGroup(
            "sync",
            "failed",
            "no {item} at line 2",
            7,
            ("o/r2", "o/r3", "o/r4", "o/r5", "o/r6"),
            "f2",
            "u2",
        ),
        FailureGroup("sync", "failed", "another of {item}", 2, ("o/r9", "o/r11"), None, None),
        FailureGroup("sync", "timed_out", "o/r0 took 5s", 1, ("o/r0",), "a", None),
        FailureGroup("sync", "cancelled", "cancelled", 1, ("o/r10",), None, None),
    )


def test_of_very_many_kinds_of_failures_the_first_fifty_are_told(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(51) + SYNC)
    life.take(1, range(51))
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(51):
        life.see(number, "failed", f"the {letters[number % 26]}{letters[number // 26]} kind")
    groups = life.store.glance(life.record).failures
    assert [group.items for group in groups] == [(f"o/r{number}",) for number in range(50)]


def test_batches_are_told_once_they_were_taken_with_what_came_of_them(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    assert list(life.store.story(life.record).batches) == [
        SentBatch(1, 0, 1, life.began, 3, 1, 1),
        SentBatch(1, 0, 2, life.began + 5, 3, 0, 2),
    ]


def test_a_batch_of_several_requests_is_told_at_the_last_of_them(tmp_path: Path) -> None:
    life = Life(tmp_path, BODY)
    life.take(1, range(2), 1)
    life.take(1, range(2, 3), 1, after=7)
    batch = SentBatch(1, 0, 1, life.began + 7, 3, 0, 0)
    assert list(life.store.story(life.record).batches) == [batch]


def test_rounds_have_batches_of_their_own(tmp_path: Path, state: str) -> None:
    """The batches of three rounds used to be one, shown at the time of the last, after the
    failures."""
    life = Life(tmp_path, BODY)
    for number, after in ((1, 0), (2, 7)):
        begun = Round(1, number, number - 1, 1, None, life.began + after)
        life.journal.begin_round(life.plan, begun, {})
        life.take(1, range(number - 1, number), 1, after=after)
    assert list(life.store.story(life.record).batches) == [
        SentBatch(1, 1, 1, life.began, 1, 0, 0),
        SentBatch(1, 2, 1, life.began + 7, 1, 0, 0),
    ]
    assert life.store.glance(life.record).stages[0].batches == 2


def test_an_event_that_was_sent_is_in_the_batch_it_was_sent_with(tmp_path: Path) -> None:
    """A round begins within a batch of the plan, and a tuned pace has larger ones: the list of
    events said otherwise than the log."""
    life = Life(tmp_path, BODY)
    life.take(1, range(1), 1)
    life.take(1, range(1, 5), 2, after=7)
    events = life.store.events(life.record)
    assert [event.batch for event in events][:7] == [1, 2, 2, 2, 2, 2, 3]
    assert life.store.glance(life.record).stages[0].batches == 2


def test_the_story_names_the_events_that_were_lost(tmp_path: Path) -> None:
    life = mixed(tmp_path)
    story = life.store.story(life.record)
    assert [event.position for event in story.failures] == [1, 3, 5]
    assert [job.id for job in story.failures[0].jobs] == ["j2", "j4"]


def test_what_was_noted_and_waited_for_is_kept_in_order(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(1) + SYNC, source="the plan")
    life.journal.note("one")
    life.journal.waiting(1, Waiting("for a pause"))
    life.clock.now += 5
    life.journal.waiting(1, None)
    life.journal.note("two")
    view = life.store.view(life.record)
    assert view.notes == (Note(life.began, "one"), Note(life.began + 5, "two"))
    assert view.waits == (Waited(1, "held", "for a pause", life.began, life.began + 5),)
    assert view.source == "the plan"


GOOD, BAD = True, False


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(0.0, GOOD)],
        [(0.0, GOOD), (0.0, BAD), (0.004, GOOD)],
        [(0.3, GOOD), (0.3, GOOD), (0.0, BAD), (0.3, BAD)],
        [(7.0, GOOD), (0.3, BAD), (0.0, GOOD), (7.0, GOOD), (7.0, BAD)],
    ],
)
def test_the_rates_of_a_run_count_each_event_when_it_was_sent_and_when_it_ended(
    tmp_path: Path, steps: list[tuple[float, bool]]
) -> None:
    life = Life(tmp_path, repos(5) + SYNC)
    sent, good, lost = list[float](), list[float](), list[float]()
    for number, (after, completes) in enumerate(steps):
        life.take(1, [number], after=after)
        sent.append(life.clock.now)
        life.see(number, "completed" if completes else "failed", after=after)
        (good if completes else lost).append(life.clock.now)
    rates = life.store.view(life.record).rates
    moments = [*sent, *good, *lost]
    if not moments:
        assert rates == ()
        return
    begin, width = min(moments), max(0.05, (max(moments) - min(moments)) / 120)
    places = range(int((max(moments) - begin) / width) + 1)
    assert len(places) <= 121
    counts = [Counter(int((at - begin) / width) for at in one) for one in (sent, good, lost)]
    assert [one[1:] for one in rates] == [tuple(one[place] for one in counts) for place in places]
    begins = [one.at - begin for one in rates]
    assert begins == pytest.approx([place * width for place in places], abs=1e-6)


CHECK = CheckResult("c", "end", None, ok=True, expected="1", seen="1")
CHANGES: dict[str, Callable[[Life], object]] = {
    "a request": lambda life: life.begin(1, range(2)),
    "a note": lambda life: life.journal.note("a note"),
    "a wait": lambda life: life.journal.waiting(1, Waiting("for a pause")),
    "an answer": lambda life: life.journal.remember("a", 1),
    "a check": lambda life: life.journal.keep_check(CHECK),
    "a pause": lambda life: life.store.request_pause("RUN1"),
    "its end": lambda life: life.journal.end("completed"),
    "a death": lambda life: change_leases(life.store, "expires_at = 0, machine = 'elsewhere'"),
    "time": lambda life: setattr(life.clock, "now", life.clock.now + 15),
}
OF_ALL = {"a request", "a wait", "a pause", "its end", "time"}


@pytest.mark.parametrize("change", CHANGES)
def test_the_mark_of_a_run_changes_with_all_that_is_shown_of_it(
    tmp_path: Path, change: str
) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    run, every = life.store.mark(life.record), life.store.mark(None)
    assert (run, every) == (life.store.mark(life.record), life.store.mark(None))
    CHANGES[change](life)
    assert life.store.mark(life.record) != run
    assert (life.store.mark(None) != every) is (change in OF_ALL)


def test_the_mark_changes_with_each_answer_each_end_and_each_try_of_a_wait(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    marks = []
    for step in (
        lambda: life.begin(1, range(2)),
        lambda: life.answer(life.chunks[0]),
        lambda: life.see(0, "completed"),
        lambda: life.see(1, "failed", "no"),
        lambda: life.journal.waiting(1, Waiting("it is away", "away", tries=1)),
        lambda: life.journal.waiting(1, Waiting("it is away", "away", tries=2)),
        lambda: life.journal.waiting(1, None),
    ):
        step()
        marks.append((life.store.mark(life.record), life.store.mark(None)))
    assert len({run for run, _ in marks}) == len({every for _, every in marks}) == len(marks)


def test_the_mark_of_what_goes_on_changes_every_fifteen_seconds(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    life.clock.now = 1_500_000_000.0
    before = life.store.mark(life.record)
    life.clock.now += 14.9
    assert life.store.mark(life.record) == before
    life.clock.now += 0.1
    assert life.store.mark(life.record) != before


def test_the_mark_of_what_is_over_rests(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    life.journal.end("completed")
    before = life.store.mark(life.record), life.store.mark(None)
    life.clock.now += 1_000
    assert (life.store.mark(life.record), life.store.mark(None)) == before
