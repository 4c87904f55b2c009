"""Connects to each database that a plan may ask, on first use."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from runner.adapters.database.url import DatabaseUrl, parse_url
from runner.errors import PreflightRefused
from runner.model import DatabaseClock, Json, Query, QueryRefused, RowSecurity, Table
from runner.spec.document import did_you_mean

if TYPE_CHECKING:
    from runner.adapters.database.rest import Rest
    from runner.adapters.database.sql import SqlDatabase

REST_URL = "SUPABASE_URL"
REST_KEYS = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")  # the first one that is set counts
NAMES = ("BACKFILL_DATABASE_URL", "SUPABASE_DB_URL")


class Timing(NamedTuple):
    """How long a question took (seconds), and how many rows came."""

    query: str
    seconds: float
    rows: int


@dataclass(slots=True)
class Databases:
    """Implements `runner.model.Database`. `names`: the project file's names for databases, with the
    environment variables of their URLs. In an `environment`, `default` is the variable of its
    default database, and `foreign` are those of other environments, which must not be used."""

    env: Mapping[str, str] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    foreign: frozenset[str] = frozenset()
    environment: str | None = None
    timings: list[Timing] = field(default_factory=list)
    once: bool = False  # ask once, for those who ask again themselves
    _open: dict[str | None, SqlDatabase | Rest] = field(default_factory=dict)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        database = self.connection(query.database)
        began = time.perf_counter()
        table = database.ask(query, parameters, once=self.once)
        self.timings.append(Timing(query.text, time.perf_counter() - began, len(table.rows)))
        return table

    def clock(self, name: str | None) -> DatabaseClock:
        return self.connection(name).clock(once=self.once)

    def row_security(
        self, query: Query, parameters: Mapping[str, Json]
    ) -> Sequence[RowSecurity] | None:
        database = self.connection(query.database)
        return database.row_security(query, parameters, once=self.once)

    def for_a_run(self) -> Databases:
        """Return the same databases for a run. It is patient itself: it says that a database is
        away, and its limits count."""
        return replace(self, once=True)

    def connection(self, name: str | None) -> SqlDatabase | Rest:
        if name not in self._open:
            self._open[name] = self._connect(name)
        return self._open[name]

    def close(self) -> None:
        for database in self._open.values():
            database.close()

    def _connect(self, name: str | None) -> SqlDatabase | Rest:
        from runner.adapters.database.sql import SqlDatabase

        variable = self.default or named(self.env)
        key = next((one for one in REST_KEYS if self.env.get(one)), None)
        if name is not None:
            variable = self.names.get(name)
            if variable is None:
                hint = did_you_mean(name, self.names) or "backfill.yaml names databases"
                raise QueryRefused(f"there is no database `{name}`", hint)
        elif variable is None and self.env.get(REST_URL) and key:
            from runner.adapters.database.rest import Rest

            return Rest(self.env[REST_URL], self.env[key], variable=key, env=self.env)
        if variable is None or not self.env.get(variable):
            hint = f"set {variable or NAMES[0]}, as in postgresql://user@host/database"
            if variable is None:
                hint += f", or {REST_URL} and {REST_KEYS[0]} for Supabase's REST interface"
            message = "the plan asks a database, but no database is configured"
            raise PreflightRefused(message, hint=hint)
        if variable in self.foreign:
            message = f"{variable} belongs to another environment than `{self.environment}`"
            raise PreflightRefused(message, hint="give this environment a `database:` of its own")
        return SqlDatabase(configured_url(self.env, variable))


def named(env: Mapping[str, str]) -> str | None:
    """Return the variable with the URL of the default database, if one is set."""
    return next((name for name in NAMES if env.get(name)), None)


def configured_url(env: Mapping[str, str], name: str | None = None) -> DatabaseUrl:
    """Parse the URL in the variable `name`, or in the default one; its driver must be installed.

    Raises `PreflightRefused` if no variable names a database or its driver is missing, and
    `UsageError`, which never echoes the URL, if it is invalid.
    """
    name = name or named(env)
    if name is None or not env.get(name):
        hint = f"set {name or NAMES[0]}, as in postgresql://user@host/database"
        raise PreflightRefused("no database is configured", hint=hint)
    url = parse_url(env[name], name)
    if url.kind == "postgresql":
        from runner.adapters.driver import load

        load()
    return url
