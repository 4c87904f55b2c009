"""Checks within a run: when they are made, for how long, and what happens if the database is
away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import TargetDown
from runner.execution.check import QueryRunner
from runner.execution.context import Ending
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import DatabaseClock, ExecutionPlan, Json, Query, QueryRefused, Summary, Table
from tests.support import (
    FakeClock,
    Recorder,
    StandIn,
    connect,
    make_plan,
    new_store,
    repos,
    start_journal,
)

Answer = Json | Exception
AWAY = TargetDown("the database of X cannot be reached")
BODY = repos(2) + "operations: [sync, embed]\ndelay: 1s\nchecks:\n"


@dataclass
class Database:
    """Gives its answers in turn, the last one forever; None is no row."""

    answers: Sequence[Answer]
    events: Callable[[], int] = lambda: 0
    seen: list[int] = field(default_factory=list)  # how many events had been sent at each query

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        assert (query.ask, parameters) == ("q", {})
        answer = self.answers[min(len(self.seen), len(self.answers) - 1)]
        self.seen.append(self.events())
        if isinstance(answer, Exception):
            raise answer
        return Table(("n",), () if answer is None else ((answer,),))

    def clock(self, name: str | None) -> DatabaseClock:
        raise AssertionError(f"no time is compared in {name}")

    def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:
        assert (query.ask, parameters) == ("q", {})
        return ()


@dataclass
class Run:
    folder: Path
    plan: ExecutionPlan
    database: Database
    clock: FakeClock = field(default_factory=FakeClock)
    observer: Recorder = field(default_factory=Recorder)

    def __call__(self) -> Summary:
        server = StandIn()
        self.database.events = lambda: len(server.received)
        journal = start_journal(new_store(self.folder), self.plan)

        async def main() -> Ending:
            opened = connect(server, journal, clock=self.clock, observer=self.observer)
            async with opened as context:
                return await execute(self.plan, replace(context, database=self.database))

        ending = asyncio.run(main())
        return summarise(journal, plan="test", target="test", followed=True, ending=ending)


def run(folder: Path, check: str, *answers: Answer, body: str = BODY) -> tuple[Summary, Run]:
    plan = make_plan(folder, body + f"  - {{name: c, query: q, {check}}}\n")
    made = Run(folder, plan, Database(answers))
    return made(), made


ALLOW = "unchanged: allow, expect: {column: n, at_least: 5}"


def test_a_check_before_the_run_keeps_everything_from_being_sent(tmp_path: Path) -> None:
    summary, made = run(tmp_path, f"at: before, {ALLOW}", 4)
    assert (summary.status, summary.totals.accepted) == ("failed", 0)
    assert made.database.seen == [0]
    assert "a check before the run does not hold; nothing more was sent" in summary.notes


def test_a_check_after_a_stage_is_a_barrier_before_the_next(tmp_path: Path) -> None:
    """The check is repeated until it holds; only then does the next stage begin."""
    options = f"after: sync, timeout: 1m, every: 10s, {ALLOW}"
    summary, made = run(tmp_path, options, 1, 2, None, 5)
    assert summary.status == "completed"
    assert made.database.seen == [2, 2, 2, 2], "the second stage had not begun"
    assert made.clock.slept.count(10.0) == 3
    assert [(check.name, check.ok, check.seen) for check in summary.checks] == [("c", True, "n 5")]


@pytest.mark.parametrize(("on_failure", "sent"), [("stop", 2), ("continue", 4)])
def test_a_barrier_that_does_not_hold_in_its_time_ends_the_run_unless_the_plan_goes_on(
    tmp_path: Path, on_failure: str, sent: int
) -> None:
    body = BODY.replace("checks:", f"on_failure: {on_failure}\nchecks:")
    options = f"after: sync, timeout: 30s, every: 10s, {ALLOW}"
    summary, made = run(tmp_path, options, 1, body=body)
    assert (summary.status, summary.totals.accepted) == ("failed", sent)
    assert len(made.database.seen) == 4


def test_a_check_at_the_end_is_asked_when_everything_has_ended(tmp_path: Path) -> None:
    summary, made = run(tmp_path, ALLOW, 5)
    assert summary.status == "completed"
    assert made.database.seen == [4]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([None], "no data: the query gives no rows"),
        (["many"], "`n`"),
        ([QueryRefused("no such column: n")], "it cannot be asked: no such column: n"),
    ],
)
def test_nothing_and_an_error_are_no_figures(
    tmp_path: Path, answers: list[Any], words: str
) -> None:
    summary, _ = run(tmp_path, ALLOW, *answers)
    assert summary.status == "failed"
    assert words in str(summary.checks[0].message)


def test_the_figure_before_is_asked_before_anything_is_sent_and_compared(tmp_path: Path) -> None:
    summary, made = run(tmp_path, "expect: {column: n, increased: true}", 3, 3)
    assert made.database.seen == [0, 4]
    assert summary.status == "failed"
    assert "completed but nothing changed" in str(summary.checks[0].message)


def test_a_database_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    summary, made = run(tmp_path, ALLOW, AWAY, AWAY, 5)
    assert summary.status == "completed"
    told = f"asking the database: {AWAY}; trying again in "
    assert made.observer.notes[0].startswith(told)


def test_a_database_that_stays_away_ends_the_run_and_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(TargetDown):
        run(tmp_path, ALLOW, AWAY)


@dataclass
class Timed:
    """A database whose clock is `ahead` of the runner's, and whose rows were written, by its own
    clock, `late` seconds after the run began."""

    clock_: FakeClock
    ahead: float
    late: float
    names: list[str | None] = field(default_factory=list)
    started: list[Json] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock_.time() + self.ahead, UTC)

    def clock(self, name: str | None) -> DatabaseClock:
        self.names.append(name)
        self.began = self.now()
        return DatabaseClock(self.began.isoformat(), "UTC", 0.0, self.ahead)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        self.started.append(parameters["run_started_at"])
        at = (self.began + timedelta(seconds=self.late)).isoformat()
        return Table(("repo", "at"), (("o/r0", at), ("o/r1", at)))

    def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:
        raise AssertionError(f"no figure is 0 of {query.text} with {parameters}")


NEWER = """  - name: c
    after: sync
    query: {table: r, columns: [repo, at], where: {x: ":repos"}}
    expect: {column: at, newer_than: run.started_at}
