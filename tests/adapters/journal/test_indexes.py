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


def _plans_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: Callable[[Store, RunRecord], object]
) -> list[dict[int, tuple[int, str]]]:
    """Return SQLite's own plan of each query: its steps, by id, with that of the step above."""
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
    question(store, store.find("01AAA"))
    assert asked
    with store._database.read() as connection:
        raw: Any = connection._do(lambda raw: raw)
        return [
            {
                id_: (above, way)
                for id_, above, _, way in raw.execute(
                    f"EXPLAIN QUERY PLAN {statement}", defaultdict[str, int](int)
                )
            }
            for statement in asked
        ]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_events_that_completed_are_not_gone_through(
    tmp_path: Path, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SQLite's own query plan: it uses an index, or a part of the key."""
    plans = _plans_of(tmp_path, monkeypatch, QUESTIONS[question])
    ways = [way for plan in plans for _, way in plan.values()]
    assert ways
    for way in ways:
        assert not way.startswith(("SCAN outcomes", "SCAN jobs"))
        assert not way.endswith("(run_id=?)") or way.split()[1] not in ("outcomes", "jobs"), way


@pytest.mark.parametrize("question", [Store.glance, Store.story])
def test_the_rounds_of_a_drain_are_not_gone_through_for_each_request(
    tmp_path: Path, question: Callable[[Store, RunRecord], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status of a drain of a thousand rounds took seconds."""
    for plan in _plans_of(tmp_path, monkeypatch, question):
        above = [plan.get(above, (0, ""))[1] for above, way in plan.values() if " rounds " in way]
        assert not [way for way in above if way.startswith("CORRELATED")]


def test_on_postgresql_the_index_of_failures_holds_the_failures_alone(
    new_schema: Callable[[str], str],
) -> None:
    """With a million completed events the index would be as large as their table."""
    query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'failures'"
    with Store(new_schema("indexes")) as store, store._database.read() as connection:
        assert "WHERE (outcome <> 'completed'" in str(connection.values(query)[0])
