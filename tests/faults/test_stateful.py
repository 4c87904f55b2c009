"""Send, crash, resume, cancel and retry in any order: what took effect is always explained. The
same for drains: rounds until a backlog is empty."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.errors import BackfillError
from runner.execution.context import Ending
from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import OUTCOMES, ExecutionPlan, Json, Outcome, Query, Table
from runner.planning.parts import subset
from tests.depth import depth
from tests.execution.test_pacing import SameItems
from tests.faults.schedules import FAULTS, Crash, Mortal, attempt
from tests.support import (
    CATALOG,
    ORIGIN,
    StandIn,
    close_stores,
    connect,
    let_go,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

_KINDS: tuple[Outcome, ...] = ("failed", "cancelled", "no_job", "rejected")
_ITEMS, _REPEAT = 4, 2
_ALL = _ITEMS * _REPEAT
_FATES = st.sampled_from(["completed", "completed", "failed", "cancelled", "no_job", "rejected"])


class Runs(RuleBasedStateMachine):
    """A run whose items occur twice, and retries of any run of its family, some events at a time.

    An item needs two completed jobs, whichever events started them: it must never have more, and
    once nothing is open, the family's figures must say how many it has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        body = repos(_ITEMS) + "operations: [sync]\nbatch_size: 3\non_failure: continue\n"
        catalog = CATALOG.replace("done: completed}", f"done: completed, repeat: {_REPEAT}}}")
        self.plan = make_plan(self.folder, body, catalog=catalog)
        assert self.plan.events == _ALL
        self.store, self.server = new_store(self.folder), StandIn(fate=self.fate)
        self.fates: dict[str, str] = {}
        self.coming: list[str] = []
        self.ended: dict[str, str] = {}  # the status of each run
        self.open: str | None = None
        self.processes = count(1)  # two processes never make the same ids

    def fate(self, event: dict[str, Any]) -> str:
        """Decide once: a repeated request gets the same outcome."""
        return self.fates.setdefault(event["id"], self.coming.pop() if self.coming else "completed")

    @precondition(lambda self: not self.open and not self.ended)
    @rule()
    def start(self) -> None:
        let_go(self.store)
        start_journal(self.store, self.plan, "RUN1")
        self.open = "RUN1"

    @precondition(lambda self: self.open)
    @rule(
        seed=st.integers(0, 1 << 30),
        faulty=st.sampled_from([0.0, 0.3, 0.8]),
        deadly=st.sampled_from([0.0, 0.1]),
        coming=st.lists(_FATES, max_size=_ALL),
    )
    def carry_on(self, seed: int, faulty: float, deadly: float, coming: list[str]) -> None:
        random = Random(seed)  # noqa: S311 - hypothesis repeats it
        assert self.open
        self.coming = coming
        self.server.faults = [
            random.choice(FAULTS) if random.random() < faulty else None for _ in range(30)
        ]
        plan = self.store.plan_of(self.store.find(self.open))
        journal = reopen(self.store, plan, self.open)
        ending = attempt(self.server, plan, Mortal(journal, random, deadly), next(self.processes))
        if ending and ending.how == "complete":
            summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
            journal.end(summary.status)
            assert summary.status in ("completed", "failed")
            assert sum(summary.totals.outcomes.values()) == summary.totals.planned
            self.ended[self.open], self.open = summary.status, None

    @precondition(lambda self: self.open)
    @rule()
    def cancel(self) -> None:
        """Cancel as an operator does when no process is left."""
        assert self.open
        plan = self.store.plan_of(self.store.find(self.open))
        journal = reopen(self.store, plan, self.open)
        self.store.request_cancel(self.open)
        self.server.faults = []
        before = len(self.server.received)
        ending = attempt(self.server, plan, journal, next(self.processes))
        assert ending is None or ending.how == "cancelled"
        unanswered = before < len(self.server.received)
        assert not unanswered or journal.totals().deduplicated, "only lost requests go out again"
        journal.end("cancelled")
        self.ended[self.open], self.open = "cancelled", None

    @precondition(lambda self: self.ended and not self.open)
    @rule(
        choice=st.integers(0, 100),
        kinds=st.sets(st.sampled_from(_KINDS), min_size=1),
        item=st.sampled_from(["*", "o/r0", "o/r1"]),
    )
    def retry(self, choice: int, kinds: set[Outcome], item: str) -> None:
        of = sorted(self.ended)[choice % len(self.ended)]
        record = self.store.find(of)
        found = self.store.retriable(record, kinds, [item])
        if not found:
            return
        part = subset(self.store.plan_of(record), found)
        run_id = f"RUN{len(self.ended) + 1}"
        let_go(self.store)
        origins = dict(enumerate(found.values()))
        start_journal(self.store, part, run_id, parent=of, origins=origins)
        self.open = run_id

    @precondition(lambda self: self.ended and not self.open)
    @rule()
    def everything_that_failed_is_there_to_retry_until_it_is_good(self) -> None:
        if "cancelled" in self.ended.values():
            return  # what was not sent by then is given up for good
        found = self.store.retriable(self.store.find("RUN1"), _KINDS, ())
        assert len(found) == _ALL - self.good().total()

    @invariant()
    def nothing_takes_effect_twice(self) -> None:
        assert all(count == 1 for count in Counter(self.server.effects).values())
        assert all(count <= _REPEAT for count in self.good().values())

    @invariant()
    def the_familys_figures_are_those_of_the_work(self) -> None:
        if self.open or len(self.ended) < 2 or "cancelled" in self.ended.values():
            return
        chain = self.store.reading(self.store.find("latest")).chain()
        assert chain
        good = self.good().total()
        assert (chain.totals.planned, chain.totals.completed) == (_ALL, good)
        assert sum(chain.totals.outcomes.values()) == _ALL
        assert chain.outstanding == _ALL - good
        ledger = self.store.ledger(self.plan.name, ORIGIN)
        assert [run.done for run in ledger] == [good == _ALL]

    def good(self) -> Counter[str]:
        """Count the completed jobs by item."""
        done = (id_ for id_ in self.server.effects if self.fates[id_] == "completed")
        return Counter(id_.split(":")[2].partition("#")[0] for id_ in done)

    def teardown(self) -> None:
        close_stores()


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=depth(15, 100), stateful_step_count=25, deadline=None)