"""


@pytest.mark.parametrize("ahead", [-3600.0, -20.0, 0.0, 20.0, 3600.0])
@pytest.mark.parametrize(("late", "status"), [(-1, "failed"), (0, "failed"), (1, "completed")])
def test_a_runner_ahead_or_behind_proves_neither_more_nor_less(
    tmp_path: Path, ahead: float, late: float, status: str
) -> None:
    made = Run(tmp_path, make_plan(tmp_path, BODY + NEWER), Database([]))
    made.database = database = Timed(made.clock, ahead, late)  # type: ignore[assignment]
    assert made().status == status
    assert database.names == [None], "once, as the run begins"
    assert set(database.started) == {database.began.isoformat()}


def test_a_resumed_run_keeps_the_start_that_its_database_told(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, BODY + NEWER)
    journal, clock = start_journal(new_store(tmp_path), plan), FakeClock()
    database, starts = Timed(clock, 20.0, 0.0), []
    for _ in range(2):
        questioner = QueryRunner(database, clock, asyncio.Event(), Recorder(), journal)
        asyncio.run(questioner.begin([], plan.checks))
        since = questioner.since(plan.checks[0].question)
        assert since is not None
        starts.append(since.at)
        asyncio.run(clock.sleep(60, asyncio.Event()))
    assert starts[0] == starts[1]
    assert database.names == [None]
