"""PostgreSQL's driver, psycopg 3, which is an extra: SQLite needs none.

A connection may go to a pooler (PgBouncer, Supabase, Neon), where each transaction can run in
another server process: so nothing is prepared or kept in the session, and connecting asks for
nothing that a pooler refuses. Each transaction sets its own settings.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from runner.adapters.extras import how_to_install
from runner.errors import PreflightRefused, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from runner.adapters.database.url import DatabaseUrl

PATIENCE = 10  # seconds until a silent server counts as away


def load() -> ModuleType:
    """Import psycopg. Raises `PreflightRefused` if it is not installed."""
    try:
        import psycopg
    except ImportError:
        hint = how_to_install("postgres")
        raise PreflightRefused("PostgreSQL needs a driver, psycopg 3", hint=hint) from None
    return psycopg


def connect(
    url: DatabaseUrl, kind: type[Connection[Any]] | None = None, **options: Any
) -> Connection[Any]:
    """Connect to PostgreSQL; `options` are libpq's and psycopg's, and those of the URL override
    them.

    Raises `PreflightRefused` without the driver, `UsageError` if the driver cannot read the URL,
    and psycopg's errors if the connection fails.
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

    # As text: UUID objects would only be converted back.
    connection.adapters.register_loader("uuid", TextLoader)
    return connection


def settings(url: DatabaseUrl) -> str:
    """Return the SQL with which a transaction applies the URL's settings; empty for none."""
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
    """Quote a string for SQL, independent of the server's backslash setting."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
