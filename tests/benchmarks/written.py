"""Write journals as a run would leave them, by the journal's own calls and without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from runner.adapters.inngest.target import resolve
from runner.adapters.journal.leases import holding
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.execution.context import RequestLimits
from runner.execution.ports import Answer, Chunk, Control, Observation
from runner.execution.seeds import internal_ids, make_seed
from runner.execution.send import Ahead, Wire
from runner.model import ExecutionPlan, Job, SentEvent
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan

RUN = "01K0000000000000000000000A"


def planned(path: Path) -> ExecutionPlan:
    return build_execution_plan(load_plan(str(path)))


def chunks(plan: ExecutionPlan, first: int, limits: RequestLimits) -> list[Chunk]:
    """Return the requests for the first so many events of the plan's only stage."""
    stage, random = plan.stages[0], Random(1)  # noqa: S311
    events, found = Ahead(Wire(RUN, 0.0, stage), 0), list[Chunk]()
    while events.position < first:
        most = min(limits.events, first - events.position)
        taken, body = events.request(limits._replace(events=most))
        found.append(
            Chunk(
                number=len(found),
                stage=1,
                batch=1,
                operation=stage.operation,
                event=stage.event,
                seed=make_seed(time.time(), random),
                body=body,
                positions=range(events.position, events.position + taken),
                lines=events.lines[:taken],
                sent_at=time.time(),
                base=0.0,
            )
        )
        events.drop(taken)
    return found


def answers(requests: list[Chunk]) -> list[Answer]:
    return [Answer(tuple(internal_ids(one.seed, range(len(one.positions))))) for one in requests]


@contextmanager
def started(store: Store, plan: ExecutionPlan, url: str) -> Iterator[JournalWriter]:
    address = resolve(url, {}).address
    with holding(store.lock(plan.name, address, RUN)) as lease:
        record = {"target": url, "address": address, "variables": {}, "follow": True}
        yield store.start(RUN, plan, lease, **record)


def send(journal: JournalWriter, chunk: Chunk, answer: Answer) -> None:
    """Write down one request as a run does."""
    assert journal.begin_chunk(chunk, Control())
    journal.accept(chunk, answer)


def completed(chunk: Chunk, answer: Answer, base: str) -> list[Observation]:
    """Return a completed job for each of the events."""
    found = []
    for position, item, id_ in zip(chunk.positions, chunk.items, answer.ids, strict=True):
        job = f"01K{position:023}"
        url = f"{base}/run?runID={job}"
        this = chunk.stage, chunk.operation, item, chunk.event, chunk.number, id_, chunk.sent_at
        event = SentEvent(position, *this)
        jobs = (Job(job, "f", "Completed", ended=True, url=url),)
        found.append(Observation(event, jobs, "completed"))
    return found


def half_done(path: Path, state: Path, url: str, sent: int) -> None:
    """Write the journal of a run that was killed between two requests: `sent` events have
    completed, the others were not begun."""
    plan = planned(path)
    requests = chunks(plan, sent, RequestLimits())
    with Store(str(state)) as store, started(store, plan, url) as journal:
        for chunk, answer in zip(requests, answers(requests), strict=True):
            send(journal, chunk, answer)
            journal.record(completed(chunk, answer, url))
        journal.settle()
