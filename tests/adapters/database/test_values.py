"""Every value of a database becomes JSON by a rule, or a problem that names its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from runner.adapters import driver
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.model import Json, Query, QueryRefused, Table

NAME = "BACKFILL_DATABASE_URL"


def ask(url: str, sql: str, max_rows: int = 1000) -> Table:
    return SqlDatabase(parse_url(url, NAME)).ask(Query(sql, max_rows=max_rows), {})


RULES: list[tuple[str, Json]] = [
    ("1.5::numeric", 1.5),
    ("95.00::numeric", 95),
    ("18446744073709551615::numeric", 18446744073709551615),
    ("-9223372036854775808::numeric", -9223372036854775808),
    ("'NaN'::numeric", None),
    ("'-Infinity'::numeric", None),
    ("'NaN'::float8", None),
    ("'Infinity'::float4", None),
    ("1e308::float8", 1e308),
    ("9223372036854775807::int8", 9223372036854775807),
    ("DATE '2026-11-24'", "2026-11-24"),
    ("DATE '4713-01-01 BC'", "4713-01-01 BC"),
    ("DATE 'infinity'", "infinity"),
    ("TIMESTAMP '2026-11-24 12:00'", "2026-11-24T12:00:00"),
    ("TIMESTAMP '294276-12-31 23:59:59'", "294276-12-31 23:59:59"),
    ("TIMESTAMPTZ '2026-11-24 12:00+02'", "2026-11-24T10:00:00+00:00"),
    ("TIMESTAMPTZ '-infinity'", "-infinity"),
    ("TIMESTAMPTZ '0001-01-01 00:00:00 BC'", "0001-01-01 00:00:00+00 BC"),
    ("TIME '12:00:00.5'", "12:00:00.5"),
    ("TIMETZ '12:00+02'", "12:00:00+02"),
    ("INTERVAL '90 seconds'", 90.0),
    ("INTERVAL '1 year 2 mons -3 days -04:05:06.5'", (365 + 60 - 3) * 86400 - 14706.5),
    ("INTERVAL '178000000 years'", 178000000 * 365 * 86400.0),
    ("INTERVAL '0'", 0.0),
    ("'3f1c9b1e-0000-4000-8000-000000000001'::uuid", "3f1c9b1e-0000-4000-8000-000000000001"),
    ("'::1'::inet", "::1"),
    ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
    ("'12.34'::float8::numeric::money", "$12.34"),
    ("int4range(1, 5)", "[1,5)"),
    ("ROW(1, 'a')", "(1,a)"),
    ("B'101'", "101"),
    ("'{\"a\": [1, null]}'::jsonb", {"a": [1, None]}),
    ("'null'::json", None),
    ("ARRAY[1, NULL, 3]", [1, None, 3]),
    ("'[0:1]={7,8}'::int[]", [7, 8]),
    ("ARRAY[[1.50, 2], [3, 'NaN']]::numeric[]", [[1.5, 2], [3, None]]),
    ("ARRAY[TIMESTAMPTZ '2026-11-24 12:00+02']", ["2026-11-24T10:00:00+00:00"]),
    ("ARRAY['{\"a\": 1}'::jsonb]", [{"a": 1}]),
    ("'[18446744073709551615, -9223372036854775808]'::jsonb", [2**64 - 1, -(2**63)]),
    (
        "'[0.12345678901234567890123, \"12345678901234567890123\"]'::jsonb",
        [0.12345678901234568, "12345678901234567890123"],
    ),
    ("ARRAY['f'::float8, 'NaN']".replace("'f'", "'1.5'"), [1.5, None]),
    ("'{}'::text[]", []),
    ("pg_typeof(1)", "integer"),
    ("NULL::bytea", None),
]


@pytest.mark.parametrize(("written", "value"), RULES, ids=[written for written, _ in RULES])
def test_a_value_becomes_json_by_its_rule(database_url: str, written: str, value: Json) -> None:
    ((found,),) = ask(database_url, f"SELECT {written} AS value").rows
    assert found == value
    assert type(found) is type(value)


REFUSED = [
    ("'\\x00'::bytea", "has bytes"),
    ("ARRAY['\\x00'::bytea]", "has bytes"),
    ("99999999999999999999::numeric", "whole number of more than 64 bits"),
    ("trunc(10::numeric ^ 5000)", "whole number of more than 64 bits"),
    ("'[{\"a\": 18446744073709551616}]'::jsonb", "whole number of more than 64 bits"),
    ("'-9223372036854775809'::json", "whole number of more than 64 bits"),
    ("'{\"a\": 1e20}'::jsonb", "whole number of more than 64 bits"),
    ("10::numeric ^ 400 + 0.5", "too large for JSON"),
    ("(repeat('[', 5000) || repeat(']', 5000))::json", "JSON that cannot be read"),
    ("'\"\\ud800\"'::json", "JSON that cannot be read"),
]


@pytest.mark.parametrize(("written", "words"), REFUSED, ids=[written for written, _ in REFUSED])
def test_what_is_no_json_is_named_with_its_column_and_row(
    database_url: str, written: str, words: str
) -> None:
    sql = f"SELECT n, CASE WHEN n = 3 THEN {written} END AS odd FROM generate_series(1, 4) AS n"
    with pytest.raises(QueryRefused, match="its column `odd` in row 3 ") as refused:
        ask(database_url, sql)
    assert words in str(refused.value)
    assert refused.value.hint


def test_every_type_of_the_server_has_an_answer(database_url: str) -> None:
    """One value of each base type, range, enum, composite and domain, and an array of it."""
    types = ask(
        database_url,
        "SELECT format_type(oid, NULL) AS name FROM pg_type WHERE typtype IN ('b', 'r', 'm')"
        " AND typcategory <> 'A' AND typname NOT IN ('gtsvector', 'xml')"  # not in every build
        " AND typname NOT LIKE 'pg\\_%' AND typnamespace = 'pg_catalog'::regnamespace ORDER BY 1",
    )
    samples = {
        "json": "1", "jsonb": "1", "bit": "1", "bit varying": "1", "money": "1",
        "uuid": "3f1c9b1e-0000-4000-8000-000000000001", "inet": "::1", "cidr": "::1/128",
        "macaddr": "08:00:2b:01:02:03", "macaddr8": "08:00:2b:01:02:03:04:05", "date": "now",
        "timestamp without time zone": "now", "timestamp with time zone": "now", "point": "(1,2)",
        "time without time zone": "now", "time with time zone": "now", "line": "{1,2,3}",
        "lseg": "[(1,2),(3,4)]", "box": "(1,2),(3,4)", "path": "((1,2),(3,4))", "boolean": "t",
        "polygon": "((1,2),(3,4))", "circle": "<(1,2),3>", "regtype": "int4", "tid": "(0,1)",
        "regclass": "pg_class", "regnamespace": "pg_catalog", "regcollation": '"C"',
        "regconfig": "simple", "regdictionary": "simple", "regoper": "||/", "regproc": "now",
        "regoperator": "+(int4,int4)", "regprocedure": "now()", "regrole": "postgres",
        "txid_snapshot": "1:2:", "refcursor": "c", "aclitem": "postgres=r/postgres",
        "regdatabase": "postgres",
    }  # fmt: skip
    columns = []
    for number, (name,) in enumerate(types.rows):
        sample = samples.get(str(name), "{}" if "multirange" in str(name) else "1")
        sample = "empty" if str(name).endswith("range") and sample == "1" else sample
        quoted = sample.replace("'", "''")
        value = f"'{quoted}'::{name}"
        if name != "bytea":  # bytea is refused
            columns += [f"{value} AS c{number}", f"ARRAY[{value}] AS a{number}"]
    found = ask(database_url, f"SELECT {', '.join(columns)}")
    assert len(found.columns) == len(columns) > 100
    assert orjson.dumps(found.rows)


def test_types_of_ones_own_are_text(new_schema: Callable[[str], str]) -> None:
    url = new_schema("types")
    parsed = parse_url(url, NAME)
    schema = parsed.settings["search_path"]
    with driver.connect(parsed, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}")
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        connection.execute("CREATE TYPE pair AS (a int, b text)")
        connection.execute("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    sql = "SELECT 'ok'::mood AS m, ROW(1, 'x')::pair AS p, 5::positive AS d, ARRAY['ok'::mood] AS a"
    assert ask(url, sql).rows == (("ok", "(1,x)", 5, "{ok}"),)


def test_a_role_that_writes_times_its_own_way_changes_nothing(database_url: str) -> None:
    url = f"{database_url}{'&' if '?' in database_url else '?'}options="
    url += "-cDateStyle%3DGerman%20-cIntervalStyle%3Dsql_standard"
    sql = "SELECT TIMESTAMP '2026-11-24 12:00' AS t, INTERVAL '1 day 1 second' AS i"
    assert ask(url, sql).rows == (("2026-11-24T12:00:00", 86401.0),)


STORED: list[tuple[str, Json]] = [
    ("NULL", None),
    ("1", 1),
    ("9223372036854775807", 9223372036854775807),
    ("1.5", 1.5),
    ("9e999", None),
    ("'text'", "text"),
    ("'a' || char(0) || 'b'", "a\0b"),
]


@pytest.mark.parametrize(("written", "value"), STORED)
def test_every_storage_class_of_sqlite_becomes_json(written: str, value: Json) -> None:
    assert ask("sqlite://", f"SELECT {written} AS value").rows == ((value,),)


@pytest.mark.parametrize(
    ("written", "words"),
    [("x'00ff'", "has bytes"), ("CAST(x'ff41' AS TEXT)", "holds text that is not UTF-8")],
)
def test_what_sqlite_has_that_is_no_json_is_named_with_its_column_and_row(
    tmp_path: Path, written: str, words: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute("CREATE TABLE t (n INTEGER, odd)")
        db.execute("INSERT INTO t VALUES (1, 'fine'), (2, NULL)")
        db.execute(f"INSERT INTO t VALUES (3, {written})")
    with pytest.raises(QueryRefused, match="its column `odd` in row 3 ") as refused:
        ask(f"sqlite:///{tmp_path}/app.db", "SELECT * FROM t ORDER BY n")
    assert words in str(refused.value)
    assert refused.value.hint == "leave it out, or hex(COLUMN)", "SQLite has no encode()"
