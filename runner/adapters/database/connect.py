"""Environment -> the URL of the user's database."""

from __future__ import annotations

from collections.abc import Mapping

from runner.adapters.database.url import DatabaseUrl, parse_url
from runner.errors import PreflightRefused

NAMES = ("BACKFILL_DATABASE_URL", "SUPABASE_DB_URL")


def named(env: Mapping[str, str]) -> str | None:
    """The variable that names the default database, if one does."""
    return next((name for name in NAMES if env.get(name)), None)


def configured_url(env: Mapping[str, str], name: str | None = None) -> DatabaseUrl:
    """What the variable `name`, or the usual one, says; the driver for it is there.

    Raises `PreflightRefused` where no variable names a database or its driver is missing, and
    `UsageError`, which never echoes the URL, where what it says is none.
    """
    name = name or named(env)
    if name is None or not env.get(name):
        hint = f"set {name or NAMES[0]}, as in postgresql://user@host/database"
        raise PreflightRefused("no database is named", hint=hint)
    url = parse_url(env[name], name)
    if url.kind == "postgresql":
        from runner.adapters.driver import load

        load()
    return url
