"""Questions to PostgreSQL and SQLite: read only, in time, and never cut short in silence."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine, column, func, select, table, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.adapters.database.connect import spoken
from runner.errors import KeyRefused, TargetDown
from runner.model import Json, Query, QueryRefused, Selection, Table
from runner.spec.questions import parameters_of

PATIENCE = 30  # seconds that a question may take
_MEMBER = re.compile(
    r"(?:\b(?P<no>NOT\s+)?IN\s*(?:\(\s*:(?P<a>\w+)\s*\)|:(?P<b>\w+))|=\s*ANY\s*\(\s*:(?P<c>\w+)\s*\))",
    re.IGNORECASE,
)
_LITERALS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_RENAMED = re.compile(r":\d+$")  # SQLite calls the second `id` of a subquery `id:1`
_AWAY = ("08", "57P", "53")  # SQLSTATE classes: connection, shutdown, no room for us
_TOO_LONG = "57014"
_FORBIDDEN = "42501"
_PLAIN = frozenset((type(None), bool, int, str))


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """Meets `runner.model.Database`; `name` is the environment variable that names it."""

    engine: Engine
    name: str

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        if isinstance(query.ask, Selection):
            statement, bound = _selection(query.ask, parameters, query.max_rows)
        else:
            sql, bound = self._written(query.ask, parameters)
            # As a subquery it can be one statement only, and one that reads; the bound limit
            # makes PostgreSQL hold to that, and one row more than allowed tells of too many.
            wrapped = f"SELECT * FROM (\n{sql}\n) AS question LIMIT :question_limit"  # noqa: S608
            statement = text(wrapped)
            bound["question_limit"] = query.max_rows + 1
        try:
            columns, found = self._run(statement, bound)
        except SQLAlchemyError as error:
            raise self._refusal(error) from None
        if len(found) > query.max_rows:
            rows = "row" if query.max_rows == 1 else "rows"
            message = f"it gives more than {query.max_rows:,} {rows}"
            raise QueryRefused(message, "narrow it, or raise its `max_rows`")
        return Table(columns, tuple(zip(*map(_column, zip(*found, strict=True)), strict=True)))

    def close(self) -> None:
        self.engine.dispose()

    def _run(self, statement: Any, bound: Mapping[str, Any]) -> tuple[tuple[str, ...], Any]:
        with self.engine.connect() as connection:
            _force_reading(connection)
            result = connection.execute(statement, bound)
            columns, rows = tuple(result.keys()), result.fetchall()
            connection.rollback()
        names = [_RENAMED.sub("", name) for name in columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise QueryRefused(f"two of its columns are called `{twice}`", "name them with `as`")
        return columns, rows

    def _written(self, sql: str, parameters: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        """The SQL as this database wants it, and the values that it uses."""
        sql = sql.strip().rstrip(";").rstrip()
        names = dict.fromkeys(parameters_of(sql))
        missing = [name for name in names if name not in parameters]
        if missing:
            known = ", ".join(f":{name}" for name in parameters) or "none"
            message = f"nothing is given for its parameter :{missing[0]}"
            raise QueryRefused(message, f"there are: {known}; `params` adds others")
        bound = {name: parameters[name] for name in names}
        members = {name for found in _MEMBER.finditer(sql) for name in found.group("a", "b", "c")}
        if self.engine.dialect.name == "sqlite":
            sql = _MEMBER.sub(_in_sqlite, sql)
            bound = {
                name: orjson.dumps(value).decode() if isinstance(value, list) else value
                for name, value in bound.items()
            }
        else:
            sql = _MEMBER.sub(_in_postgresql, sql)
        for name, value in bound.items():
            if name in members and not isinstance(value, list | str):
                raise QueryRefused(f"its parameter :{name} is no list")
        sql = _LITERALS.sub(lambda found: found[0].replace(":", r"\:"), sql)
        return sql.replace("::", r"\:\:"), bound

    def _refusal(self, error: SQLAlchemyError) -> Exception:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        state = getattr(cause, "sqlstate", None) or ""
        words = spoken(cause, self.engine.url)
        if "authentication failed" in words or state.startswith("28"):
            return KeyRefused(f"the database of {self.name} refuses us: {words}")
        hint: str | None
        if state == _TOO_LONG:
            return QueryRefused(
                f"it has no answer within {PATIENCE} s", "narrow it, or add an index"
            )
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        unreached = not state and type(cause).__name__ == "OperationalError" and _is_away(cause)
        if lost or unreached or state.startswith(_AWAY):
            hint = f"look at {self.name} and at the network"
            return TargetDown(f"the database of {self.name} cannot be reached: {words}", hint=hint)
        hint = "grant the role SELECT on it" if state == _FORBIDDEN else None
        return QueryRefused(words, hint or _hint(cause))


def _selection(
    selection: Selection, parameters: Mapping[str, Json], max_rows: int
) -> tuple[Any, dict[str, Json]]:
    schema, _, name = selection.table.rpartition(".")
    source = table(name, schema=schema or None)
    statement: Any
    if selection.columns == ("count",):
        statement = select(func.count().label("count")).select_from(source)
    else:
        columns: list[Any] = [column(name).label(called) for name, called in selection.named]
        statement = select(*columns).select_from(source)
    for name, value in selection.where.items():
        if isinstance(value, str) and value.startswith(":"):
            if value[1:] not in parameters:
                raise QueryRefused(f"nothing is given for its parameter {value}")
            value = parameters[value[1:]]
        wanted: Any = column(name)
        if isinstance(value, list):
            statement = statement.where(wanted.in_(value))
        else:
            statement = statement.where(wanted.is_(None) if value is None else wanted == value)
    return statement.limit(max_rows + 1), {}


def _force_reading(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA query_only = ON"))
        limit = time.monotonic() + PATIENCE
        raw: Any = connection.connection.driver_connection
        raw.set_progress_handler(lambda: int(time.monotonic() > limit), 100_000)
        return
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE}s'"))


def _in_postgresql(found: re.Match[str]) -> str:
    name = found["a"] or found["b"] or found["c"]
    return f"<> ALL(:{name})" if found["no"] else f"= ANY(:{name})"


def _in_sqlite(found: re.Match[str]) -> str:
    name = found["a"] or found["b"] or found["c"]
    return f"{found['no'] or ''}IN (SELECT value FROM json_each(:{name}))"  # noqa: S608 - a name


def _is_away(cause: BaseException) -> bool:
    """SQLite says `OperationalError` for a table that is not there as well."""
    words = str(cause)
    return "no such" not in words and "syntax error" not in words and "near " not in words


def _hint(cause: BaseException) -> str | None:
    diagnosis = getattr(cause, "diag", None)
    hint: str | None = getattr(diagnosis, "message_hint", None)
    return hint


def _column(values: Sequence[Any]) -> Sequence[Json]:
    """Column by column, most need nothing done: a value by itself costs more than its row."""
    return values if _PLAIN.issuperset(map(type, values)) else list(map(_json, values))


def _json(value: Any) -> Json:
    match value:
        case UUID() | date() if not isinstance(value, datetime):
            return str(value)
        case None | bool() | int() | str():
            return value
        case float() | Decimal():
            return _number(value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case timedelta():
            return value.total_seconds()
        case list() | tuple():
            return [_json(member) for member in value]
        case dict():
            return {str(key): _json(member) for key, member in value.items()}
    hint = "leave the column out, or cast it to text"
    raise QueryRefused(f"it gives a value that is not JSON's ({type(value).__name__})", hint)


def _number(value: float | Decimal) -> Json:
    """NaN and infinities are no figures, so they are no data."""
    if value != value or value in (float("inf"), float("-inf")):
        return None
    whole = int(value)
    return whole if whole == value and isinstance(value, Decimal) else float(value)
