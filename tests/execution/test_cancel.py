"""What happens to the jobs of a cancelled run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from runner.execution.cancel import Cancelled, cancel_jobs
from runner.execution.ports import Answer, JobsApi, Observation
from runner.execution.recover import watched
from runner.model import QUEUE_TIMEOUT, Job
from runner.planning.event_blocks import EventBlocks, pack, with_own
from tests.support import REQUEST, lines_of, make_plan, new_store, repos, start_journal

IDS = tuple(f"{number:026d}" for number in range(1, 9))


def job(name: str, status: str = "Running", *, ended: bool = False) -> Job:
    return Job(name, "f", status, ended, "why" if status == "Failed" else None)


@dataclass
class Server:
    """The jobs of each event. `refuses`: jobs that it does not cancel, with its answer; `later`:
    the jobs as they are when it is polled again."""

    of: Mapping[str, Sequence[Job]]
    refuses: Mapping[str, str] = field(default_factory=dict)
    later: Mapping[str, Job] = field(default_factory=dict)
    batches: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    looked: int = 0

    async def jobs(self, internal_id: str) -> Sequence[Job]:
        self.looked += 1
        found = self.of.get(internal_id, ())
        return [self.later.get(one.id, one) if one.id in self.ended else one for one in found]

    async def batch(self, job_id: str) -> Sequence[str]:
        return self.batches.get(job_id, ())

    async def cancel(self, job_id: str) -> str | None:
        self.ended.append(job_id)
        return self.refuses.get(job_id)


def cancelled(
    folder: Path,
    server: Server,
    after: float = 0.0,
    later: float = 0.0,
    known: tuple[Job, ...] = (),
) -> tuple[Cancelled, list[tuple[str, str, Any]]]:
    """Return what cancelling gave, and the failures in the journal. `later`: seconds after the
    sending at which the jobs are to start; `known`: the jobs of the first event that the run has
    seen."""
    count = len(server.of)
    plan = make_plan(folder, repos(count) + "operations: [sync]\n")
    if later:
        (stage,) = plan.stages
        assert isinstance(stage.items, EventBlocks)
        ts = round((REQUEST.sent_at + later) * 1000)
        timed = [(item, with_own(data, ts=ts)) for item, data in stage.items.raw()]
        plan = replace(plan, stages=(replace(stage, items=pack(stage.event, timed)),))
    journal = start_journal(new_store(folder), plan)
    chunk = replace(REQUEST, positions=range(count), lines=lines_of(range(count)))
    journal.begin_chunk(chunk, journal.control())
    journal.accept(chunk, Answer(IDS[:count]))
    first = next(watched(plan, journal))
    journal.record([Observation(first, known)] if known else [])
    now = chunk.sent_at + after
    found = asyncio.run(cancel_jobs(plan, journal, cast(JobsApi, server), server, now))
    return found, [(one.item, one.outcome, one.message) for one in journal.failures()]


def test_each_job_that_goes_on_is_ended_and_those_that_had_ended_are_counted(
    tmp_path: Path,
) -> None:
    done, lost = job("c", "Completed", ended=True), job("d", "Failed", ended=True)
    server = Server({IDS[0]: [job("a"), job("b")], IDS[1]: [done], IDS[2]: [lost], IDS[3]: []})
    found, failures = cancelled(tmp_path, server)
    assert found == Cancelled(2, 2, 0, (), 1)
    assert server.ended == ["a", "b"]
    assert failures == [
        ("o/r0", "cancelled", "cancelled by an operator"),
        ("o/r2", "failed", "why"),
    ]
    assert server.looked == 4, "what was ended is not asked about again"


@pytest.mark.parametrize(
    ("after", "going_on", "ends"),
    [
        (job("b"), 1, []),
        (job("b", "Completed", ended=True), 0, []),
        (job("b", "Failed", ended=True), 0, ["failed"]),
        (job("b", "CANCELLED"), 0, []),  # its output has not arrived yet
    ],
)
def test_a_job_that_the_server_does_not_end_is_looked_at_again(
    tmp_path: Path, after: Job, going_on: int, ends: list[str]
) -> None:
    server = Server({IDS[0]: [job("a")], IDS[1]: [job("b")]}, {"b": "404"}, {"b": after})
    found, failures = cancelled(tmp_path, server)
    assert found == Cancelled(1, 1 - going_on, going_on, ("404",) * going_on, 0)
    assert [end for item, end, _ in failures if item == "o/r1"] == ends


def test_the_job_of_a_batch_is_ended_once_and_ends_all_of_its_events(tmp_path: Path) -> None:
    """The server names one event of each."""
    one = replace(job("a"), batch=True)
    server = Server({IDS[0]: [], IDS[1]: [one], IDS[2]: []}, batches={"a": [*IDS[:2], IDS[7]]})
    found, failures = cancelled(tmp_path, server)
    assert (found, server.ended) == (Cancelled(1, 0, 0, (), 1), ["a"])
    assert [item for item, *_ in failures] == ["o/r0", "o/r1"]


def test_a_job_that_the_run_has_seen_is_ended_though_the_server_names_another_event(
    tmp_path: Path,
) -> None:
    """That of a batch whose first event belongs to another run, or one that it has forgotten."""
    server = Server({IDS[0]: [], IDS[1]: []})
    found, failures = cancelled(tmp_path, server, known=(job("a"),))
    assert (found, server.ended) == (Cancelled(1, 0, 0, (), 1), ["a"])
    assert failures == [("o/r0", "cancelled", "cancelled by an operator")]


def test_a_job_that_goes_on_leaves_its_event_open_whatever_ended_beside_it(tmp_path: Path) -> None:
    server = Server({IDS[0]: [job("a"), job("b"), job("c")]}, {"b": "no", "c": "404"})
    found, failures = cancelled(tmp_path, server)
    assert found == Cancelled(1, 0, 2, ("404", "no"), 0)
    assert failures == []


@pytest.mark.parametrize(
    ("after", "later", "without", "ends"),
    [
        (QUEUE_TIMEOUT, 0.0, 2, []),
        (QUEUE_TIMEOUT + 1, 0.0, 0, ["no_job"] * 2),
        (QUEUE_TIMEOUT + 59, 60.0, 2, []),
        (QUEUE_TIMEOUT + 61, 60.0, 0, ["no_job"] * 2),
    ],
)
def test_a_job_that_has_not_started_in_its_time_is_not_waited_for(
    tmp_path: Path, after: float, later: float, without: int, ends: list[str]
) -> None:
    found, failures = cancelled(tmp_path, Server({IDS[0]: [], IDS[1]: []}), after, later)
    assert found == Cancelled(0, 0, 0, (), without)
    assert [outcome for _, outcome, _ in failures] == ends
