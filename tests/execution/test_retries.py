"""Retries know events by their ids: two events of one item are two units of work."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.adapters.journal import answers, requests
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.execution.ports import Answer
from runner.execution.progress import summarise
from runner.model import (
    FAILURES,
    RETRIED,
    BoundQuestion,
    CheckResult,
    ExecutionPlan,
    Expect,
    Outcome,
    Query,
    Round,
    Summary,
    Until,
)
from runner.planning.limits import retries, what_is_left
from runner.planning.parts import subset
from runner.planning.serialize import dump_head
from tests.depth import depth, some
from tests.faults.schedules import attempt
from tests.support import (
    CATALOG,
    ORIGIN,
    REQUEST,
    StandIn,
    let_go,
    lines_of,
    make_plan,
    new_store,
    repos,
    start_journal,
)

pytestmark = pytest.mark.usefixtures("state")

ALL: tuple[Outcome, ...] = ("failed", "cancelled", "no_job", "rejected")
TWICE = CATALOG.replace("done: completed}", "done: completed, repeat: 2}")


class Family:
    """A run and its retries. `coming`: the outcomes of the next events, in sending order."""

    def __init__(self, folder: Path, items: int = 1) -> None:
        body = repos(items) + "operations: [sync]\non_failure: continue\n"
        self.plan = make_plan(folder, body, catalog=TWICE)
        self.store: Store = new_store(folder)
        self.server = StandIn(fate=self._fate)
        self.coming: list[str] = []
        self._fates: dict[str, str] = {}

    def _fate(self, event: dict[str, Any]) -> str:
        known = self._fates
        if event["id"] not in known:
            known[event["id"]] = self.coming.pop(0) if self.coming else "completed"
        return known[event["id"]]

    def run(self, *coming: str, origins: dict[int, int] | None = None) -> Summary:
        """Drive the first run. `origins`: events that are another attempt at earlier work, as in a
        drain."""
        return self._drive(self.plan, "RUN1", coming, origins=origins)

    def retry(self, of: str, run: str, kinds: Sequence[Outcome], *coming: str) -> Summary | None:
        """Retry; return None if there is nothing to retry."""
        record = self.store.find(of)
        found = self.store.retriable(record, kinds, ())
        if not found:
            return None
        part = subset(self.store.plan_of(record), found)
        return self._drive(part, run, coming, of, dict(enumerate(found.values())))

    def left(self, of: str = "RUN1") -> int:
        return len(self.store.retriable(self.store.find(of), ALL, ()))

    def is_done(self) -> bool:
        (first,) = self.store.ledger(self.plan.name, ORIGIN)
        return first.done

    def begin(
        self,
        plan: ExecutionPlan,
        run: str,
        parent: str | None = None,
        origins: dict[int, int] | None = None,
    ) -> JournalWriter:
        let_go(self.store)
        return start_journal(self.store, plan, run, parent=parent, origins=origins or {})

    def _drive(
        self,
        plan: ExecutionPlan,
        run: str,
        coming: Sequence[str],
        parent: str | None = None,
        origins: dict[int, int] | None = None,
    ) -> Summary:
        self.coming = list(coming)
        journal = self.begin(plan, run, parent, origins)
        ending = attempt(self.server, plan, journal, int(run.removeprefix("RUN")))
        assert ending
        summary = summarise(journal, plan=plan.name, target="t", followed=True, ending=ending)
        journal.end(summary.status)
        return summary


@pytest.mark.parametrize(("one", "other"), some(itertools.permutations(ALL, 2), 3))
def test_two_events_of_one_item_are_retried_each_by_its_own_outcome(
    tmp_path: Path, one: Outcome, other: Outcome
) -> None:
    family = Family(tmp_path)
    first = family.run(one, other)
    assert (first.status, first.totals.planned) == ("failed", 2)
    assert (getattr(first.totals, one), getattr(first.totals, other)) == (1, 1)
    second = family.retry("RUN1", "RUN2", [one])
    assert second
    assert (second.status, second.totals.planned) == ("completed", 1)
    assert not family.is_done(), "the other event is still not good"
    third = family.retry("RUN1", "RUN3", [other])
    assert third
    assert (third.status, third.totals.planned) == ("completed", 1)
    assert third.chain
    assert (third.chain.totals.completed, third.chain.outstanding) == (2, 0)
    assert family.is_done()
    assert family.retry("RUN1", "RUN4", ALL) is None


@pytest.mark.parametrize("bad", ALL)
def test_after_a_retry_that_succeeded_in_part_only_the_rest_is_sent(
    tmp_path: Path, bad: Outcome
) -> None:
    family = Family(tmp_path, items=3)
    family.run(*[bad] * 6)
    second = family.retry("RUN1", "RUN2", ALL, "completed", bad, bad, "completed", bad, "completed")
    assert second
    assert second.chain
    assert (second.chain.totals.planned, second.chain.totals.completed) == (6, 3)
    assert getattr(second.chain.totals, bad) == 3
    assert second.chain.totals.accepted == (3 if bad == "rejected" else 6)
    assert family.left("RUN1") == family.left("RUN2") == 3
    third = family.retry("RUN2", "RUN3", ALL, bad)
    assert third
    assert third.totals.planned == 3
    assert family.left("RUN1") == family.left("RUN2") == family.left("RUN3") == 1
    fourth = family.retry("RUN1", "RUN4", ALL)
    assert fourth
    assert fourth.chain
    assert (fourth.totals.planned, fourth.chain.outstanding) == (1, 0)
    assert family.is_done()
    assert [family.left(run) for run in ("RUN1", "RUN2", "RUN3", "RUN4")] == [0] * 4
    assert len(family.server.effects) == len(set(family.server.effects))


def test_a_failure_that_a_retry_made_good_is_no_failure_of_the_run_any_more(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.run("failed")
    family.retry("RUN1", "RUN2", ALL)
    journal = family.store.reading(family.store.find("RUN1"))
    assert journal.failures() == []
    assert journal.made_good() == {1: 1}
    view = family.store.glance(family.store.find("RUN1"))
    assert (view.outcomes, view.outstanding) == ({"failed": 1}, 0)


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_a_run_says_to_retry_what_a_retry_would_send(tmp_path: Path, outcome: Outcome) -> None:
    family = Family(tmp_path)
    family.run("failed")
    with family.store._database.write() as connection:
        given = {"outcome": outcome}
        connection.change(
            "UPDATE outcomes SET outcome = :outcome WHERE outcome = 'failed'", **given
        )

    def told() -> list[str]:
        view = family.store.glance(family.store.find("RUN1"))
        return [command for _, command, _ in retries("RUN1", view.left)]

    def sent(kinds: Collection[Outcome]) -> int:
        return len(family.store.retriable(family.store.find("RUN1"), kinds, ()))

    assert ("backfill retry RUN1" in told()) is bool(sent(RETRIED))
    assert ("backfill retry RUN1 --dropped" in told()) is bool(sent(["dropped"]))
    family.retry("RUN1", "RUN2", [outcome])
    assert told() == []


def started(family: Family, status: str, *coming: str) -> Summary:
    """Drive a run, and set the status that it ended with."""
    summary = family.run(*coming)
    with family.store._database.write() as connection:
        connection.change("UPDATE runs SET status = :status", status=status)
    return summary


@pytest.mark.parametrize(
    ("status", "done"),
    [("completed", True), ("running", False), ("sent", False), ("failed", False)],
)
def test_a_run_without_retries_is_done_where_it_has_completed(
    tmp_path: Path, status: str, done: bool
) -> None:
    family = Family(tmp_path)
    started(family, status, "failed")
    assert family.is_done() is done
    family.retry("RUN1", "RUN2", ALL)
    with family.store._database.write() as connection:
        connection.change("UPDATE runs SET status = :status WHERE id = 'RUN1'", status=status)
    assert family.is_done() is (status in ("completed", "failed"))


CHECKED = "checks: [{name: c, query: q, expect: {column: n, at_least: 5}}]\n"


@pytest.mark.parametrize(
    ("results", "done"),
    [([], False), ([False], False), ([True], True), ([True, False], False), ([False, True], True)],
)
def test_work_that_retries_have_done_is_proved_by_the_check_that_was_asked_last(
    tmp_path: Path, results: Sequence[bool], done: bool
) -> None:
    family = Family(tmp_path)
    body = f"{repos(1)}operations: [sync]\non_failure: continue\n{CHECKED}"
    family.plan = make_plan(tmp_path, body, catalog=TWICE)
    family.run("failed")
    family.retry("RUN1", "RUN2", ALL)
    for run, ok in zip(("RUN1", "RUN2"), results, strict=False):
        result = CheckResult("c", "end", None, ok=ok, expected="", seen="")
        with family.store._database.write() as connection:
            answers.keep_check(connection, run, result)
    assert family.is_done() is done


@dataclass
class _Known:
    """What is known from outside: the work of each run's events, and their outcomes."""

    units: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, list[str]] = field(default_factory=dict)

    def add(self, run: str, units: Sequence[int], ended: Sequence[str]) -> None:
        self.units[run], self.ended[run] = list(units), list(ended)

    @property
    def latest(self) -> dict[int, str]:
        return {
            unit: outcome
            for run, units in self.units.items()
            for unit, outcome in zip(units, self.ended[run], strict=True)
        }

    def left(self, run: str, kinds: Sequence[str]) -> list[int]:
        """Return the work that a retry of the run would do."""
        last = {unit: at for at, unit in enumerate(self.units[run])}
        latest, ended = self.latest, self.ended[run]
        return [
            unit
            for unit, at in sorted(last.items(), key=itemgetter(1))
            if ended[at] in kinds and latest[unit] != "completed"
        ]

    def good(self, run: str) -> int:
        own = zip(self.units[run], self.ended[run], strict=True)
        latest = self.latest
        return sum(ended != "completed" and latest[unit] == "completed" for unit, ended in own)


