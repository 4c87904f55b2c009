"""Queries to real databases only read, use bound parameters, return all rows, and explain
failures."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from runner.adapters import driver
from runner.adapters.database.open import Databases, configured_url
from runner.adapters.database.postgresql import read
from runner.adapters.database.rest import Rest
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.sqlite import read as read_file
from runner.adapters.database.statement import Statement
from runner.adapters.database.url import parse_url
from runner.errors import KeyRefused, PreflightRefused, TargetDown, TargetError
from runner.model import Json, Query, QueryRefused, Selection, Table
from runner.spec.questions import parameters_of

NAME = "BACKFILL_DATABASE_URL"
ROWS = (
    "INSERT INTO items VALUES (1, 'o/a', 0.5), (2, 'o/b', NULL), (3, 'it''s :not a parameter', 2)"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for the test, with three items."""
    found = f"sqlite:///{tmp_path}/app.db"
    if request.param == "postgresql":
        found = request.getfixturevalue("new_schema")("sql")
    change(found, "CREATE TABLE items (id INTEGER, name TEXT, score NUMERIC)", ROWS)
    return found


@pytest.fixture
def postgresql(new_schema: Callable[[str], str]) -> str:
    return new_schema("sql")


def change(url: str, *statements: str) -> None:
    where = parse_url(url, NAME)
    if where.kind == "sqlite":
        with closing(sqlite3.connect(where.path)) as db, db:
            for statement in statements:
                db.execute(statement)
        return
    with driver.connect(where) as connection:
        for statement in (driver.settings(where), *statements):
            if statement:
                connection.execute(statement.encode())


def ask(url: str, query: str | Selection, *, max_rows: int = 100, **parameters: Json) -> Table:
    database = SqlDatabase(configured_url({NAME: url}))
    try:
        return database.ask(Query(query, max_rows=max_rows), parameters)
    finally:
        database.close()


def values(url: str, query: str | Selection, **parameters: Json) -> list[Json]:
    return [row[0] for row in ask(url, query, **parameters).rows]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO items VALUES (4, 'x', 1)",
        "DELETE FROM items",
        "DELETE FROM items RETURNING id",
        "SELECT 1; DROP TABLE items",
        "SELECT 1) AS q; DROP TABLE items; --",
        "WITH gone AS (DELETE FROM items RETURNING id) SELECT * FROM gone",
        "DROP TABLE items",
    ],
)
def test_nothing_is_written_whatever_is_asked(url: str, sql: str) -> None:
    with pytest.raises(QueryRefused):
        ask(url, sql)
    assert len(ask(url, "SELECT id FROM items").rows) == 3


def test_a_function_that_writes_is_refused_by_the_transaction(postgresql: str) -> None:
    change(postgresql, "CREATE SEQUENCE counter")
    with pytest.raises(QueryRefused, match="read-only transaction"):
        ask(postgresql, "SELECT nextval('counter')")


@pytest.mark.parametrize("value", ["'; DROP TABLE items; --", "o/a' OR '1'='1", ":name"])
def test_values_are_bound_and_never_pasted(url: str, value: str) -> None:
    assert values(url, "SELECT id FROM items WHERE name = :name", name=value) == []
    assert len(ask(url, "SELECT id FROM items").rows) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM items WHERE name = 'it''s :not a parameter'",
        "SELECT id FROM items WHERE id = 3 -- and :this is a comment\n",
        "SELECT id /* :nor this */ FROM items WHERE id = 3;",
    ],
)
def test_what_stands_in_a_literal_or_a_comment_is_no_parameter(url: str, sql: str) -> None:
    assert values(url, sql) == [3]


