"""The state's URL -> a database engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from runner.adapters.driver import postgresql
from runner.errors import TargetError, UsageError

_HINT = "write it like sqlite:///path/to/state.db, or postgresql://user@host/database"


def parse_url(text: str) -> URL:
    """A path alone is a SQLite file. Raises `UsageError`, which never echoes the URL."""
    try:
        url = make_url(text if "://" in text else f"sqlite:///{text}")
    except (ArgumentError, ValueError):
        raise UsageError("--state is not a URL", hint=_HINT) from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite" or not url.database:
        raise UsageError(f"--state: {url.drivername} cannot hold a state", hint=_HINT)
    return url


def connect(url: URL) -> Engine:
    if url.drivername != "sqlite":
        # One process holds one connection, and a server that is away is known in seconds.
        return postgresql(
            url, pool_size=1, max_overflow=1, pool_pre_ping=True, connect_args=_NETWORK
        )
    path = Path(str(url.database))
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        message = f"the folder {path.parent} for the state cannot be made: {error.strerror}"
        raise TargetError(message, hint="--state names another place") from None
    engine = create_engine(url, connect_args={"timeout": 30})
    event.listen(engine, "connect", _set_pragmas)
    return engine


_NETWORK = {
    "connect_timeout": 10,
    "application_name": "backfill",
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
}


def _set_pragmas(connection: Any, _record: Any) -> None:
    """WAL lets others read a running run. A power cut may take back the last commits; what is
    then sent again has the same event ids, which the server dedupes."""
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
