"""Environment -> an engine on the user's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from runner.adapters.driver import postgresql
from runner.errors import PreflightRefused, UsageError
from runner.spec.secrets import redact

NAMES = ("BACKFILL_DATABASE_URL", "SUPABASE_DB_URL")
_HINT = "write it like postgresql://user@host/database, or sqlite:///path/to/file.db"
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")
_PATIENCE = 10  # seconds until a server that does not answer counts as away


def named(env: Mapping[str, str]) -> str | None:
    """The variable that names the default database, if one does."""
    return next((name for name in NAMES if env.get(name)), None)


def database_engine(env: Mapping[str, str], name: str | None = None) -> Engine:
    """The database that the variable `name`, or the usual one, has the URL of.

    Raises `PreflightRefused` where no variable names a database or its driver is missing, and
    `UsageError`, which never echoes the URL, where what it says is none.
    """
    name = name or named(env)
    if name is None or not env.get(name):
        hint = f"set {name or NAMES[0]}, as in postgresql://user@host/database"
        raise PreflightRefused("no database is named", hint=hint)
    try:
        url = make_url(env[name])
    except (ArgumentError, ValueError):
        raise UsageError(f"{name} is not a database's URL", hint=_HINT) from None
    if url.drivername == "sqlite" and url.database:
        path = f"file:{quote(str(url.database))}?mode=ro"  # else a wrong path makes an empty file
        return create_engine(
            url, poolclass=NullPool, creator=lambda: sqlite3.connect(path, uri=True)
        )
    if url.drivername == "sqlite":
        return create_engine(url, poolclass=NullPool)
    if url.drivername not in _POSTGRESQL:
        raise UsageError(f"{name} is of a database that is not supported", hint=_HINT)
    patience = {} if "connect_timeout" in url.query else {"connect_timeout": _PATIENCE}
    return postgresql(url, poolclass=NullPool, connect_args=patience)


def spoken(error: BaseException, url: URL) -> str:
    """The first line of what a driver says, without anything secret."""
    words = str(error).strip().splitlines()
    first = words[0] if words else type(error).__name__
    for password in (url.password, url.query.get("password")):
        if password:
            first = first.replace(str(password), "***")
    return redact(first)
