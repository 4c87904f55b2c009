"""A question to the user's database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import SqlGuard
from runner.spec.secrets import redact

_AGAIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Sql:
    spec: SqlGuard
    engine: Engine
    name: str = "sql"

    async def ask(self) -> Hold | None:
        value = await asyncio.to_thread(self._value)
        spec = self.spec
        bounded = spec.at_most is not None or spec.at_least is not None
        reason = self._outside(_number(value)) if bounded else _no(value)
        return Hold(reason, _AGAIN) if reason else None

    def _value(self) -> Any:
        """The one value; what the query might change is refused, or rolled back."""
        driver = self.engine.dialect.loaded_dbapi
        try:
            rows = self._rows()
        except DBAPIError as error:
            raise GuardUnanswered(self._why(error.orig or error)) from None
        except (SQLAlchemyError, driver.Error) as error:
            raise GuardUnanswered(self._why(error)) from None
        except ValueError:  # characters that the driver cannot send
            raise GuardUnanswered("its query cannot be sent") from None
        if len(rows) != 1 or len(rows[0]) != 1:
            raise GuardUnanswered("its query gives something else than one value")
        return rows[0][0]

    def _rows(self) -> Sequence[Sequence[Any]]:
        with self.engine.connect() as connection:
            options = {}
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET TRANSACTION READ ONLY"))
                connection.execute(text("SET LOCAL statement_timeout = '10s'"))
                # Binary answers come by a protocol that takes one statement only: no "commit; ..."
                options = {"binary": True}
            else:
                connection.execute(text("PRAGMA query_only = ON"))
            # The driver itself is asked, as to SQLAlchemy a % in the query is a placeholder.
            with closing(connection.connection.cursor(**options)) as cursor:
                cursor.execute(self.spec.query)
                rows = cursor.fetchmany(2)
            connection.rollback()
            return rows

    def _outside(self, value: float | Decimal) -> str | None:
        at_most, at_least = self.spec.at_most, self.spec.at_least
        if at_most is not None and value > at_most:
            return f"the guard's query gives {value}, above {_shown(at_most)}"
        if at_least is not None and value < at_least:
            return f"the guard's query gives {value}, below {_shown(at_least)}"
        return None

    def _why(self, error: BaseException) -> str:
        words = str(error).strip().splitlines()
        first = words[0] if words else type(error).__name__
        url = self.engine.url
        for password in (url.password, url.query.get("password")):
            if password:
                first = first.replace(str(password), "***")
        return redact(first)


def _number(value: Any) -> float | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise GuardUnanswered("its query gives no number")
    if value != value:
        raise GuardUnanswered("its query gives no number")
    return value


def _no(value: Any) -> str | None:
    """A database without a type for truth says 0 or 1."""
    if not isinstance(value, int | float | Decimal) or value not in (0, 1):
        raise GuardUnanswered("its query gives neither true nor false")
    return None if value else "the guard's query says no"


def _shown(bound: float) -> str:
    return str(bound).removesuffix(".0")
