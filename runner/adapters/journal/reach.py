"""The one place where a fault of the state store becomes words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from runner.errors import TargetError


@contextmanager
def reachable(url: URL) -> Iterator[None]:
    """Raises `TargetError` where the state cannot be read or written: locked, full, corrupt."""
    try:
        yield
    except SQLAlchemyError as error:
        why = str(error.orig) if isinstance(error, DatabaseError) and error.orig else str(error)
        message = f"the state in {describe(url)} cannot be used: {why.splitlines()[0]}"
        hint = "what was sent is in it; free the disk or the lock, or name another with --state"
        raise TargetError(message, hint=hint) from error


def describe(url: URL) -> str:
    """Where the state is, without a password."""
    return url.database or str(url) if url.drivername == "sqlite" else url.render_as_string()
