"""What the journal costs a run of 50,000 events, and how soon a run of 1,000,000 can go on.

Both are measured inside one process, so that neither starting Python nor importing counts: the
journal's own calls against the time in which a bare loop sends the same requests, and everything
that a resume does before its first request against SQLite counting the same rows.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from random import Random

from runner.adapters.journal.store import Store
from runner.cli.resuming import unchanged
from runner.execution.chunks import RequestLimits, Wire, cut, join
from runner.execution.ports import Answer, Chunk, Sighting
from runner.execution.seeds import internal_ids, make_seed
from runner.model import ExecutionPlan, Job, SentEvent
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import Figure, Goal, say
from tests.benchmarks.send import bare_seconds

_EVENTS, _MANY = 50_000, 1_000_000
_PAIRS = 5
_ADDRESS = "http://127.0.0.1:1"
_RUN = "01RUN"


def measure(folder: Path) -> list[Figure]:
    return [_cost(folder), _resume(folder)]


def _cost(folder: Path) -> Figure:
    path = plan_send(folder, _EVENTS, 5_000)
    plan = build_execution_plan(load_plan(str(path)))
    chunks = _chunks(plan)
    bare = bare_seconds(folder, _EVENTS, 5_000, _PAIRS)
    pairs = []
    for number, theirs in enumerate(bare):
        with Store(str(folder / f"cost-{number}.db")) as store:
            lease = store.lock(plan.name, _ADDRESS, _RUN)
            ids = [tuple(internal_ids(chunk.seed, len(chunk.items))) for chunk in chunks]
            begun = time.perf_counter()
            record = {"target": _ADDRESS, "address": _ADDRESS, "variables": {}, "follow": False}
            journal = store.start(_RUN, plan, lease, **record)
            for chunk, taken in zip(chunks, ids, strict=True):
                journal.orders()
                journal.begin_chunk(chunk)
                journal.accept(chunk, Answer(taken))
            pairs.append((time.perf_counter() - begun, theirs))
    work = f"journal of {_EVENTS:,} events in {len(chunks)} requests"
    return Figure(work, "s", "bare httpx loop", tuple(pairs), Goal("at most", 0.5))


def _chunks(plan: ExecutionPlan) -> list[Chunk]:
    stage, random = plan.stages[0], Random(1)  # noqa: S311
    pending = list(Wire(_RUN, 0.0, stage, 0).events(0))
    chunks: list[Chunk] = []
    while pending:
        events = pending[: cut(pending, RequestLimits())]
        del pending[: len(events)]
        chunks.append(
            Chunk(
                len(chunks),
                1,
                1,
                stage.operation,
                stage.event,
                make_seed(time.time(), random),
                join(events),
                range(events[0].position, events[-1].position + 1),
                [event.item for event in events],
            )
        )
    return chunks


def _resume(folder: Path) -> Figure:
    path = plan_send(folder, _MANY, 5_000)
    plan = build_execution_plan(load_plan(str(path)))
    database = folder / "many.db"
    _write(database, plan)
    pairs = []
    for _ in range(_PAIRS):
        begun = time.perf_counter()
        with Store(str(database)) as store:
            run = store.find(_RUN)
            kept = store.plan_of(run)
            assert kept is not None
            assert unchanged(kept.inputs)
            lease = store.lock(run.plan, run.address, run.id)
            journal = store.reopen(run, lease, kept)
            assert journal.unanswered() == []
            assert journal.unsettled() == []
            journal.failures()
            position = journal.next_position()
            journal.failed_in(kept.stages[0].number)
            next(kept.stages[0].items.raw(position))
            ours = time.perf_counter() - begun
            lease.release()
        connection = sqlite3.connect(database)
        begun = time.perf_counter()
        connection.execute("SELECT count(*) FROM outcomes").fetchone()
        pairs.append((ours, time.perf_counter() - begun))
        connection.close()
    work = f"resume of {_MANY:,} events, ready to send"
    return Figure(work, "s", "counting the rows", tuple(pairs), Goal("at most", 10))


def _write(database: Path, plan: ExecutionPlan) -> None:
    """A run that has come to the last of its events but one request, all of them completed."""
    say("  writing a journal of a million events")
    with Store(str(database)) as store:
        lease = store.lock(plan.name, _ADDRESS, _RUN)
        record = {"target": _ADDRESS, "address": _ADDRESS, "variables": {}, "follow": True}
        journal = store.start(_RUN, plan, lease, **record)
        for chunk in _chunks(plan)[:-1]:
            ids = tuple(internal_ids(chunk.seed, len(chunk.items)))
            journal.begin_chunk(chunk)
            journal.accept(chunk, Answer(ids))
            journal.record(
                [
                    Sighting(
                        SentEvent(position, 1, chunk.operation, item, "e", chunk.number, id_),
                        (Job(f"job-{position}", "f", "Completed", ended=True),),
                        "completed",
                    )
                    for position, item, id_ in zip(chunk.positions, chunk.items, ids, strict=True)
                ]
            )
        journal.end("incomplete")
        lease.release()
