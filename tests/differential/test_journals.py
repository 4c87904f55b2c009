"""The same steps, at the same times, leave the same state in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.adapters.journal.store import Store
from runner.execution.ports import Answer, Chunk, Observation
from runner.execution.seeds import internal_ids, make_seed
from runner.model import OUTCOMES, Job, SentEvent, Waiting
from tests.depth import depth
from tests.support import lines_of, make_plan, repos, start_journal

TABLES = ("runs", "chunks", "outcomes", "jobs", "notes", "waits", "drives", "answers", "origins")


class _Clock:
    now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


def _steps(store: Store, plan: Any, clock: _Clock, seed: int) -> list[Any]:
    """Live a run's life by a seed; return what is read after each step."""
    random, read = Random(seed), list[Any]()  # noqa: S311
    journal = start_journal(store, plan)
    journal.drive()
    position, number = 0, 0
    open_: list[SentEvent] = []
    for _ in range(40):
        clock.now += random.choice([0.1, 1.0, 30.0])
        match random.choice(
            ["send", "send", "record", "record", "note", "wait", "control", "read"]
        ):
            case "send" if position < plan.events:
                count = min(random.randint(1, 3), plan.events - position)
                made = make_seed(clock.now, random)
                places = range(position, position + count)
                chunk = Chunk(
                    number,
                    1,
                    number + 1,
                    "sync",
                    "app/sync",
                    made,
                    b"[]",
                    places,
                    lines_of(places),
                    clock.now,
                    clock.now,
                )
                if not journal.begin_chunk(chunk, journal.control()):
                    continue
                number += 1
                taken = random.randint(0, count) if random.random() < 0.3 else count
                ids = tuple(internal_ids(made, range(taken)))
                refused = "bad event" if taken < count else None
                journal.accept(chunk, Answer(ids, refused, resent=random.random() < 0.2))
                journal.settle()
                position += taken + (refused is not None)
                open_ += [
                    SentEvent(place, 1, "sync", item, "app/sync", chunk.number, id_, chunk.sent_at)
                    for place, item, id_ in zip(places, chunk.items, ids, strict=False)
                ]
            case "record" if open_:
                event = open_.pop(random.randrange(len(open_)))
                outcome = random.choice([None, *OUTCOMES])
                job = Job(f"{event.position:026d}", "fn", str(outcome), outcome is not None, "why")
                journal.record([Observation(event, (job,), outcome, "why" if outcome else None)])
            case "note":
                journal.note(f"note {random.random()}")
            case "wait":
                wait = Waiting(random.choice(["a", "b"]), "pace", again=clock.now + 5)
                journal.waiting(1, random.choice([wait, None]))
            case "control":
                store.set_pace("RUN1", batch_size=random.choice([None, 3]), delay=2.0)
            case _:
                figures = journal.totals(), journal.by_stage(), journal.last_end(1)
                read.append((*figures, journal.unsettled()))
        read.append((journal.next_position(), journal.unanswered(), journal.failures()))
    journal.end("incomplete", "enough")
    record = store.find("RUN1")
    # How long it is silent depends on the clock of the server with the lease.
    read += [
        replace(store.view(record), silent=None),
        list(store.events(record)),
        store.runs()[0].sent,
    ]
    return read


def _rows(store: Store, table: str) -> list[Any]:
    with store._database.read() as connection:
        rows = [tuple(map(_plain, row)) for row in connection.rows(f"SELECT * FROM {table}")]
    return sorted(rows, key=repr)


def _plain(value: Any) -> Any:
    """SQLite has no booleans, and PostgreSQL returns bytes as another type."""
    if isinstance(value, bool):
        return int(value)
    return bytes(value) if isinstance(value, memoryview) else value


@pytest.mark.parametrize("seed", range(depth(4, 200)))
def test_a_life_of_a_run_is_the_same_in_both(
    seed: int, tmp_path: Path, new_schema: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path, repos(12) + "operations: [sync]\n")
    found = []
    for url in (f"sqlite:///{tmp_path / 'state.db'}", new_schema("journal")):
        clock = _Clock()
        monkeypatch.setattr("runner.adapters.journal.answers.time.time", clock)
        with Store(url, clock) as store:
            read = _steps(store, plan, clock, seed)
            found.append((read, {table: _rows(store, table) for table in TABLES}))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]