@pytest.mark.parametrize(
    ("sql", "row"),
    [
        ('SELECT "a :name" FROM (SELECT 1 AS "a :name") q', (1,)),
        ("SELECT :name AS \"it's :name\" -- it's :name", ("o/a",)),
        ('SELECT :name /* "it\'s" :name */ AS x', ("o/a",)),
        ("SELECT $$ it's :name $$ AS a, :name AS b", (" it's :name ", "o/a")),
        ("SELECT $q$ $$ :name $q$ AS a, :name AS b", (" $$ :name ", "o/a")),
        (r"SELECT E'it\'s :name' AS a, :name AS b", ("it's :name", "o/a")),
        (r"SELECT 'a\' AS a, :name AS b", ("a\\", "o/a")),
        ("SELECT '100 %' AS \"50 %\", :name AS b", ("100 %", "o/a")),
    ],
)
def test_what_is_quoted_stays_as_it_is_in_each_form(url: str, sql: str, row: Any) -> None:
    of_postgresql = "$" in sql or "E'" in sql
    if url.startswith("sqlite") and of_postgresql:
        pytest.skip("SQLite does not quote so")
    assert ask(url, sql, name="o/a").rows == (row,)


@pytest.mark.parametrize("begun", ["/*", "$a{}$ ", "'", '"', "E'\\", "`", "$$"])
def test_quotes_that_are_never_closed_are_read_once(begun: str) -> None:
    sql = "".join(begun.format(number) for number in range(50_000))
    assert parameters_of(f"SELECT {sql}") == []


def test_a_cast_is_no_parameter(postgresql: str) -> None:
    assert values(postgresql, "SELECT ('7'::int + :n::int)::text AS n", n=3) == ["10"]


@pytest.mark.parametrize("written", ["IN :keys", "IN (:keys)", "= ANY(:keys)", "in ( :keys )"])
def test_a_list_is_bound_as_one(url: str, written: str) -> None:
    sql = f"SELECT id FROM items WHERE name {written} ORDER BY id"
    assert values(url, sql, keys=["o/a", "o/b", "o/none"]) == [1, 2]
    assert values(url, sql, keys=[]) == []
    with pytest.raises(QueryRefused, match=":keys is not a list"):
        ask(url, sql, keys=5)


def test_a_list_can_be_left_out(url: str) -> None:
    sql = "SELECT id FROM items WHERE name NOT IN :keys ORDER BY id"
    assert values(url, sql, keys=["o/a"]) == [2, 3]


def test_ids_that_are_uuids_are_found_by_text_and_given_as_text(postgresql: str) -> None:
    one = "3f1c9b1e-0000-4000-8000-000000000001"
    change(postgresql, "CREATE TABLE u (id uuid)", f"INSERT INTO u VALUES ('{one}')")
    assert values(postgresql, "SELECT id FROM u WHERE id = ANY(:ids)", ids=[one]) == [one]
    assert values(postgresql, "SELECT id FROM u WHERE id IN :ids", ids=[one]) == [one]


def test_more_rows_than_allowed_are_an_error_and_never_a_cut(url: str) -> None:
    assert len(ask(url, "SELECT id FROM items", max_rows=3).rows) == 3
    with pytest.raises(QueryRefused, match="more than 2 rows") as refused:
        ask(url, "SELECT id FROM items", max_rows=2)
    assert refused.value.hint == "narrow the query, or raise its `max_rows`"
    with pytest.raises(QueryRefused, match=r"more than 1 row$"):
        ask(url, Selection("items", ("id",)), max_rows=1)


@pytest.mark.parametrize("sql", ["SELECT nane FROM items", "SELECT id FROM itmes", "SELEC 1"])
def test_what_is_not_there_is_said_in_the_databases_words(url: str, sql: str) -> None:
    with pytest.raises(QueryRefused, match=r"nane|itmes|syntax error"):
        ask(url, sql)


def test_a_parameter_that_nobody_gives_names_those_that_are_given(url: str) -> None:
    with pytest.raises(QueryRefused, match=":b") as refused:
        ask(url, "SELECT id FROM items WHERE id = :b", a=1)
    assert refused.value.hint == "there are: :a; `params` adds others"