@pytest.mark.parametrize("seed", range(depth(2, 60)))
def test_of_any_family_each_unit_of_work_is_as_its_last_attempt_came_to(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)  # noqa: S311
    family, known = Family(tmp_path, random.randint(1, 3)), _Known()
    count = family.plan.events
    coming = [random.choice([*ALL, "completed"]) for _ in range(count)]
    again = {at: 0 for at in range(1, count) if random.random() < 0.3}  # as in a drain
    units = [again.get(at, at) for at in range(count)]
    family.run(*coming, origins=again)
    known.add("RUN1", units, coming)
    count = len(set(units))
    for number in range(2, 6):
        of, run = random.choice([*known.units]), f"RUN{number}"
        kinds = random.sample(ALL, random.randint(1, len(ALL)))
        units = known.left(of, kinds)
        coming = [random.choice([*ALL, "completed"]) for _ in units]
        summary = family.retry(of, run, kinds, *coming)
        assert (summary is not None) is bool(units)
        if summary is None:
            continue
        known.add(run, units, coming)
        latest, chain = Counter(known.latest.values()), summary.chain
        assert chain
        assert {name: getattr(chain.totals, name) for name in latest} == dict(latest)
        assert chain.runs == tuple(known.units)
        totals, lost = chain.totals, count - latest["completed"]
        assert (totals.planned, totals.accepted) == (count, count - latest["rejected"])
        assert (chain.outstanding, family.is_done()) == (lost, not lost)
        for one in known.units:
            record = family.store.find(one)
            found = family.store.retriable(record, ALL, ())
            assert sorted(found.values()) == sorted(known.left(one, ALL))
            made_good = family.store.reading(record).made_good()
            assert sum(made_good.values()) == known.good(one)


