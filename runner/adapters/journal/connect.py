"""The state's URL -> a database engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from runner.adapters import driver
from runner.adapters.database.url import FORM, DatabaseUrl
from runner.adapters.database.url import parse_url as database_url
from runner.errors import TargetError, UsageError


def parse_url(text: str) -> URL:
    """A path alone is a SQLite file. Raises `UsageError`, which never echoes the URL."""
    return _for_sqlalchemy(_read(text))


def connect(url: URL) -> Engine:
    if url.drivername != "sqlite":
        driver.load()
        read = _read(
            url.render_as_string(hide_password=False).replace("+", "%20").replace("%20", "+", 1)
        )
        # One process holds one connection, and a server that is away is known in seconds.
        engine = create_engine(
            url,
            pool_size=1,
            max_overflow=1,
            pool_pre_ping=True,
            creator=lambda: driver.connect(read, **_NETWORK),
        )
        if wanted := driver.settings(read):

            def begin(connection: Any) -> None:
                connection.exec_driver_sql(wanted.replace("%", "%%"))

            event.listen(engine, "begin", begin)
        return engine
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


def _read(text: str) -> DatabaseUrl:
    read = database_url(text, "--state", paths=True)
    if read.kind == "sqlite" and not read.path:
        raise UsageError("--state: a database in memory cannot hold a state", hint=FORM)
    return read


def _for_sqlalchemy(read: DatabaseUrl) -> URL:
    if read.kind == "sqlite":
        return URL.create("sqlite", database=read.path)
    query = dict(read.options)
    plain = {key: query.pop(key, None) for key in ("password", "dbname")}
    if read.settings:
        given = (
            f"-c{name}=" + re.sub(r"([\\\\\s])", r"\\\1", value)
            for name, value in read.settings.items()
        )
        query["options"] = " ".join(given)
    return URL.create(
        "postgresql+psycopg",
        username=query.pop("user", None),
        password=plain["password"],
        database=plain["dbname"],
        query=query,
    )


_NETWORK: dict[str, Any] = {
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
}


def _set_pragmas(connection: Any, _record: Any) -> None:
    """WAL lets others read a running run. A power cut may take back the last commits; what is
    then sent again has the same event ids, which the server dedupes."""
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
