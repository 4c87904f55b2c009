"""What PostgreSQL tells about its clock, its session's zone, and rows that a role may not see."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.model import DatabaseClock, Json, Query, RowSecurity, Table

BACKLOG = "SELECT count(*) AS pending FROM items WHERE embedding IS NULL"
BLIND, FILTERED = (RowSecurity("items", blind) for blind in (True, False))


@dataclass
class Schema:
    """A schema of the test's. `url`: of a role that may only read."""

    owner: str
    url: str
    role: str

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.owner) as db:
            for statement in statements:
                db.execute(statement.replace("$me", self.role).encode())

    @property
    def database(self) -> SqlDatabase:
        return SqlDatabase(parse_url(self.url, "URL"))

    def ask(self, sql: str, zone: str | None = None, **parameters: Json) -> Table:
        return self.database.ask(Query(sql, timezone=zone), parameters)

    def seen(self, sql: str = BACKLOG, **parameters: Json) -> list[RowSecurity]:
        return list(self.database.row_security(Query(sql), parameters) or ())


@pytest.fixture
def schema(database_url: str) -> Iterator[Schema]:
    name = f"sight_{os.getpid()}_{time.monotonic_ns()}"
    owner = f"{database_url}{'&' if '?' in database_url else '?'}"
    owner += f"options={quote(f'-csearch_path={name}')}"
    parts = urlsplit(owner)
    role = urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))
    found = Schema(owner, role, name)
    found.sql(
        "CREATE SCHEMA $me",
        "CREATE ROLE $me LOGIN",
        "GRANT USAGE ON SCHEMA $me TO $me",
        "CREATE TABLE items (id int, tenant text, embedding text, at timestamp)",
        "INSERT INTO items VALUES (1, 'a'), (2, 'b')",
        "CREATE VIEW backlog AS SELECT * FROM items WHERE embedding IS NULL",
        "ALTER VIEW backlog SET (security_invoker = true)",
        "CREATE TABLE other (id int)",
        "GRANT SELECT ON ALL TABLES IN SCHEMA $me TO $me",
    )
    yield found
    found.sql("DROP SCHEMA $me CASCADE", "DROP OWNED BY $me", "DROP ROLE $me")


def test_without_policies_nothing_is_hidden(schema: Schema) -> None:
    assert schema.seen() == []
    assert schema.ask(BACKLOG).rows == ((2,),)


def test_a_role_without_a_policy_counts_zero_and_is_told_to_be_blind(schema: Schema) -> None:
    schema.sql("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    assert schema.ask(BACKLOG).rows == ((0,),)
    assert schema.seen() == [BLIND]
    assert schema.seen("SELECT count(*) AS n FROM backlog") == [BLIND], "through a view"
    bound = "SELECT i.id FROM items i JOIN other USING (id) WHERE tenant = ANY(:repos) AND id > :n"
    assert schema.seen(bound, repos=["a"], n=1) == [BLIND]
    assert schema.seen("SELECT count(*) AS n FROM other") == []
    assert schema.seen("SELECT 1 AS items") == []


def test_a_policy_that_shows_some_rows_filters_and_does_not_blind(schema: Schema) -> None:
    schema.sql(
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON items TO $me USING (tenant = 'a')",
    )
    assert schema.seen() == [FILTERED]


def test_a_table_that_is_empty_blinds_nobody(schema: Schema) -> None:
    schema.sql("TRUNCATE items", "ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    assert schema.seen() == [FILTERED]


@pytest.mark.parametrize(
    "name", ["a+b", "par(en", "*", "[x", 'we"ird', "50%", "$cash$", "Mixed Case", "back\\slash"]
)
def test_a_table_is_found_by_whatever_name_and_disturbs_no_other(schema: Schema, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    schema.sql(
        f"CREATE TABLE {quoted} AS SELECT * FROM items",
        f"ALTER TABLE {quoted} ENABLE ROW LEVEL SECURITY",
        f"GRANT SELECT ON {quoted} TO $me",
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
    )
    assert schema.seen() == [BLIND]
    assert schema.seen(f"SELECT id FROM items JOIN {quoted} USING (id)") == sorted(
        [BLIND, RowSecurity(name, blind=True)]
    )


@pytest.mark.parametrize("usage", ["GRANT USAGE ON SCHEMA $me_2 TO $me", "SELECT 1"])
def test_a_table_of_that_name_in_another_schema_is_another_one(schema: Schema, usage: str) -> None:
    """As with a schema for each tenant."""
    schema.sql(
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON items TO $me USING (true)",
        "CREATE SCHEMA $me_2",
        "CREATE TABLE $me_2.items AS SELECT * FROM items",
        "ALTER TABLE $me_2.items ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON $me_2.items TO $me",
        usage,
    )
    try:
        assert schema.seen() == [FILTERED]
    finally:
        schema.sql("DROP SCHEMA $me_2 CASCADE")


def test_who_bypasses_policies_sees_all(schema: Schema) -> None:
    schema.sql("ALTER TABLE items ENABLE ROW LEVEL SECURITY", "ALTER ROLE $me BYPASSRLS")
    assert schema.seen() == []
    schema.sql("ALTER ROLE $me NOBYPASSRLS")


def test_the_clock_is_the_databases_and_the_zone_that_of_the_roles_session(schema: Schema) -> None:
    schema.sql("ALTER ROLE $me SET timezone = 'Asia/Kolkata'")
    clock = schema.database.clock()
    assert (clock.zone, clock.offset, clock.ahead) == ("Asia/Kolkata", 19800.0, 0.0)
    apart = datetime.now(UTC) - datetime.fromisoformat(clock.now)
    assert apart.total_seconds() < 60


@pytest.mark.parametrize("ahead", [-3600.0, -3.0, 3.0, 3600.0])
def test_how_far_the_clock_is_ahead_of_the_runners_is_measured(
    schema: Schema, ahead: float
) -> None:
    database = SqlDatabase(schema.database.url, time=lambda: time.time() - ahead)
    assert database.clock().ahead == pytest.approx(ahead, abs=2)


def test_the_runs_start_is_a_moment_beside_a_time_without_a_zone(schema: Schema) -> None:
    """As text it would lose its zone, and rows that are hours older would count as newer."""
    schema.sql("ALTER ROLE $me SET timezone = 'Asia/Kolkata'")
    newer = "SELECT count(*) AS n FROM items WHERE at > :run_started_at"
    start = "2026-03-01T12:00:00+00:00"  # 17:30 in Kolkata, 13:00 in Berlin
    for at, kolkata, berlin in (
        ("2026-03-01 12:30", 0, 0),
        ("2026-03-01 13:30", 0, 2),
        ("2026-03-01 17:31", 2, 2),
    ):
        schema.sql(f"UPDATE items SET at = '{at}'")
        assert schema.ask(newer, run_started_at=start).rows == ((kolkata,),)
        assert schema.ask(newer, "Europe/Berlin", run_started_at=start).rows == ((berlin,),)


def test_sqlite_has_no_roles_and_the_clock_of_this_machine() -> None:
    database = SqlDatabase(parse_url("sqlite://", "URL"))
    clock = database.clock()
    assert clock == DatabaseClock(clock.now, "UTC", 0.0, clock.ahead)
    assert abs(clock.ahead) < 1
    assert database.row_security(Query("SELECT 1 AS n"), {}) == ()
