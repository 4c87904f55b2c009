"""The database guard: which values hold, which are invalid, and that it never changes anything."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from runner.adapters.database.open import Databases, configured_url
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import DatabaseUrl
from runner.adapters.guards import Sql, open_guards
from runner.errors import PreflightRefused, UsageError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import QueryRefused, SqlGuard

MEMORY = {"BACKFILL_DATABASE_URL": "sqlite://"}


def ask(
    query: str,
    env: dict[str, str] = MEMORY,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Hold | None:
    async def main() -> Hold | None:
        async with open_guards([SqlGuard(query, at_most, at_least)], env, Path()) as (guard,):
            return await guard.ask()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("value", "at_most", "at_least", "reason"),
    [
        ("5", 5, 5, None),
        ("5.5", 5.5, None, None),
        ("6", 5, None, "the guard's query gives 6, above 5"),
        ("6", 5.5, None, "the guard's query gives 6, above 5.5"),
        ("2000000", 1234567, None, "the guard's query gives 2000000, above 1234567"),
        ("4", None, 5, "the guard's query gives 4, below 5"),
        ("0", 5, 1, "the guard's query gives 0, below 1"),
        ("-0.5", None, 0, "the guard's query gives -0.5, below 0"),
    ],
)
def test_a_value_out_of_its_bounds_holds_for_five_seconds_and_is_named_with_the_bound(
    value: str, at_most: float | None, at_least: float | None, reason: str | None
) -> None:
    hold = ask(f"select {value}", at_most=at_most, at_least=at_least)
    assert hold == (Hold(reason, 5.0) if reason else None)


def test_nobody_waits_for_a_query_whose_guard_is_given_up() -> None:
    """After ^C, the command ended only once its database had answered."""
    asked, released, answered = threading.Event(), threading.Event(), threading.Event()

    class Slow(Databases):
        def ask(self, *_: object) -> NoReturn:
            asked.set()
            released.wait(10)
            answered.set()
            raise QueryRefused("late")

    async def main() -> None:
        asking = asyncio.create_task(Sql(SqlGuard("select 1"), Slow({})).ask())
        await asyncio.to_thread(asked.wait)
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(main())
    assert not answered.is_set()
    released.set()


def test_without_bounds_false_holds() -> None:
    assert ask("select 1 < 2") is None
    assert ask("select 1 > 2") == Hold("the guard's query gives false", 5.0)


@pytest.mark.parametrize("query", ["select 2", "select -1", "select 0.5", "select 'true'"])
def test_without_bounds_only_true_and_false_and_0_and_1_are_answers(query: str) -> None:
    with pytest.raises(GuardUnanswered, match="neither true nor false"):
        ask(query)


@pytest.mark.parametrize("query", ["select null", "select 'x'", "select '7'"])
def test_within_bounds_only_a_number_is_an_answer(query: str) -> None:
    with pytest.raises(GuardUnanswered, match="not give a number"):
        ask(query, at_most=10)


@pytest.mark.parametrize("bound", [None, 10])
@pytest.mark.parametrize(
    "query", ["select 1 where false", "select 1 union select 0", "select 1 a, 1 b"]
)
def test_anything_but_one_row_with_one_column_is_unanswered(
    query: str, bound: float | None
) -> None:
    with pytest.raises(GuardUnanswered, match=r"not give exactly one value|more than 1 row"):
        ask(query, at_most=bound)


def test_null_is_unanswered_without_bounds_too() -> None:
    with pytest.raises(GuardUnanswered):
        ask("select null")


def test_a_percent_sign_and_a_colon_are_no_placeholders(database_url: str) -> None:
    for env in (MEMORY, {"SUPABASE_DB_URL": database_url}):
        assert ask("select '10% :off' like '10%' -- %s %(name)s", env) is None
        assert ask("select 7 % 4", env, at_most=3) is None


@pytest.mark.parametrize(
    "statement",
    [
        "insert into waiting values (13) returning n",
        "delete from waiting returning n",
        "create table made (n)",
        "drop table waiting",
        "select 1) as q; drop table waiting; select * from (select 1",
    ],
)
def test_a_query_on_sqlite_cannot_change_anything(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table waiting (n)")
        connection.execute("insert into waiting values (12)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(GuardUnanswered, match=r"syntax error|one statement"):
        ask(statement, {"BACKFILL_DATABASE_URL": f"sqlite:///{path}"}, at_least=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("create table made as select 1", "syntax error"),
        ("commit; create table made as select 1", "syntax error"),
        ("select 1; rollback; select 1", "syntax error"),
        ("commit", "syntax error"),
        ("select 1) q; commit; create table made as select * from (select 1", "multiple commands"),
        ("select set_config('x.y', pg_catalog.lo_create(0)::text, true)", "read-only"),
        ("select no_such_column", 'column "no_such_column" does not exist'),
        ("select 'NaN'::numeric", "not give a number"),
        ("select 'NaN'::float8", "not give a number"),
        ("select true", "not give a number"),
    ],
)
def test_postgresql_refuses_changes_also_behind_a_commit(
    database_url: str, query: str, words: str
) -> None:
    with pytest.raises(GuardUnanswered, match=words) as error:
        ask(query, {"BACKFILL_DATABASE_URL": database_url}, at_most=1)
    assert "\n" not in str(error.value)
    assert ask("select to_regclass('made') is null", {"SUPABASE_DB_URL": database_url}) is None


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("select 7::bigint", 7),
        ("select 7.5::numeric", 7.5),
        ("select 7.5::float8", 7.5),
    ],
)
def test_numbers_of_postgresql_are_compared_as_numbers(
    database_url: str, query: str, seen: object
) -> None:
    env = {"BACKFILL_DATABASE_URL": database_url}
    assert ask(query, env, at_most=8, at_least=7) is None
    assert ask(query, env, at_most=6) == Hold(f"the guard's query gives {seen}, above 6", 5.0)
    assert ask("select false", env) == Hold("the guard's query gives false", 5.0)


def test_a_query_on_postgresql_is_read_only_and_ends_in_time(
    database_url: str,
) -> None:
    env = {"BACKFILL_DATABASE_URL": database_url}
    for setting, value in (("transaction_read_only", "on"), ("statement_timeout", "30s")):
        assert ask(f"select current_setting('{setting}') = '{value}'", env) is None


@pytest.mark.parametrize("where", ["me:s3cret@127.0.0.1:1/db", "me@127.0.0.1:1/db?password=s3cret"])
def test_a_database_that_is_away_is_unanswered_in_one_line_without_the_password(
    where: str,
) -> None:
    with pytest.raises(GuardUnanswered, match=r"127\.0\.0\.1") as error:
        ask("select 1", {"BACKFILL_DATABASE_URL": f"postgresql://{where}"})
    assert "s3cret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_that_the_database_echoes_is_starred_out() -> None:
    url = DatabaseUrl("URL", "sqlite", options={"password": "no_such_table"})
    guard = Sql(SqlGuard("select * from no_such_table"), SqlDatabase(url))
    with pytest.raises(GuardUnanswered, match=r"no such table: \*\*\*$"):
        asyncio.run(guard.ask())


def test_the_databases_own_variable_beats_supabases_and_an_empty_one_is_none() -> None:
    other = {"SUPABASE_DB_URL": "sqlite:///other"}
    for env, name in (
        ({"BACKFILL_DATABASE_URL": "sqlite:///mine", **other}, "mine"),
        ({"BACKFILL_DATABASE_URL": "", **other}, "other"),
    ):
        assert configured_url(env).path == name


def test_no_variable_is_refused_and_the_hint_names_the_one_to_set() -> None:
    with pytest.raises(PreflightRefused) as error:
        configured_url({"BACKFILL_DATABASE_URL": ""})
    assert "BACKFILL_DATABASE_URL" in str(error.value.hint)


@pytest.mark.parametrize(
    "url",
    [
        "s3cret",
        "postgresql://me:s3cret@host:port/db",
        "s3cret://me@host/db",
        "mysql://me:s3cret@h/d",
    ],
)
def test_a_malformed_or_foreign_url_is_not_echoed(url: str) -> None:
    with pytest.raises(UsageError, match="SUPABASE_DB_URL") as error:
        configured_url({"SUPABASE_DB_URL": url})
    assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_guards_share_one_database() -> None:
    async def main() -> None:
        specs = [SqlGuard("select 1"), SqlGuard("select 2")]
        async with open_guards(specs, MEMORY, Path()) as (first, second):
            assert isinstance(first, Sql)
            assert isinstance(second, Sql)
            assert first.database is second.database

    asyncio.run(main())
