"""Environment -> an engine on the user's database."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from runner.errors import PreflightRefused, UsageError

NAMES = ("BACKFILL_DATABASE_URL", "SUPABASE_DB_URL")
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")


def database_engine(env: Mapping[str, str]) -> Engine:
    """Raises `PreflightRefused` where no variable names a database, and `UsageError`, which never
    echoes the URL, where what it says is none."""
    name = next((name for name in NAMES if env.get(name)), None)
    if name is None:
        hint = f"set {NAMES[0]}, as in postgresql://user@host/database"
        raise PreflightRefused("no database is named", hint=hint)
    text = env[name]
    if text.startswith("postgres://"):
        text = text.replace("postgres://", "postgresql://", 1)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        hint = "write it like postgresql://user@host/database"
        raise UsageError(f"{name} is not a database's URL", hint=hint) from None
    if url.drivername in _POSTGRESQL:
        url = url.set(drivername="postgresql+psycopg")
    elif url.drivername != "sqlite":
        raise UsageError(f"{name}: {url.drivername} is not supported", hint="use PostgreSQL")
    return create_engine(url, poolclass=NullPool)