def test_two_columns_of_one_name_are_refused(url: str) -> None:
    with pytest.raises(QueryRefused):
        ask(url, "SELECT a.id, b.id FROM items a JOIN items b ON a.id = b.id")


def test_a_column_is_called_as_it_is_written(url: str) -> None:
    assert ask(url, 'SELECT 1 AS "p:95", 2 AS "a b"').columns == ("p:95", "a b")


def test_an_answer_without_rows_has_its_columns(url: str) -> None:
    assert ask(url, "SELECT id, name FROM items WHERE id = 9") == Table(("id", "name"), ())


TYPES: list[tuple[str, Json]] = [
    ("1.5::numeric", 1.5),
    ("95::numeric", 95),
    ("'NaN'::numeric", None),
    ("'Infinity'::float8", None),
    ("true", True),
    ("NULL::int", None),
    ("DATE '2026-11-24'", "2026-11-24"),
    ("TIMESTAMPTZ '2026-11-24 12:00+02'", "2026-11-24T10:00:00+00:00"),
    ("TIMESTAMP '2026-11-24 12:00'", "2026-11-24T12:00:00"),
    ("INTERVAL '90 seconds'", 90.0),
    ("ARRAY['a', 'b']", ["a", "b"]),
    ("""'{"a": [1, 2]}'::jsonb""", {"a": [1, 2]}),
]


@pytest.mark.parametrize(("written", "value"), TYPES, ids=[written for written, _ in TYPES])
def test_values_are_those_of_json(postgresql: str, written: str, value: Json) -> None:
    found = values(postgresql, f"SELECT {written} AS value")
    assert found == [value]
    assert type(found[0]) is type(value)


def test_bytes_are_no_json(postgresql: str) -> None:
    with pytest.raises(QueryRefused, match="bytes") as refused:
        ask(postgresql, "SELECT '\\x00'::bytea AS raw")
    assert refused.value.hint == "leave it out, or encode(COLUMN, 'hex')"


def test_a_role_without_the_right_is_told_which(postgresql: str) -> None:
    change(
        postgresql,
        "CREATE TABLE hidden (id int)",
        "DROP ROLE IF EXISTS blind",
        "CREATE ROLE blind",
        "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO blind', current_schema()); END $$",
    )
    try:
        mark = "%20-crole%3Dblind"
        with pytest.raises(QueryRefused, match="permission denied for table hidden") as refused:
            ask(postgresql + mark, "SELECT id FROM hidden")
        assert refused.value.hint == "grant the role SELECT on it"
    finally:
        change(postgresql, "DROP OWNED BY blind", "DROP ROLE blind")


