"""A question to the user's database."""

from __future__ import annotations

import asyncio

from runner.errors import TargetError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import Database, Json, Query, QueryRefused, SqlGuard, frozen

_AGAIN = 5.0  # seconds


@frozen
class Sql:
    spec: SqlGuard
    database: Database
    name: str = "sql"

    async def ask(self) -> Hold | None:
        value = await asyncio.to_thread(self._value)
        spec = self.spec
        bounded = spec.at_most is not None or spec.at_least is not None
        reason = self._outside(_number(value)) if bounded else _no(value)
        return Hold(reason, _AGAIN) if reason else None

    def _value(self) -> Json:
        try:
            table = self.database.ask(Query(self.spec.query, max_rows=1), {})
        except (QueryRefused, TargetError) as error:
            raise GuardUnanswered(str(error)) from None
        if len(table.rows) != 1 or len(table.columns) != 1:
            raise GuardUnanswered("its query gives something else than one value")
        return table.rows[0][0]

    def _outside(self, value: float) -> str | None:
        at_most, at_least = self.spec.at_most, self.spec.at_least
        if at_most is not None and value > at_most:
            return f"the guard's query gives {value}, above {_shown(at_most)}"
        if at_least is not None and value < at_least:
            return f"the guard's query gives {value}, below {_shown(at_least)}"
        return None


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GuardUnanswered("its query gives no number")
    return value


def _no(value: Json) -> str | None:
    """A database without a type for truth says 0 or 1."""
    if not isinstance(value, int | float) or value not in (0, 1):
        raise GuardUnanswered("its query gives neither true nor false")
    return None if value else "the guard's query says no"


def _shown(bound: float) -> str:
    return str(bound).removesuffix(".0")
