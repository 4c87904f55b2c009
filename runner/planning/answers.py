"""Facts: a file of recorded database answers, from which a plan is built without a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import NamedTuple

import orjson

from runner.errors import InvalidPlan, PreflightRefused
from runner.model import Database, Json, Problem, Query, QueryRefused, Table, frozen
from runner.spec.questions import parameters_of
from runner.spec.secrets import find

FORM, KIND = "backfill/v1", "BackfillFacts"
_AGAIN = "record the facts again: `backfill plan PLAN --record FILE`"


NOT_RECORDED = "not-recorded"  # the rule of a problem with a query that has no answer


class NotRecorded(QueryRefused):
    """No recorded answer is for this query with these parameters."""


class Answer(NamedTuple):
    """The answer to a query; `parameters` are those that the query uses."""

    query: str
    database: str | None
    timezone: str | None
    parameters: Mapping[str, Json]
    table: Table

    @property
    def key(self) -> bytes:
        """Identifies the question: everything but the answer."""
        return orjson.dumps(self[:-1], option=orjson.OPT_SORT_KEYS)


@frozen
class Facts:
    """Recorded answers by question, and when they were recorded (ISO 8601).

    Implements `runner.model.Database`.
    """

    recorded_at: str
    answers: Mapping[bytes, Table]

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        table = self.answers.get(_answer(query, parameters).key)
        if table is None:
            message = f"the facts have no answer to this query with these parameters: {query.text}"
            raise NotRecorded(message, _AGAIN)
        if len(table.rows) > query.max_rows:
            raise NotRecorded(f"the facts have more rows than {query.max_rows:,} for: {query.text}")
        return table


@frozen
class Recorder:
    """Records the answers of `database`. Implements `runner.model.Database`."""

    database: Database
    answers: dict[bytes, Answer] = field(default_factory=dict)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        table = self.database.ask(query, parameters)
        answer = _answer(query, parameters)._replace(table=table)
        self.answers[answer.key] = answer
        return table


def write_facts(answers: Mapping[bytes, Answer], recorded_at: str, limit: int) -> bytes:
    """Return the answers as JSON, in an order that depends on them alone; at most `limit` bytes.

    Raises `PreflightRefused` if an answer seems to hold a key (the message names the place but does
    not echo the key), or if the file would be too long.
    """
    for answer in answers.values():
        _refuse_keys(answer)
    value = {
        "apiVersion": FORM,
        "kind": KIND,
        "recorded_at": recorded_at,
        "answers": [
            {
                "query": answer.query,
                "database": answer.database,
                "timezone": answer.timezone,
                "parameters": answer.parameters,
                "columns": answer.table.columns,
                "rows": answer.table.rows,
            }
            for _, answer in sorted(answers.items())
        ],
    }
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    if len(raw) > limit:
        message = f"the facts would be {len(raw):,} bytes, and {limit:,} is the most"
        raise PreflightRefused(message, hint="let the queries give fewer columns or rows")
    return raw


def read_facts(raw: bytes, path: str, is_facts: Callable[[Json], bool]) -> Facts:
    """Parse a file of facts; `is_facts` validates its form. Raises `InvalidPlan`."""
    try:
        value = orjson.loads(raw)
        if not is_facts(value):
            raise ValueError
        answers = [
            Answer(
                one["query"],
                one["database"],
                one["timezone"],
                one["parameters"],
                Table(tuple(one["columns"]), tuple(map(tuple, one["rows"]))),
            )
            for one in value["answers"]
        ]
        if any(len(row) != len(one.table.columns) for one in answers for row in one.table.rows):
            raise ValueError
    except ValueError:
        message = "this is not a facts file, as `backfill plan --record` writes it"
        raise InvalidPlan((Problem(message, path, hint=_AGAIN),)) from None
    return Facts(value["recorded_at"], {one.key: one.table for one in answers})


def _answer(query: Query, parameters: Mapping[str, Json]) -> Answer:
    """Return the question without an answer."""
    if isinstance(query.ask, str):
        text, names = query.ask, parameters_of(query.ask)
    else:
        values = (value for value in query.ask.where.values() if isinstance(value, str))
        text, names = query.text, [value[1:] for value in values if value.startswith(":")]
    used = {name: parameters[name] for name in names if name in parameters}
    return Answer(text, query.database, query.timezone, used, Table((), ()))


def _refuse_keys(answer: Answer) -> None:
    texts = {name: orjson.dumps(value).decode() for name, value in answer.parameters.items()}
    found = next((f"parameter `{name}`" for name in texts if find(f"{name}: {texts[name]}")), None)
    for index, column in enumerate(answer.table.columns):
        cells = (row[index] for row in answer.table.rows)
        if any(isinstance(cell, str) and find(f"{column}: {cell}") for cell in cells):
            found = f"column `{column}`"
    if found:
        message = (
            f"{found} of this query looks like a key or token: {' '.join(answer.query.split())}"
        )
        hint = "facts files are shared: leave the column out of the query"
        raise PreflightRefused(message, hint=hint)
