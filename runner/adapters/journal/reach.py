"""The one place where a fault of the state store becomes words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from runner.errors import TargetError

_SENT = "what was sent is in it"
_DAMAGED = (
    "the file is damaged: `sqlite3 FILE .recover | sqlite3 NEW` saves what can be read of it; "
    "a run found there can be resumed with --state sqlite:///NEW"
)
_HINTS: Sequence[tuple[str, str]] = (
    ("full", f"free some disk; {_SENT}, and `backfill resume` carries the run on"),
    ("disk i/o", f"free some disk; {_SENT}, and `backfill resume` carries the run on"),
    ("readonly", "make the file and its folder writable, or name another with --state"),
    ("locked", "another process holds it for long: end that one, or name another with --state"),
    (
        "malformed",
        _DAMAGED,
    ),
    ("not a database", "this file is no state: restore it from a backup, or name another"),
    ("unable to open", "is the folder there and writable? --state names another place"),
)
_OTHERWISE = f"{_SENT}; free the disk or the lock, or name another with --state"
_SERVER = (
    "nothing is sent while it is away; once it is back, `backfill resume` carries on what was "
    "under way"
)


@contextmanager
def reachable(url: URL) -> Iterator[None]:
    """Raises `TargetError` where the state cannot be read or written: locked, full, corrupt."""
    try:
        yield
    except SQLAlchemyError as error:
        why = str(error.orig) if isinstance(error, DatabaseError) and error.orig else str(error)
        first = why.strip().splitlines()[0] if why.strip() else type(error).__name__
        if url.password:
            first = first.replace(str(url.password), "***")
        message = f"the state in {describe(url)} cannot be used: {first}"
        raise TargetError(message, hint=_hint(url, first.lower())) from error


def describe(url: URL) -> str:
    """Where the state is, without a password."""
    if url.drivername == "sqlite":
        return url.database or str(url)
    return f"postgresql://{url.query.get('host', 'localhost')}/{url.database or ''}"


def _hint(url: URL, why: str) -> str:
    if url.drivername != "sqlite":
        return _SERVER
    return next((hint for word, hint in _HINTS if word in why), _OTHERWISE)