@pytest.mark.parametrize("again", [{}, {2: 0}], ids=["once", "again"])
@pytest.mark.parametrize("stage", [1, 2])
def test_where_a_stage_has_reached_its_goal_all_its_work_is_done(
    tmp_path: Path, stage: int, again: dict[int, int]
) -> None:
    """The work of other stages has the outcome of its last attempts. `again`: the third event is
    another attempt at the work of the first."""
    family = Family(tmp_path)
    body = f"{repos(3)}operations: [sync, embed]\non_failure: continue\n"
    family.plan = make_plan(tmp_path, body)
    coming = ("failed", "completed", "failed", "failed", "completed", "completed")
    family.run(*coming, origins=again)
    with family.store._database.write() as connection:
        answers.reach(connection, "RUN1", stage, 0.0)
    assert family.left() == (1 if stage == 1 else 2 - len(again))
    journal = family.store.reading(family.store.find("RUN1"))
    assert journal.made_good() == {stage: 2 if stage == 1 else 1}
    second = family.retry("RUN1", "RUN2", ALL, "failed")
    assert second
    assert second.chain
    totals, units = second.chain.totals, 6 - len(again)
    assert (totals.planned, totals.accepted, totals.failed) == (units, units, 1)
    assert (totals.completed, second.chain.outstanding) == (units - 1, 1)


