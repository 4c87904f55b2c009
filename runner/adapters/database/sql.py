"""Questions to PostgreSQL and SQLite: read only, with a time limit, and never silently
truncated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime

from runner.adapters.database import values
from runner.adapters.database.bounds import ahead, tried
from runner.adapters.database.statement import statement
from runner.adapters.database.url import DatabaseUrl
from runner.errors import TargetDown
from runner.model import DatabaseClock, Json, Query, QueryRefused, RowSecurity, Table, frozen
from runner.spec.units import counted

_CLOCK = {
    "postgresql": """SELECT clock_timestamp() AS now, current_setting('TimeZone') AS zone,
        extract(timezone FROM clock_timestamp())::float8 AS offset""",
    "sqlite": """SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') AS now, 'UTC' AS zone,
        0.0 AS offset""",
}


@frozen
class SqlDatabase:
    """Implements `runner.model.Database`. Each question has a connection of its own."""

    url: DatabaseUrl
    time: Callable[[], float] = field(default=time.time, repr=False)

    def ask(self, query: Query, parameters: Mapping[str, Json], *, once: bool = False) -> Table:
        if self.url.kind == "sqlite":
            from runner.adapters.database.sqlite import read
        else:
            from runner.adapters.database.postgresql import read

        asked = statement(query, parameters, self.url.kind)
        if self.url.kind == "sqlite":
            names, rows, converts = read(self.url, asked)
        else:
            names, rows, converts = tried(lambda: read(self.url, asked), TargetDown, once=once)
        values.refuse_twins(names)
        if len(rows) > query.max_rows:
            message = f"it gives more than {counted(query.max_rows, 'row')}"
            raise QueryRefused(message, "narrow the query, or raise its `max_rows`")
        found = values.columns(names, list(zip(*rows, strict=True)), converts) if rows else []
        return Table(tuple(names), tuple(zip(*found, strict=True)))

    def clock(self, *, once: bool = False) -> DatabaseClock:
        began = self.time()
        table = self.ask(Query(_CLOCK[self.url.kind]), {}, once=once)
        (row,) = table.dicts()
        now = datetime.fromisoformat(row["now"]).timestamp()
        return DatabaseClock(**row, ahead=ahead(now, began, self.time()))

    def row_security(
        self, query: Query, parameters: Mapping[str, Json], *, once: bool = False
    ) -> Sequence[RowSecurity] | None:
        if self.url.kind == "sqlite":  # which has no roles
            return ()
        from runner.adapters.database.postgresql import row_security

        asked = statement(query, parameters, self.url.kind)
        return tried(lambda: row_security(self.url, asked), TargetDown, once=once)

    def close(self) -> None:
        """Do nothing: no connection is kept open."""
