"""What is recorded of requests and their answers, and which of them a resumed run finds open."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.execution.ports import Answer, Latest, Unsettled
from runner.execution.recover import figures_so_far
from runner.execution.seeds import internal_ids
from runner.model import UNDECIDED, Job, JobLink, Outcome
from tests.adapters.journal.lives import Life, seed_of
from tests.support import lines_of, repos

SYNC = "operations: [sync]\n"
BOTH = "operations: [sync, fire]\n"
GOES_ON = Job("j1", "f", "Running", ended=False)
DONE = Job("j2", "f", "Completed", ended=True)
FAILED = Job("j3", "f", "FAILED", ended=True, url="http://x/j3")


def ids(of: int, count: int) -> list[str]:
    return internal_ids(seed_of(of), range(count))


def test_what_was_taken_refused_and_sent_again_is_counted_apart(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(9) + SYNC)
    life.take(1, range(3), resent=True)
    life.take(1, range(3, 6), refused="bad", resent=True)
    life.take(1, range(6, 8), refused="bad")
    life.begin(1, [8])
    life.see(0, "completed", jobs=[DONE])
    life.see(1, "failed", jobs=[FAILED, DONE])
    totals = life.journal.totals()
    assert (totals.planned, totals.accepted, totals.rejected) == (9, 6, 2)
    assert totals.deduplicated == 3 + 2
    assert (totals.completed, totals.failed, totals.jobs) == (1, 1, 2)
    assert {stage: one.lost for stage, one in life.journal.by_stage().items()} == {1: 3}


def test_without_any_request_every_figure_is_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    totals = life.journal.totals()
    assert (totals.planned, totals.sent, totals.deduplicated, totals.jobs) == (2, 0, 0, 0)
    assert (life.journal.latest(), life.journal.next_position(), life.journal.next_chunk()) == (
        None,
        0,
        0,
    )
    assert (life.journal.by_stage(), life.journal.links(5)) == ({}, [])


def test_a_run_goes_on_after_its_last_request(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(5) + BOTH)
    life.take(1, range(5))
    life.take(2, range(5, 7), after=3)
    assert life.journal.latest() == Latest(2, life.clock.now, life.began)
    assert (life.journal.next_position(), life.journal.next_chunk()) == (7, 2)


def test_after_an_event_that_was_refused_the_next_one_is_sent(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(5) + SYNC)
    chunk = life.begin(1, range(5))
    life.journal.accept(chunk, Answer(tuple(ids(0, 2)), "bad"))
    assert life.journal.next_position() == 3
    assert life.journal.unanswered() == []
    assert [one.position for one in life.journal.unsettled()] == [0, 1]


def test_what_was_taken_and_has_not_ended_is_open(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(5) + SYNC)
    first, second = life.take(1, range(3)), life.take(1, range(3, 5), after=7)
    life.see(0, "completed", jobs=[DONE])
    life.see(1, None, jobs=[GOES_ON, DONE])
    life.see(4, "failed")
    assert life.journal.unsettled() == [
        Unsettled(1, 0, ids(0, 3)[1], first.sent_at),
        Unsettled(2, 0, ids(0, 3)[2], first.sent_at),
        Unsettled(3, 1, ids(1, 2)[0], second.sent_at),
    ]
    assert {at: [job.id for job in jobs] for at, jobs in life.journal.going_on().items()} == {
        1: ["j1", "j2"]
    }


@pytest.mark.parametrize("odd", [[0], [2], [0, 1, 2], []])
def test_the_servers_ids_count_where_they_are_not_those_of_the_seed(
    tmp_path: Path, odd: list[int]
) -> None:
    life = Life(tmp_path, repos(3) + SYNC)
    answered = [f"01ODD{at}" if at in odd else id_ for at, id_ in enumerate(ids(0, 3))]
    life.journal.accept(life.begin(1, range(3)), Answer(tuple(answered)))
    life.journal.settle()
    assert [one.internal_id for one in life.journal.unsettled()] == answered


def test_an_answer_to_a_request_that_was_withdrawn_is_open_to_nobody(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    chunk = life.begin(1, range(2))
    (open_,) = life.journal.unanswered()
    assert (open_.number, open_.stage, open_.batch, open_.seed) == (0, 1, 1, chunk.seed)
    assert ([*open_.positions], open_.started_again) == ([0, 1], False)
    life.journal.withdraw(chunk)
    assert (life.journal.unanswered(), life.journal.next_position()) == ([], 0)


def test_the_last_end_of_a_stage_is_that_of_its_own_events(tmp_path: Path) -> None:
    """What is still open counts as sent, and a stage that is not sent whole has its last end to
    come."""
    life = Life(tmp_path, repos(3) + BOTH)
    life.take(1, range(3))
    life.see(0, "completed")
    first = life.clock.now
    life.see(1, "failed", after=5)
    life.take(2, range(3, 5), after=3)
    life.see(3, "completed", after=2)
    ends = [life.journal.last_end(stage) for stage in (1, 2)]
    assert ends == [first + 5, first + 10]
    found = figures_so_far(life.plan, life.journal)
    assert [found[stage].ended for stage in (1, 2)] == [first + 5, None]
    assert found[2] == life.journal.by_stage()[2]


def lost_with_its_server(folder: Path) -> Life:
    """Two of five events had ended when the target died with its jobs: the others are sent
    again."""
    life = Life(folder, repos(5) + SYNC)
    life.take(1, range(5))
    life.see(1, "completed", jobs=[DONE])
    life.see(2, None, jobs=[GOES_ON])
    life.see(3, "failed", jobs=[FAILED])
    life.journal.requeue(lambda: seed_of(7))
    return life


def test_only_what_had_not_ended_is_started_again_and_only_its_jobs_are_forgotten(
    tmp_path: Path,
) -> None:
    life = lost_with_its_server(tmp_path)
    (open_,) = life.journal.unanswered()
    assert ([*open_.positions], open_.started_again, open_.seed) == ([0, 2, 4], True, seed_of(7))
    assert life.journal.unsettled() == []
    assert life.journal.totals().jobs == 2
    assert life.journal.by_stage()[1].sent == 2


def again(life: Life) -> None:
    """Repeat the request, with the events that are open."""
    chunk = life.chunks[0]
    open_ = life.journal.unanswered()[0].positions
    life.chunks[0] = type(chunk)(
        chunk.number,
        chunk.stage,
        chunk.batch,
        chunk.operation,
        chunk.event,
        seed_of(7),
        b"[]",
        open_,
        lines_of(open_),
        chunk.sent_at,
        chunk.base,
    )


def test_events_that_are_started_again_have_the_ids_of_their_own_request(tmp_path: Path) -> None:
    life = lost_with_its_server(tmp_path)
    again(life)
    life.answer(life.chunks[0], resent=True)
    found = [(one.position, one.internal_id) for one in life.journal.unsettled()]
    assert found == list(zip([0, 2, 4], ids(7, 3), strict=True))
    totals = life.journal.totals()
    assert (totals.accepted, totals.deduplicated) == (5, 0), "they were taken anew"
    assert life.journal.by_stage()[1].lost == 1


def test_after_one_that_is_refused_as_it_is_started_again_the_others_are_still_to_be_sent(
    tmp_path: Path,
) -> None:
    life = lost_with_its_server(tmp_path)
    again(life)
    life.journal.accept(life.chunks[0], Answer(tuple(ids(7, 1)), "bad"))
    (open_,) = life.journal.unanswered()
    assert [*open_.positions] == [0, 4], "the answer of the first is not known to be the last"
    assert life.journal.totals().rejected == 1
    assert life.journal.next_position() == 5


@pytest.mark.parametrize("outcome", ["completed", "failed", "no_job", *sorted(UNDECIDED)])
def test_what_was_given_up_is_looked_at_again_and_nothing_else(
    tmp_path: Path, outcome: Outcome
) -> None:
    life = Life(tmp_path, repos(2) + SYNC)
    life.take(1, range(2))
    life.see(0, "failed")
    life.see(1, outcome)
    life.journal.reopen_undecided()
    reopened = outcome in UNDECIDED
    assert [one.position for one in life.journal.unsettled()] == ([1] if reopened else [])
    figures = life.journal.by_stage()[1]
    assert figures.lost == 1 + (outcome != "completed") - reopened


def test_a_failure_is_told_with_its_own_id_its_first_job_that_failed_and_why(
    tmp_path: Path,
) -> None:
    use = "{use: sync, id: 'own-{{ repo.name }}'}"
    life = Life(tmp_path, f"{repos(3)}operations: [fire, {use}]\n")
    assert [stage.operation for stage in life.plan.stages] == ["fire", "sync"]
    life.take(1, range(3))
    life.take(2, range(3, 6))
    life.see(4, "failed", jobs=[DONE, FAILED])
    life.see(2, "timed_out", "it took too long", jobs=[GOES_ON])
    fire, sync = life.journal.failures()
    assert (fire.item, fire.message, fire.event_id, fire.job) == (
        "o/r2",
        "it took too long",
        "RUN1:fire:o/r2",
        "j1",
    )
    assert (fire.event, fire.outcome) == ("app/fire", "timed_out")
    assert (sync.item, sync.message, sync.event_id, sync.job, sync.url) == (
        "o/r1",
        "failed",
        "own-r1",
        "j3",
        "http://x/j3",
    )


def test_links_are_those_of_the_first_jobs(tmp_path: Path) -> None:
    life = Life(tmp_path, repos(3) + SYNC)
    life.take(1, range(3))
    life.see(2, "failed", jobs=[FAILED])
    life.see(0, "completed", jobs=[DONE])
    assert life.journal.links(1) == [JobLink("j2", "sync", "o/r0")]
    assert life.journal.links(5)[1:] == [JobLink("http://x/j3", "sync", "o/r2")]
