"""Queries to a journal of very many events read only a few of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.store import Store
from runner.execution.ports import Answer, Control
from runner.model import LOST, EventFilter, RunRecord
from tests.support import REQUEST, make_plan, new_store, repos, start_journal

LOST_EVENTS = EventFilter("o/r", 1, LOST)
QUESTIONS: dict[str, Callable[[Store, RunRecord], object]] = {
    "failures": lambda store, run: store.reading(run).failures(),
    "failed events": lambda store, run: store.find_events(run, LOST_EVENTS, 10),
    "what to retry": lambda store, run: store.retriable(run, ["failed"], []),
    "what a resume needs": lambda store, run: (
        store.reading(run).unanswered(),
        store.reading(run).unsettled(),
        store.reading(run).going_on(),
        store.reading(run).next_position(),
        store.reading(run).by_stage(),
        store.reading(run).control(),
    ),
    "has it changed?": lambda store, run: store.mark(run),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_events_that_completed_are_not_gone_through(
    tmp_path: Path, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SQLite's own query plan: it uses an index, or a part of the key."""
    store = new_store(tmp_path)
    plan = make_plan(tmp_path, repos(1) + "operations: [sync]\n")
    journal = start_journal(store, plan, "01AAA")
    assert journal.begin_chunk(REQUEST, Control())
    journal.accept(REQUEST, Answer(("01BBB",)))  # it has not ended
    journal.settle()
    asked: list[str] = []
    dialect = store._database.dialect
    spell = dialect.spell

    def remember(statement: str) -> str:
        asked.append(spell(statement))
        return asked[-1]

    monkeypatch.setattr(dialect, "spell", remember)
    QUESTIONS[question](store, store.find("01AAA"))
    assert asked
    with store._database.read() as connection:
        raw: Any = connection._do(lambda raw: raw)
        ways = [
            way
            for statement in asked
            for *_ids, way in raw.execute(
                f"EXPLAIN QUERY PLAN {statement}", defaultdict[str, int](int)
            )
        ]
    assert ways
    for way in ways:
        assert not way.startswith(("SCAN outcomes", "SCAN jobs"))
        assert not way.endswith("(run_id=?)") or way.split()[1] not in ("outcomes", "jobs"), way


def test_on_postgresql_the_index_of_failures_holds_the_failures_alone(
    new_schema: Callable[[str], str],
) -> None:
    """With a million completed events the index would be as large as their table."""
    query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'failures'"
    with Store(new_schema("indexes")) as store, store._database.read() as connection:
        assert "WHERE (outcome <> 'completed'" in str(connection.values(query)[0])
