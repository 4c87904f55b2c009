"""How a state store of an older version becomes one of this version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, inspect, select, text, update

from runner.adapters.journal.tables import metadata, versions
from runner.errors import TargetError

VERSION = 7

# Before the tables that are missing are made, and after.
_BEFORE: Mapping[int, Sequence[str]] = {
    2: (
        "ALTER TABLE runs ADD COLUMN head TEXT",
        "ALTER TABLE runs ADD COLUMN parent TEXT",
        "ALTER TABLE runs ADD COLUMN wanted TEXT",
        "ALTER TABLE runs ADD COLUMN batch_size INTEGER",
        "ALTER TABLE runs ADD COLUMN delay FLOAT",
        "ALTER TABLE chunks ADD COLUMN ids TEXT",
        "ALTER TABLE chunks DROP COLUMN body",
    ),
    3: (),  # answers and rounds are new
    4: (
        "ALTER TABLE runs ADD COLUMN source TEXT",
        "ALTER TABLE chunks ADD COLUMN completed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE chunks ADD COLUMN failed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE outcomes ADD COLUMN at FLOAT",
        "CREATE TABLE jobs_before AS SELECT * FROM jobs",
        "DROP TABLE jobs",
    ),
    5: (),  # syncs is new
    6: ("ALTER TABLE leases ADD COLUMN workers BOOLEAN NOT NULL DEFAULT FALSE",),
    7: ("ALTER TABLE runs ADD COLUMN reason TEXT",),
}
_AFTER: Mapping[int, Sequence[str]] = {
    2: (
        """INSERT INTO outcomes (run_id, position, chunk, item, outcome, message)
           SELECT run_id, position, chunk, item, outcome, message FROM events
           WHERE outcome IS NOT NULL""",
        "DROP TABLE events",
    ),
    3: (),
    4: (
        """INSERT INTO jobs (run_id, job_id, position, function, status, message, url)
           SELECT run_id, job_id, position, function, status, message, url FROM jobs_before""",
        "DROP TABLE jobs_before",
        """UPDATE chunks SET
           completed = (SELECT count(*) FROM outcomes o WHERE o.run_id = chunks.run_id
                        AND o.chunk = chunks.number AND o.outcome = 'completed'),
           failed = (SELECT count(*) FROM outcomes o WHERE o.run_id = chunks.run_id
                     AND o.chunk = chunks.number AND o.outcome <> 'completed')""",
    ),
    5: (),
    6: ("UPDATE leases SET workers = TRUE WHERE machine = 'none'",),
    7: (),
}
_LOCK = 7_163_204_211  # any number of our own: PostgreSQL's advisory locks are told apart by one


def migrate(connection: Connection, where: str) -> None:
    """Make the tables, or bring them forward; several first runs at once take turns.

    Raises `TargetError` for a store that a newer backfill has written.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    version = _version(connection)
    if version is None:
        metadata.create_all(connection)
        connection.execute(insert(versions).values(version=VERSION))
    elif version > VERSION:
        message = f"the state in {where} is of a newer version ({version})"
        raise TargetError(message, hint="install the backfill that wrote it, or a newer one")
    else:
        for step in range(version + 1, VERSION + 1):
            _run(connection, _BEFORE[step])
            metadata.create_all(connection)
            _run(connection, _AFTER[step])
            connection.execute(update(versions).values(version=step))


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(versions.name):
        return None
    return connection.execute(select(versions.c.version)).scalar()


def _run(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        # A table that an earlier step has made has the columns of today already.
        words = statement.split()
        if words[:2] == ["ALTER", "TABLE"] and words[3:5] == ["ADD", "COLUMN"]:
            columns = inspect(connection).get_columns(words[2])
            if words[5] in {column["name"] for column in columns}:
                continue
        connection.execute(text(statement))