_BACKLOG = 7  # the number of jobs that must complete
DRAIN = """\
  drain:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    until: {query: backlog, stalled_after: 2, max_rounds: 6, expect: {column: pending, at_most: 0}}
"""


class Drains(RuleBasedStateMachine):
    """A drain whose jobs end in any way, whose process dies anywhere, and which is cancelled or
    given more rounds: it is done when its backlog is, and every event has one outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        body = repos(3) + "operations: [drain]\nbatch_size: 2\non_failure: continue\n"
        self.plan = make_plan(self.folder, body, catalog=CATALOG + DRAIN)
        self.store, self.server = new_store(self.folder), StandIn(fate=self.fate)
        self.fates: dict[str, str] = {}
        self.coming: list[str] = []
        self.ending: str | None = None
        self.more = 0  # how many more rounds it was given
        self.processes = count(1)
        let_go(self.store)
        start_journal(self.store, self.plan, "RUN1")

    def fate(self, event: dict[str, Any]) -> str:
        return self.fates.setdefault(event["id"], self.coming.pop() if self.coming else "completed")

    def left(self) -> int:
        return _BACKLOG - sum(self.fates[id_] == "completed" for id_ in self.server.effects)

    def drive(self, journal: Any, plan: ExecutionPlan) -> Ending | None:
        async def main() -> Ending:
            async with connect(self.server, journal, seed=next(self.processes)) as context:
                asked: Any = _Pending(self)
                context = replace(context, database=asked, resolver=SameItems(self.plan))
                return await execute(plan, context)

        try:
            return asyncio.run(main())
        except (BackfillError, Crash):
            return None

    @precondition(lambda self: self.ending in (None, "limit"))
    @rule(
        seed=st.integers(0, 1 << 30),
        faulty=st.sampled_from([0.0, 0.3, 0.8]),
        deadly=st.sampled_from([0.0, 0.1]),
        coming=st.lists(_FATES, max_size=9),
    )
    def carry_on(self, seed: int, faulty: float, deadly: float, coming: list[str]) -> None:
        random = Random(seed)  # noqa: S311 - hypothesis repeats it
        self.coming = coming
        self.server.faults = [
            random.choice(FAULTS) if random.random() < faulty else None for _ in range(30)
        ]
        plan = self.store.plan_of(self.store.find("RUN1"))
        if self.ending == "limit":  # as `resume --max-rounds` does
            self.more += 6
        (stage,) = plan.stages
        assert stage.until
        until = replace(stage.until, max_rounds=6 + self.more)
        plan = replace(plan, stages=(replace(stage, until=until),))
        journal = reopen(self.store, plan, "RUN1")
        ending = self.drive(Mortal(journal, random, deadly), plan)
        if ending is None:
            return
        summary = summarise(journal, plan="p", target="t", followed=True, ending=ending)
        journal.end(summary.status)
        self.ending = "limit" if ending.how == "limit" else summary.status
        assert sum(summary.totals.outcomes.values()) == summary.totals.planned
        assert (summary.status == "completed") == (self.left() <= 0), ending.reason
        assert summary.status == ("completed", "failed")[self.left() > 0] or ending.option

    @precondition(lambda self: self.ending is None)
    @rule()
    def cancel(self) -> None:
        plan = self.store.plan_of(self.store.find("RUN1"))
        journal = reopen(self.store, plan, "RUN1")
        self.store.request_cancel("RUN1")
        self.server.faults = []
        ending = self.drive(journal, plan)
        assert ending is None or ending.how in ("cancelled", "complete")
        journal.end("cancelled")
        self.ending = "cancelled"

    @rule()
    def look(self) -> None:
        """The figures of the stage are those of its events."""
        (stage,) = self.store.view(self.store.find("RUN1")).stages
        events = list(self.store.events(self.store.find("RUN1")))
        told = Counter(event.outcome for event in events if event.outcome in OUTCOMES)
        assert {name: n for name, n in stage.outcomes.items() if n} == told
        assert stage.running >= 0

    @invariant()
    def every_event_takes_effect_once_and_has_the_outcome_of_its_job(self) -> None:
        assert all(count == 1 for count in Counter(self.server.effects).values())
        for event in self.store.events(self.store.find("RUN1")):
            if event.outcome in OUTCOMES and event.event_id in self.fates:
                assert event.outcome == self.fates[event.event_id]

    @invariant()
    def rounds_follow_one_another_without_a_gap(self) -> None:
        rounds = self.store.view(self.store.find("RUN1")).stages[0].rounds
        ends = [one.first + one.events for one in rounds]
        assert [one.first for one in rounds[1:]] == ends[:-1]

    def teardown(self) -> None:
        close_stores()


@dataclass
class _Pending:
    """The user's database, which knows how many jobs have completed."""

    drain: Drains

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        return Table(("pending",), ((max(0, self.drain.left()),),))

    def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:  # noqa: ARG002
        return ()


TestDrains = Drains.TestCase
TestDrains.settings = settings(max_examples=depth(10, 100), stateful_step_count=15, deadline=None)
