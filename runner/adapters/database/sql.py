"""Questions to PostgreSQL and SQLite: read only, in time, and never cut short in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.adapters.database import values
from runner.adapters.database.statement import statement
from runner.adapters.database.url import DatabaseUrl
from runner.model import Json, Query, QueryRefused, Table


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """Meets `runner.model.Database`. Each question has a connection of its own."""

    url: DatabaseUrl

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        if self.url.kind == "sqlite":
            from runner.adapters.database.sqlite import read
        else:
            from runner.adapters.database.postgresql import read

        names, rows, converts = read(self.url, statement(query, parameters, self.url.kind))
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise QueryRefused(f"two of its columns are called `{twice}`", "name them with `as`")
        if len(rows) > query.max_rows:
            which = "row" if query.max_rows == 1 else "rows"
            message = f"it gives more than {query.max_rows:,} {which}"
            raise QueryRefused(message, "narrow it, or raise its `max_rows`")
        found = values.columns(names, list(zip(*rows, strict=True)), converts) if rows else []
        return Table(tuple(names), tuple(zip(*found, strict=True)))

    def close(self) -> None:
        """Nothing is kept open."""