@pytest.mark.parametrize(
    ("deferred", "until", "reached", "begun", "done"),
    [
        (True, False, False, False, False),
        (True, False, False, True, True),
        (True, True, False, True, False),
        (True, True, True, False, False),
        (True, True, True, True, True),
    ],
)
def test_a_stage_that_is_resolved_when_it_starts_has_begun_and_reached_its_goal_once_done(
    tmp_path: Path, deferred: bool, until: bool, reached: bool, begun: bool, done: bool
) -> None:
    family = Family(tmp_path)
    family.run("failed")
    family.retry("RUN1", "RUN2", ALL)
    assert family.is_done()
    goal = Until(BoundQuestion(Query("q"), {}), Expect("n", at_most=0), 3, 9, 60.0)
    (stage,) = family.plan.stages
    plan = replace(
        family.plan, stages=(replace(stage, deferred=deferred, until=goal if until else None),)
    )
    with family.store._database.write() as connection:
        head = dump_head(plan)
        connection.change("UPDATE runs SET head = :head WHERE id = 'RUN1'", head=head)
        if begun:
            answers.begin_round(connection, "RUN1", plan, Round(1, 1, 0, 2, 2.0, 0.0), {})
        if reached:
            answers.reach(connection, "RUN1", 1, 0.0)
    assert family.is_done() is done


def test_an_event_that_a_later_round_made_good_is_no_failure_of_a_run_without_retries(
    tmp_path: Path,
) -> None:
    family = Family(tmp_path)
    family.run("failed", "completed", origins={1: 0})
    assert family.store.reading(family.store.find("RUN1")).made_good() == {1: 1}


def test_what_a_resumed_run_has_taken_up_again_is_retried_by_nobody(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.run("failed", "completed")
    with family.store._database.write() as connection:
        connection.change("UPDATE outcomes SET outcome = 'timed_out' WHERE outcome = 'failed'")
    assert family.retry("RUN1", "RUN2", ["timed_out"], "failed")
    assert (family.left("RUN1"), family.left("RUN2")) == (0, 1)
    with family.store._database.write() as connection:
        requests.reopen_undecided(connection, "RUN1")
    assert (family.left("RUN1"), family.left("RUN2")) == (0, 0)


@pytest.mark.parametrize(
    ("origins", "commands"),
    [
        ({0: 0}, ["backfill retry RUN1", "backfill status RUN2"]),
        ({0: 0, 1: 1}, ["backfill status RUN2"]),
    ],
)
def test_what_a_retry_still_has_to_do_is_not_said_to_be_retried(
    tmp_path: Path, origins: dict[int, int], commands: list[str]
) -> None:
    family = Family(tmp_path)
    family.run("failed", "failed")
    journal = family.begin(subset(family.plan, origins), "RUN2", "RUN1", origins)

    def said() -> list[str]:
        view = family.store.glance(family.store.find("RUN1"))
        return [command for _, command, _ in what_is_left(view)]

    assert said() == commands
    assert (family.left() > 0) is ("backfill retry RUN1" in commands)
    journal.end("cancelled")
    assert said() == ["backfill retry RUN1"]


def test_what_a_cancelled_retry_has_not_sent_is_still_to_be_retried(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.run("failed", "failed")
    journal = family.begin(family.plan, "RUN2", "RUN1", {0: 0, 1: 1})
    assert family.left() == 0, "it goes on"
    journal.end("cancelled")
    assert family.left() == 2


@pytest.mark.parametrize(
    ("target", "left", "first", "second"),
    [
        (ORIGIN, 0, ["backfill status RUN2"], ["backfill cancel RUN2 --jobs"]),
        ("embedded", 2, ["backfill retry RUN1"], []),
    ],
)
def test_what_a_cancelled_retry_has_sent_comes_to_an_end(
    tmp_path: Path, target: str, left: int, first: list[str], second: list[str]
) -> None:
    """It used to stay open forever: each surface named another command, and none of them helped."""
    family = Family(tmp_path)
    family.run("failed", "failed")
    journal = family.begin(family.plan, "RUN2", "RUN1", {0: 0, 1: 1})
    chunk = replace(REQUEST, positions=range(2), lines=lines_of(range(2)))
    journal.begin_chunk(chunk, journal.control())
    journal.accept(chunk, Answer(("0" * 25 + "1", "0" * 25 + "2")))
    journal.end("cancelled")
    with family.store._database.write() as connection:
        connection.change("UPDATE runs SET target = :target", target=target)

    def said(run: str) -> list[str]:
        view = family.store.glance(family.store.find(run))
        return [command for _, command, _ in what_is_left(view)]

    assert (family.left(), said("RUN1"), said("RUN2")) == (left, first, second)


def test_a_check_that_nobody_has_asked_does_not_hold(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.plan = make_plan(tmp_path, f"{repos(1)}operations: [sync]\n{CHECKED}", catalog=TWICE)
    family.run()
    assert family.store.unproved(family.store.find("RUN1")) == {"c": False}