def test_a_question_has_its_time(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.adapters.database.bounds.PATIENCE", 1)
    with pytest.raises(QueryRefused, match="no answer within 1 s"):
        ask(postgresql, "SELECT pg_sleep(60)::text AS slept")


def test_a_question_that_somebody_cancels_is_not_called_late(postgresql: str) -> None:
    change(
        postgresql,
        "CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE SQLSTATE '57014' USING MESSAGE = 'canceled by the operator'; END $$",
    )
    with pytest.raises(QueryRefused, match="canceled by the operator"):
        ask(postgresql, "SELECT slow() AS n")


def test_a_file_whose_writer_died_is_away_until_that_is_undone(tmp_path: Path) -> None:
    """Only who may write can undo what is half done; the plan and its query are right."""
    living, dead = tmp_path / "living.db", tmp_path / "dead.db"
    with closing(sqlite3.connect(living, isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 200)
        db.execute("PRAGMA cache_size = 1")  # what is changed is written at once
        db.execute("BEGIN")
        db.execute("UPDATE t SET x = 'y' || x")
        for file in tmp_path.glob("living.db*"):
            shutil.copy(file, str(file).replace("living", "dead"))
        db.execute("ROLLBACK")
    url, query = parse_url(f"sqlite:///{dead}", NAME), Statement("SELECT count(*) AS n FROM t", {})
    with pytest.raises(TargetDown, match="a program died while it wrote to it") as away:
        read_file(url, query)
    assert f"sqlite3 {dead} .tables" in str(away.value.hint)
    with closing(sqlite3.connect(dead)) as db:
        db.execute("SELECT * FROM t").fetchall()
    assert read_file(url, query)[1] == [(200,)]


def test_a_server_that_is_not_there_is_named_by_its_variable_alone() -> None:
    with pytest.raises(TargetDown, match=f"the database of {NAME} cannot be reached") as down:
        ask("postgresql://someone:hunter2@127.0.0.1:1/app", "SELECT 1 AS one")
    assert "hunter2" not in f"{down.value} {down.value.hint}"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ('FATAL:  password authentication failed for user "me"', KeyRefused),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »me« fehlgeschlagen", KeyRefused),
        ("FATAL:  SASL authentication failed", KeyRefused),
        ('FATAL:  role "me" is not permitted to log in', KeyRefused),
        ('FATAL:  database "app" does not exist', KeyRefused),
        ("FATAL:  no such database: app", KeyRefused),
        ('FATAL:  too many connections for role "me"', TargetDown),
        ("FATAL:  remaining connection slots are reserved for roles with ...", TargetDown),
        ("FATAL:  the database system is shutting down", TargetDown),
        ("FATAL:  server login has been failing, try again later", TargetDown),
        ("server closed the connection unexpectedly", TargetDown),
    ],
)
def test_a_server_that_is_full_or_stops_after_the_password_is_away_and_does_not_refuse_it(
    monkeypatch: pytest.MonkeyPatch, words: str, kind: type[TargetError]
) -> None:
    def fails(*_: object, **__: object) -> None:
        used: Any = SimpleNamespace(needs_password=False, used_password=True)
        message = f'connection to server at "password-host", port 5432 failed: {words}'
        raise psycopg.OperationalError(message, pgconn=used)

    monkeypatch.setattr(driver, "connect", fails)
    with pytest.raises(kind) as failed:
        read(parse_url("postgresql://me:secret@127.0.0.1/app", NAME), Statement("SELECT 1", {}))
    assert type(failed.value) is kind


@pytest.mark.parametrize("state", ["40001", "40P01", "53200", "57P01"])
def test_what_may_pass_by_itself_is_asked_again(postgresql: str, state: str) -> None:
    """Such as a conflict with what a replica receives."""
    change(
        postgresql,
        "CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE SQLSTATE '{state}'; END $$",
    )
    with pytest.raises(TargetDown, match="cannot be reached"):
        read(parse_url(postgresql, NAME), Statement("SELECT fails() AS n", {}))


def test_whether_rows_are_hidden_is_told_in_the_same_words_where_it_cannot_be(
    postgresql: str,
) -> None:
    """A database may vanish, or become slow, between a query and this one."""

    def hidden(url: str, sql: str) -> object:
        return SqlDatabase(configured_url({NAME: url})).row_security(Query(sql), {})

    assert hidden(postgresql, "SELECT 1 AS one") == []
    with pytest.raises(TargetDown, match=f"the database of {NAME} cannot be reached"):
        hidden("postgresql://someone:hunter2@127.0.0.1:1/app", "SELECT 1 AS one")
    for sql, words in (("SELECT 1/0 AS n", "division"), ("SELECT n FROM nowhere", "nowhere")):
        with pytest.raises(QueryRefused, match=words):
            hidden(postgresql, sql)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.db", "does not exist"),
        ("file/below.db", "does not exist"),
        (".", "is not a file"),
        ("x" * 5_000, "cannot be read: File name too long"),
    ],
)
def test_a_file_that_is_none_is_named_and_not_made(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetDown, match=f"cannot be reached: .* {words}$"):
        ask(f"sqlite:///{tmp_path}/{name}", "SELECT 1 AS one")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, [1, 2, 3]),
        ({"name": "o/a"}, [1]),
        ({"score": None}, [2]),
        ({"name": ["o/a", "o/b"]}, [1, 2]),
        ({"name": ":keys", "id": 2}, [2]),
    ],
)
def test_a_selection_is_what_rest_would_answer(
    url: str, where: dict[str, Any], ids: list[int]
) -> None:
    given = {"keys": ["o/a", "o/b"]}
    assert sorted(values(url, Selection("items", ("id", "name"), where), **given)) == ids
    assert values(url, Selection("items", ("count",), where), **given) == [len(ids)]


