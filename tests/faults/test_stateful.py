"""Send, crash, resume, cancel and retry in any order: what took effect is always explained."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.adapters.journal.reader import JournalReader
from runner.execution.summary import summarise
from runner.model import Outcome
from runner.planning.subset import subset
from tests.depth import depth
from tests.faults.schedules import FAULTS, Mortal, attempt
from tests.support import (
    StandIn,
    close_stores,
    let_go,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

_KINDS: tuple[Outcome, ...] = ("failed", "cancelled", "timed_out", "no_job", "rejected")


class Runs(RuleBasedStateMachine):
    """One run at a time: carried on through faults until it ends, cancelled, or retried."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        body = repos(6) + "operations: [sync]\nbatch_size: 2\non_failure: continue\n"
        self.first = self.plan = make_plan(self.folder, body)
        self.store, self.server = new_store(self.folder), StandIn()
        self.number, self.status = 0, "none"

    @property
    def run_id(self) -> str:
        return f"RUN{self.number}"

    @precondition(lambda self: self.status == "none")
    @rule(failing=st.sets(st.sampled_from([f"o/r{n}" for n in range(6)]), max_size=3))
    def start(self, failing: set[str]) -> None:
        self.number, self.plan = self.number + 1, self.first
        self.server.failing = failing
        let_go(self.store)
        start_journal(self.store, self.plan, self.run_id)
        self.status = "open"

    @precondition(lambda self: self.status == "open")
    @rule(
        seed=st.integers(0, 1 << 30),
        faulty=st.sampled_from([0.0, 0.3, 0.8]),
        deadly=st.sampled_from([0.0, 0.1]),
    )
    def carry_on(self, seed: int, faulty: float, deadly: float) -> None:
        random = Random(seed)  # noqa: S311 - hypothesis repeats it
        self.server.faults = [
            random.choice(FAULTS) if random.random() < faulty else None for _ in range(30)
        ]
        journal = reopen(self.store, self.plan, self.run_id)
        ending = attempt(self.server, self.plan, Mortal(journal, random, deadly), seed)
        if ending and ending.how == "complete":
            summary = summarise(
                journal, plan="p", target="t", followed=True, ending=ending, duration=0
            )
            journal.end(summary.status)
            assert summary.status in ("completed", "failed")
            self.status = summary.status

    @precondition(lambda self: self.status == "open")
    @rule()
    def cancel(self) -> None:
        """As an operator does where no process is left."""
        journal = reopen(self.store, self.plan, self.run_id)
        self.store.request_cancel(self.run_id)
        self.server.faults = []
        before = len(self.server.received)
        ending = attempt(self.server, self.plan, journal, 1)
        assert ending is None or ending.how == "cancelled"
        unanswered = before < len(self.server.received)
        assert not unanswered or journal.totals().deduplicated, "only lost requests go out again"
        journal.end("cancelled")
        self.status = "none"

    @precondition(lambda self: self.status == "failed")
    @rule(mended=st.booleans())
    def retry(self, mended: bool) -> None:
        record = self.store.find(self.run_id)
        positions = self.store.failed_positions(record, _KINDS, ())
        assert len(positions) == len(self._journal().failures())
        self.plan, self.number = subset(self.plan, positions), self.number + 1
        self.server.failing = set() if mended else self.server.failing
        let_go(self.store)
        start_journal(self.store, self.plan, self.run_id)
        self.status = "open"

    @precondition(lambda self: self.status == "completed")
    @rule()
    def done(self) -> None:
        wanted = {f"{self.run_id}:{e.operation}:{e.item}" for e in self.plan.planned()}
        assert wanted <= set(self.server.effects), "nothing is missing"
        self.status = "none"

    @invariant()
    def nothing_takes_effect_twice(self) -> None:
        counts = Counter(self.server.effects)
        assert all(count == 1 for count in counts.values())

    def _journal(self) -> JournalReader:
        return self.store.reading(self.store.find(self.run_id))

    def teardown(self) -> None:
        close_stores()


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=depth(15, 60), stateful_step_count=25, deadline=None)
