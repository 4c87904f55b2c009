"""What is asked of a journal of very many events goes through few of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect

from runner.adapters.journal.store import Store
from runner.execution.ports import Answer, Orders
from runner.model import RunRecord
from tests.support import REQUEST, make_plan, new_store, repos, start_journal

QUESTIONS: dict[str, Callable[[Store, RunRecord], object]] = {
    "failures": lambda store, run: store.reading(run).failures(),
    "failed events": lambda store, run: store.failed_events(run, 10),
    "failed positions": lambda store, run: store.failed_positions(run, ["failed"], []),
    "what a resume needs": lambda store, run: (
        store.reading(run).unanswered(),
        store.reading(run).unsettled(),
        store.reading(run).going_on(),
        store.reading(run).next_position(),
        store.reading(run).failed_in(1),
        store.reading(run).orders(),
    ),
    "has it changed?": lambda store, run: store.mark(run),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_events_that_completed_are_not_gone_through(tmp_path: Path, question: str) -> None:
    """By SQLite's own word on how it answers: through an index, or a part of the key."""
    store = new_store(tmp_path)
    plan = make_plan(tmp_path, repos(1) + "operations: [sync]\n")
    journal = start_journal(store, plan, "01AAA")
    assert journal.begin_chunk(REQUEST, Orders())
    journal.accept(REQUEST, Answer(("01BBB",)))  # and it has not ended
    journal.settle()
    ways: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given)
        ways.extend(way for *_ids, way in cursor.fetchall())

    event.listen(store.engine, "before_cursor_execute", explain)
    QUESTIONS[question](store, store.find("01AAA"))
    assert ways
    for way in ways:
        assert not way.startswith(("SCAN outcomes", "SCAN jobs"))
        assert not way.endswith("(run_id=?)") or way.split()[1] not in ("outcomes", "jobs"), way


def test_on_postgresql_the_index_of_failures_holds_the_failures_alone(
    new_schema: Callable[[str], str],
) -> None:
    """A million events that completed would make it as large as their table."""
    with Store(new_schema("indexes")) as store, store.engine.connect() as connection:
        found = inspect(connection).get_indexes("outcomes")
    failures = next(index for index in found if index["name"] == "failures")
    assert "outcome <> 'completed'" in failures["dialect_options"]["postgresql_where"]