@pytest.mark.parametrize(
    "selection",
    [
        Selection("items", ("nowhere",)),
        Selection("items", ("count",), {"nowhere": None}),
        Selection("items", ("count",), {"nowhere": "nowhere"}),
        Selection("items", ("id", "count")),
    ],
)
def test_a_column_that_is_not_there_is_refused_and_is_no_text(
    url: str, selection: Selection
) -> None:
    """SQLite takes "nowhere" for a text, and the count of what is missing would be 0."""
    with pytest.raises(QueryRefused, match=r"nowhere|count"):
        ask(url, selection)


def test_a_selection_may_call_its_columns_something_else(url: str) -> None:
    found = ask(url, Selection("items", ("name as repo", "id"), {"name": "o/a"}))
    assert found == Table(("repo", "id"), (("o/a", 1),))


def test_databases_have_names_and_remember_what_they_were_asked(tmp_path: Path) -> None:
    first, second = f"sqlite:///{tmp_path}/1.db", f"sqlite:///{tmp_path}/2.db"
    for at, number in ((first, 1), (second, 2)):
        change(at, "CREATE TABLE t (n INTEGER)", f"INSERT INTO t VALUES ({number})")
    databases = Databases({NAME: first, "OTHER_URL": second}, {"other": "OTHER_URL"})
    assert databases.ask(Query("SELECT n FROM t"), {}).rows == ((1,),)
    assert databases.ask(Query("SELECT n FROM t", "other"), {}).rows == ((2,),)
    assert [(timing.query, timing.rows) for timing in databases.timings] == [
        ("SELECT n FROM t", 1)
    ] * 2
    with pytest.raises(QueryRefused, match="there is no database `othr`") as refused:
        databases.ask(Query("SELECT 1", "othr"), {})
    assert "other" in str(refused.value.hint)
    databases.close()


@pytest.mark.parametrize("env", [{}, {"SUPABASE_URL": "https://x.supabase.co"}])
def test_without_a_database_what_to_set_is_said(env: dict[str, str]) -> None:
    with pytest.raises(PreflightRefused) as refused:
        Databases(env).ask(Query("SELECT 1"), {})
    for name in (NAME, "SUPABASE_URL", "SUPABASE_SECRET_KEY"):
        assert name in str(refused.value.hint)


def test_the_rest_interface_is_used_where_there_is_nothing_else(tmp_path: Path) -> None:
    keys = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SECRET_KEY": "k"}
    assert isinstance(Databases(keys).connection(None), Rest)
    both = {**keys, NAME: f"sqlite:///{tmp_path}/1.db"}
    assert isinstance(Databases(both).connection(None), SqlDatabase)


@pytest.mark.parametrize("what", ["ask", "clock", "row_security"])
def test_in_a_run_a_database_that_is_away_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The run itself tries again: it says so, and its limits count."""
    tries: list[str] = []

    def away(*_: object) -> None:
        tries.append(what)
        raise TargetDown("it is away", hint="wait")

    for name in ("read", "row_security"):
        monkeypatch.setattr(f"runner.adapters.database.postgresql.{name}", away)
    databases = Databases({NAME: "postgresql://someone@127.0.0.1:1/app"})

    def asked(of: Databases) -> int:
        tries.clear()
        with pytest.raises(TargetDown):
            of.clock(None) if what == "clock" else getattr(of, what)(Query("SELECT 1 AS n"), {})
        return len(tries)

    assert asked(databases.for_a_run()) == 1
    assert asked(databases) > 1
