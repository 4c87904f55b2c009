"""PostgreSQL's driver, psycopg 3, which is an extra: SQLite needs none.

A connection may be a pooler's (PgBouncer, Supabase, Neon), where each transaction can meet another
server process: nothing is prepared, nothing is kept in the session, and nothing is asked for when
the connection is made that a pooler refuses. What a session is to be set to, each transaction sets.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from runner.adapters.extras import how_to_install
from runner.errors import PreflightRefused, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from runner.adapters.database.url import DatabaseUrl

PATIENCE = 10  # seconds until a server that does not answer counts as away


def load() -> ModuleType:
    """psycopg. Raises `PreflightRefused` where it is not installed."""
    try:
        import psycopg
    except ImportError:
        hint = how_to_install("postgres")
        raise PreflightRefused("PostgreSQL needs a driver, psycopg 3", hint=hint) from None
    return psycopg


def connect(
    url: DatabaseUrl, kind: type[Connection[Any]] | None = None, **options: Any
) -> Connection[Any]:
    """A connection to PostgreSQL; `options` are libpq's and psycopg's, and the URL's go over them.

    Raises `PreflightRefused` without the driver, `UsageError` where the driver cannot read what
    the URL says, and psycopg's errors where there is no connection.
    """
    psycopg = load()
    given: dict[str, Any] = {
        "connect_timeout": PATIENCE,
        "application_name": "backfill",
        **options,
        **url.options,
        "client_encoding": "UTF8",
        "prepare_threshold": None,
    }
    try:
        connection: Connection[Any] = (kind or psycopg.Connection).connect(**given)
    except psycopg.ProgrammingError as error:  # an option that this libpq does not know
        raise UsageError(f"{url.name}: {url.clean(first_line(error))}") from None
    from psycopg.types.string import TextLoader

    # As the server sends them: a UUID object for each would only be made to be written out.
    connection.adapters.register_loader("uuid", TextLoader)
    return connection


def settings(url: DatabaseUrl) -> str:
    """The SQL by which a transaction sets what the URL wants to be set; empty for nothing."""
    calls = (
        f"set_config({literal(name)}, {literal(value)}, true)"
        for name, value in url.settings.items()
    )
    wanted = ", ".join(calls)
    return f"SELECT {wanted};" if wanted else ""


def first_line(error: BaseException) -> str:
    words = str(error).strip().splitlines()
    return words[0] if words else type(error).__name__


def literal(text: str) -> str:
    """A string in SQL, whatever the server holds of backslashes."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
