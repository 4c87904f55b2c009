"""PostgreSQL's driver, which is an extra: SQLite needs none."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from runner.errors import PreflightRefused


def postgresql(url: URL, **arguments: Any) -> Engine:
    """An engine by psycopg 3, however the URL names it. Raises `PreflightRefused` without it."""
    try:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), **arguments)
    except ImportError:
        hint = "install it: pip install 'backfill[postgres]'"
        raise PreflightRefused("PostgreSQL needs a driver, psycopg 3", hint=hint) from None
    event.listen(engine, "connect", _ids_are_text)
    return engine


def _ids_are_text(connection: Any, _record: Any) -> None:
    """As the server sends them: a UUID object for each would only be made to be written out."""
    from psycopg.types.string import TextLoader

    connection.adapters.register_loader("uuid", TextLoader)
