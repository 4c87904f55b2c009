"""A state in PostgreSQL: the server is real, its clock is the world's, and a connection may break
at any statement, or at a commit, whose answer is then lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors

from runner.adapters import driver
from runner.adapters.journal import database
from tests.simulation.clockwork import Patches, Scheduler, current

_NOW = database._Postgresql.words["{now}"]


@contextmanager
def given(world: Scheduler, patches: Patches) -> Iterator[None]:
    """Make the connections of the world's processes faulty; close them at the end."""
    kind, real, made = _kind(world), driver.connect, []

    def connect(url: Any, **options: Any) -> Any:
        if current() is None:
            return real(url, **options)
        world.alive()
        if world.disk("CONNECT") == "away":
            raise psycopg.OperationalError("connection refused")
        made.append(real(url, kind, cursor_factory=_cursor(world), **options))
        return made[-1]

    patches.set(driver, "connect", connect)
    try:
        yield
    finally:
        world.end()
        for connection in made:
            connection.close()


def _cursor(world: Scheduler) -> type[psycopg.Cursor[Any]]:
    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *given: Any, **how: Any) -> Any:
            return super().execute(_at(world, query), *given, **how)

        def executemany(self, query: Any, *given: Any, **how: Any) -> None:
            super().executemany(_at(world, query), *given, **how)

    return Cursor


def _at(world: Scheduler, query: str) -> str:
    return query.replace(_NOW, f"CAST({world.wall()!r} AS DOUBLE PRECISION)")


def _kind(world: Scheduler) -> type[psycopg.Connection[Any]]:
    class Connection(psycopg.Connection[Any]):
        def execute(self, query: Any, *given: Any, **how: Any) -> Any:
            if query == "ROLLBACK":
                return super().execute(query)
            world.alive()
            dies = query == "COMMIT" and world.commits()
            breaks = world.breaks()
            match "away" if breaks == "before" else world.disk(query):
                case "away":
                    self.close()
                    raise psycopg.OperationalError("server closed the connection unexpectedly")
                case "busy":
                    raise errors.TooManyConnections("sorry, too many clients already")
                case "full":
                    raise errors.DiskFull("could not extend file: No space left on device")
            found = super().execute(query, *given, **how)
            if given and isinstance(given[0], dict):
                world.wrote(query, given[0], found.rowcount, super().execute)
            if dies:
                world.die()
            if breaks == "after":
                self.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return found

    return Connection
