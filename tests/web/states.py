"""Runs in every state that a page can show, written to a journal at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ulid import ULID

from runner.adapters.journal.leases import Lease
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.execution.judge import AFTER, BEFORE, coverage_key
from runner.execution.ports import Answer, Chunk, Control, Observation
from runner.execution.seeds import internal_ids
from runner.model import ExecutionPlan, Job, RunStatus, SentEvent, Waiting
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from tests.support import new_store, write_plan

Fault = Callable[[int], str | None]
SEED = "1750000000000,AAAAAAAAAAAAAA=="
ADDRESS = "https://api.inngest.test"
BODY = """\
operations: [sync, embed]
batch_size: 20
delay: 30s
coverage:
  embeddings: {query: "select item, total, done from coverage"}
"""
OLDER = BODY.replace("delay: 30s", "delay: 1m")


def names(count: int) -> str:
    return "repos: [" + ", ".join(f"acme/service-{n}" for n in range(count)) + "]\n"


@dataclass
class Player:
    """Plays runs that began some time ago and last until now."""

    folder: Path
    now: float = field(default_factory=time.time)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = new_store(self.folder, lambda: self.now)

    def plan(self, name: str, body: str) -> tuple[ExecutionPlan, str]:
        path = write_plan(self.folder, body)
        plan = replace(build_execution_plan(load_plan(str(path))), name=name)
        return plan, path.read_text("utf-8")

    def begin(self, name: str, body: str, ago: float, parent: str | None = None) -> Played:
        self.now = time.time() - ago
        plan, source = self.plan(name, body)
        run = str(ULID.from_timestamp(self.now))
        lease = self.store.lock(name, ADDRESS, run)
        journal = self.store.start(
            run, plan, lease, target="cloud", address=ADDRESS, environment="production",
            variables={}, follow=True, source=source, parent=parent,
        )  # fmt: skip
        journal.drive()
        return Played(self, plan, lease, journal)


@dataclass
class Played:
    player: Player
    plan: ExecutionPlan
    lease: Lease
    journal: JournalWriter
    sent: int = 0
    chunks: int = 0
    open: list[tuple[float, Observation]] = field(default_factory=list)

    def send(self, stage: int, count: int, took: float, fault: Callable[[int], str | None]) -> None:
        """Send a batch, whose jobs take some time."""
        now, operation = self.player.now, self.plan.stages[stage - 1].operation
        lines = [line for one in self.plan.stages for page in one.items.lines() for line in page]
        positions = range(self.sent, self.sent + count)
        sent = [lines[at] for at in positions]
        chunk = Chunk(
            self.chunks, stage, self.chunks + 1, operation, f"app/{operation}", SEED, b"",
            positions, sent, now, now,
        )  # fmt: skip
        assert self.journal.begin_chunk(chunk, Control())
        self.journal.accept(chunk, Answer(tuple(internal_ids(SEED, range(count)))))
        for at, item in zip(positions, chunk.items, strict=True):
            message = fault(at)
            name = f"app/{operation}"
            event = SentEvent(at, stage, operation, item, name, self.chunks, "i", now)
            job_id = str(ULID.from_timestamp(now + at / 1000))
            job = Job(
                job_id, operation, "Failed" if message else "Completed", True, message,
                f"https://app.inngest.test/runs/{job_id}",
            )  # fmt: skip
            seen = Observation(event, (job,), "failed" if message else "completed", message)
            self.open.append((now + took * (0.5 + at % 7 / 7), seen))
        self.sent, self.chunks = self.sent + count, self.chunks + 1

    def pass_time(self, seconds: float, stage: int, wait: Waiting | None) -> None:
        if wait:
            self.journal.waiting(stage, wait)
        end = self.player.now + seconds
        step = max(seconds / 10, 0.001)
        while self.player.now < end:
            self.player.now = min(end, self.player.now + step)
            due = [seen for at, seen in self.open if at <= self.player.now]
            self.open = [(at, seen) for at, seen in self.open if at > self.player.now]
            self.journal.record(due)
        if wait:
            self.journal.waiting(stage, None)

    def batches(
        self, stage: int, batches: int, size: int = 20, fault: Fault = lambda _: None
    ) -> None:
        for _ in range(batches):
            self.send(stage, size, 40, fault)
            self.pass_time(30, stage, Waiting("for the pacing: 30s", "pace"))

    def settle(self, stage: int) -> None:
        self.pass_time(60, stage, Waiting("for its jobs to end", "jobs"))

    def finish(self, status: RunStatus, reason: str | None = None) -> str:
        self.journal.rest()
        self.journal.end(status, reason)
        self.lease.release()
        return self.journal.run_id


def _flaky(position: int) -> str | None:
    if position % 9 == 4:
        return f"GitHub answers 502 for acme/service-{position % 60}: Bad gateway"
    return "KeyError: 'default_branch'" if position % 31 == 7 else None


def finished(player: Player) -> None:
    for body, count, ago in ((OLDER, 40, 90_000.0), (BODY, 60, 7_200.0)):
        run = player.begin("refresh-after-schema-change", names(count) + body, ago)
        columns, items = ["item", "total", "done"], [f"acme/service-{n}" for n in range(6)]
        rows = [[item, 100 + n, 40 + n] for n, item in enumerate(items)]
        after = [[item, 100 + n, 100 + n - (n == 2)] for n, item in enumerate(items)]
        run.journal.remember(coverage_key("embeddings", BEFORE), [columns, rows])
        for stage in (1, 2):
            run.batches(stage, count // 20)
            run.settle(stage)
        run.journal.remember(coverage_key("embeddings", AFTER), [columns, after])
        run.finish("completed")


def failed(player: Player) -> None:
    run = player.begin("onboard-acme", f"{names(60)}{BODY}on_failure: continue\n", 3_600)
    run.batches(1, 3, fault=_flaky)
    run.settle(1)
    run.batches(2, 3)
    run.settle(2)
    run.finish("failed")


def running(player: Player) -> None:
    run = player.begin("nightly", names(200) + BODY, 160)
    run.batches(1, 5, fault=lambda position: "it broke" if position == 30 else None)
    run.journal.waiting(1, Waiting("for the pacing: 30s", "pace"))


def held(player: Player) -> None:
    run = player.begin("nightly", names(200) + BODY, 300)
    run.batches(1, 4)
    run.pass_time(90, 1, None)
    run.journal.waiting(1, Waiting("production is held: incident 4711, ask Kim"))
    player.now = time.time()
    run.journal.keep_lease()


def away(player: Player) -> None:
    run = player.begin("nightly", names(200) + BODY, 300)
    run.batches(1, 4)
    run.pass_time(60, 1, None)
    again = Waiting(
        f"{ADDRESS} does not answer (ConnectError)", "away",
        again=time.time() + 8, until=time.time() + 400, tries=7,
    )  # fmt: skip
    run.journal.waiting(1, again)
    player.now = time.time()
    run.journal.keep_lease()


def cancelled(player: Player) -> None:
    run = player.begin("onboard-acme", names(120) + BODY, 1_000)
    run.batches(1, 3)
    run.pass_time(120, 1, Waiting("paused by an operator"))
    run.batches(1, 1)
    run.journal.note("cancelled by an operator: its jobs go on")
    run.finish("cancelled", "cancelled by an operator")


def ten_thousand_failures(player: Player) -> None:
    run = player.begin("backfill-ten-thousand", f"{names(10_000)}operations: [sync]\n", 900)
    for _ in range(20):
        run.send(1, 500, 20, lambda at: f'relation "pull_requests_{at % 12}" does not exist')
        run.pass_time(30, 1, Waiting("for the pacing: 30s", "pace"))
    run.settle(1)
    run.finish("failed", "more than 5% of its events have failed")


def empty(_: Player) -> None:
    """Leave the state without a run."""


STATES: Mapping[str, Callable[[Player], None]] = {
    one.__name__: one
    for one in (
        empty, running, held, away, failed, cancelled, ten_thousand_failures, finished,
    )
}  # fmt: skip
