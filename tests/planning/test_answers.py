"""Kept answers are given to the questions that they answered, and to no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
import pytest

from runner.errors import InvalidPlan, PreflightRefused
from runner.model import Json, Query, Table
from runner.model.question import Selection
from runner.planning.answers import Answer, NotRecorded, Recorder, read_facts, write_facts

TWO = Table(("repo", "n"), (("o/a", 1), ("o/b", 2)))
WHEN = "2026-11-01T00:00:00Z"


@dataclass
class Given:
    table: Table

    def ask(self, _: Query, __: Mapping[str, Json]) -> Table:
        return self.table


def written(
    query: Query, parameters: Mapping[str, Json], table: Table = TWO, limit: int = 10_000
) -> bytes:
    recorder = Recorder(Given(table))
    assert recorder.ask(query, parameters) == table
    return write_facts(recorder.answers, WHEN, limit)


@pytest.mark.parametrize(
    ("query", "parameters", "others"),
    [
        (Query("select 1 where x = :x"), {"x": 1, "unused": 2}, {"x": 2}),
        (Query(Selection("t", ("repo", "n"), {"x": ":x", "state": "open", "n": 5})),
         {"x": 1, "open": 2, "state": 3}, {"x": 2}),
    ],
)  # fmt: skip
def test_an_answer_is_given_for_the_same_question_with_the_same_parameters(
    query: Query, parameters: Mapping[str, Json], others: Mapping[str, Json]
) -> None:
    facts = read_facts(written(query, parameters), "facts.json", lambda _: True)
    assert facts.ask(query, parameters) == TWO
    assert facts.ask(query, {"x": 1}) == TWO, "what the query does not use decides nothing"
    for other, given in ((query, others), (Query("select 2"), parameters)):
        with pytest.raises(NotRecorded, match="no answer to this query with these parameters"):
            facts.ask(other, given)


@pytest.mark.parametrize(("most", "enough"), [(2, True), (1, False)])
def test_no_more_rows_are_given_than_the_query_takes(most: int, enough: bool) -> None:
    facts = read_facts(written(Query("select 1"), {}), "facts.json", lambda _: True)
    query = Query("select 1", max_rows=most)
    if enough:
        assert facts.ask(query, {}) == TWO
    else:
        with pytest.raises(NotRecorded, match="the facts have more rows than 1 for: select 1"):
            facts.ask(query, {})


def test_a_file_is_as_long_as_it_may_be_and_no_longer() -> None:
    size = len(written(Query("select 1"), {}))
    assert len(written(Query("select 1"), {}, limit=size)) == size
    with pytest.raises(PreflightRefused, match=f"would be {size:,} bytes, and {size - 1:,} is"):
        written(Query("select 1"), {}, limit=size - 1)


TOKEN = "ghp_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("parameters", "table", "named"),
    [
        ({"x": TOKEN}, TWO, "parameter `x`"),
        ({"x": 1}, Table(("n", "t"), ((1, "plain"), (2, TOKEN))), "column `t`"),
        ({"x": 1}, Table(("n", "t"), ((1, "plain"), (2, None))), None),
    ],
)
def test_an_answer_that_holds_a_key_is_not_written_down(
    parameters: Mapping[str, Json], table: Table, named: str | None
) -> None:
    query = Query("select  t where x = :x")
    if named is None:
        assert written(query, parameters, table)
        return
    with pytest.raises(PreflightRefused) as refused:
        written(query, parameters, table)
    assert str(refused.value).startswith(f"{named} of this query looks like a key or token: select")
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("change", ["its form", "a row", "its JSON"])
def test_what_is_no_file_of_facts_is_refused(change: str) -> None:
    raw = written(Query("select 1"), {})
    if change == "a row":
        value = orjson.loads(raw)
        value["answers"][0]["rows"][1].append(3)
        raw = orjson.dumps(value)
    with pytest.raises(InvalidPlan):
        read_facts(raw[:-9] if change == "its JSON" else raw, "f", lambda _: change != "its form")


def test_the_order_of_answers_is_not_that_of_the_questions() -> None:
    answers = [Answer("a", name, None, {}, TWO) for name in ("x", None, "y")]
    files = {
        write_facts({one.key: one for one in some}, WHEN, 10_000)
        for some in (answers, answers[::-1])
    }
    assert len(files) == 1
