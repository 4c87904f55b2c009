"""PostgreSQL's driver, which is an extra: SQLite needs none."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine

from runner.errors import PreflightRefused


def postgresql(url: URL, **arguments: Any) -> Engine:
    """An engine by psycopg 3, however the URL names it. Raises `PreflightRefused` without it."""
    try:
        return create_engine(url.set(drivername="postgresql+psycopg"), **arguments)
    except ImportError:
        hint = "install it: pip install 'backfill[postgres]'"
        raise PreflightRefused("PostgreSQL needs a driver, psycopg 3", hint=hint) from None
