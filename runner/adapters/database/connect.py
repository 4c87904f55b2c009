"""Environment -> an engine on the user's database."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from runner.errors import PreflightRefused, UsageError

NAMES = ("BACKFILL_DATABASE_URL", "SUPABASE_DB_URL")
_HINT = "write it like postgresql://user@host/database, or sqlite:///path/to/file.db"
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")
_PATIENCE = 10  # seconds until a server that does not answer counts as away


def database_engine(env: Mapping[str, str]) -> Engine:
    """Raises `PreflightRefused` where no variable names a database, and `UsageError`, which never
    echoes the URL, where what it says is none."""
    name = next((name for name in NAMES if env.get(name)), None)
    if name is None:
        hint = f"set {NAMES[0]}, as in postgresql://user@host/database"
        raise PreflightRefused("no database is named", hint=hint)
    try:
        url = make_url(env[name])
    except (ArgumentError, ValueError):
        raise UsageError(f"{name} is not a database's URL", hint=_HINT) from None
    if url.drivername == "sqlite":
        return create_engine(url, poolclass=NullPool)
    if url.drivername not in _POSTGRESQL:
        raise UsageError(f"{name} is of a database that is not supported", hint=_HINT)
    patience = {} if "connect_timeout" in url.query else {"connect_timeout": _PATIENCE}
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, poolclass=NullPool, connect_args=patience)
