"""A question in the form its database needs: parameters bound, and lists as each one supports
them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from runner.model import Json, Query, QueryRefused, Selection
from runner.spec.questions import OF_RUNS, changed, parameters_of

Dialect = Literal["sqlite", "postgresql"]
_MEMBER = re.compile(
    r"(?:\b(?P<no>NOT\s+)?IN\s*(?:\(\s*:(?P<a>\w+)\s*\)|:(?P<b>\w+))|=\s*ANY\s*\(\s*:(?P<c>\w+)\s*\))",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")
LIMIT = "question_limit"


class Statement(NamedTuple):
    """SQL with its parameters. `timezone`: the session's zone for this question; None:
    unchanged."""

    sql: str
    bound: Mapping[str, Json]
    timezone: str | None = None


def statement(query: Query, parameters: Mapping[str, Json], dialect: Dialect) -> Statement:
    """Build the statement. It asks for one row more than allowed, to detect too many.

    Raises `QueryRefused` for a parameter without a value, or that must be a list and is not.
    """
    if isinstance(query.ask, Selection):
        sql, given = _selected(query.ask, parameters, dialect)
    else:
        # As a subquery it can only be one statement, and one that reads.
        question = query.ask.strip().rstrip(";").rstrip()
        sql, given = f"SELECT * FROM (\n{question}\n) AS question", dict(parameters)  # noqa: S608
    sql += f" LIMIT :{LIMIT}"  # bound, so that PostgreSQL accepts only one statement
    bound = _bound(sql, {**given, LIMIT: query.max_rows + 1})
    if dialect == "postgresql":
        sql = changed(sql.replace("%", "%%"), _named)
        return Statement(sql, bound, query.timezone)
    sql = changed(sql, lambda text: _MEMBER.sub(_in_sqlite, text))
    try:
        lists = {k: json.dumps(value) for k, value in bound.items() if isinstance(value, list)}
    except (TypeError, ValueError):
        raise QueryRefused("one of its parameters is not a list of plain values") from None
    return Statement(sql, {**bound, **lists})


def _bound(sql: str, given: Mapping[str, Json]) -> dict[str, Json]:
    names = dict.fromkeys(parameters_of(sql))
    missing = next((name for name in names if name not in given), None)
    if missing:
        known = ", ".join(f":{name}" for name in given if name != LIMIT) or "none"
        message = f"its parameter :{missing} has no value"
        raise QueryRefused(message, f"there are: {known}; `params` adds others")
    members = {name for found in _MEMBER.finditer(sql) for name in found.group("a", "b", "c")}
    for name in names:
        if name in members and not isinstance(given[name], list | str):
            raise QueryRefused(f"its parameter :{name} is not a list")
    return {name: given[name] for name in names}


def _selected(
    selection: Selection, parameters: Mapping[str, Json], dialect: Dialect
) -> tuple[str, dict[str, Json]]:
    # SQLite takes a name that is no column for a text, if it is in the standard's quotes.
    quote = "`" if dialect == "sqlite" else '"'

    def quoted(name: str) -> str:
        return f"{quote}{name}{quote}"

    columns = ", ".join(f"{quoted(name)} AS {quoted(called)}" for name, called in selection.named)
    if selection.columns == ("count",):
        columns = "count(*) AS count"
    conditions, given = [], {}
    for number, (name, value) in enumerate(selection.where.items()):
        if isinstance(value, str) and value.startswith(":"):
            if value[1:] not in parameters:
                raise QueryRefused(f"its parameter {value} has no value")
            value = parameters[value[1:]]
        place = f"where_{number}"
        if value is None:
            conditions.append(f"{quoted(name)} IS NULL")
            continue
        given[place] = value
        how = f"IN :{place}" if isinstance(value, list) else f"= :{place}"
        conditions.append(f"{quoted(name)} {how}")
    source = ".".join(map(quoted, selection.table.split(".")))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM {source}{where}", given  # noqa: S608 - quoted names


def _named(text: str) -> str:
    """Convert parameters. The run's start is cast to a timestamp: as text it would lose its zone
    when compared with a time without one."""
    text = _MEMBER.sub(_in_postgresql, text)
    for moment in OF_RUNS:
        text = re.sub(rf"(?<![:\w\\]):{moment}\b", f"%({moment})s::timestamptz", text)
    return _PARAMETER.sub(r"%(\1)s", text)


def _in_postgresql(found: re.Match[str]) -> str:
    name = found["a"] or found["b"] or found["c"]
    return f"<> ALL(:{name})" if found["no"] else f"= ANY(:{name})"


def _in_sqlite(found: re.Match[str]) -> str:
    name = found["a"] or found["b"] or found["c"]
    return f"{found['no'] or ''}IN (SELECT value FROM json_each(:{name}))"  # noqa: S608 - a name
