"""A question to the user's database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import SqlGuard

_AGAIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Sql:
    spec: SqlGuard
    engine: Engine
    name: str = "sql"

    async def ask(self) -> Hold | None:
        value = await asyncio.to_thread(self._value)
        reason = self._reason(value)
        return Hold(reason, _AGAIN) if reason else None

    def _value(self) -> Any:
        """The one value; what the query might change is rolled back."""
        try:
            with self.engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SET TRANSACTION READ ONLY"))
                    connection.execute(text("SET LOCAL statement_timeout = '10s'"))
                rows = connection.exec_driver_sql(self.spec.query).fetchmany(2)
                connection.rollback()
        except SQLAlchemyError as error:
            raise GuardUnanswered(self._why(error)) from None
        if len(rows) != 1 or len(rows[0]) != 1:
            raise GuardUnanswered("its query gives something else than one value")
        return rows[0][0]

    def _reason(self, value: Any) -> str | None:
        spec = self.spec
        if not isinstance(value, int | float | Decimal):
            raise GuardUnanswered("its query gives no number, true or false")
        if spec.at_most is None and spec.at_least is None:
            return None if value else "the guard's query says no"
        if spec.at_most is not None and value > spec.at_most:
            return f"the guard's query gives {value}, above {spec.at_most:g}"
        if spec.at_least is not None and value < spec.at_least:
            return f"the guard's query gives {value}, below {spec.at_least:g}"
        return None

    def _why(self, error: SQLAlchemyError) -> str:
        words = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
        password = self.engine.url.password
        first = words[0] if words else type(error).__name__
        return first.replace(str(password), "***") if password else first
