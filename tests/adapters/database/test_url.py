"""A database's URL as people paste it: what it means, and what is said about a faulty one."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.adapters.database.url import DatabaseUrl, parse_url
from runner.errors import UsageError

NAME = "SOME_URL"
PLAIN = {"user": "me", "password": "pw", "host": "h", "dbname": "app"}


def read(text: str) -> Mapping[str, str]:
    return parse_url(text, NAME).options


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("postgresql://me:pw@h/app", PLAIN),
        ("postgres://me:pw@h/app", PLAIN),
        ("postgresql+asyncpg://me:pw@h/app", PLAIN),
        ("postgresql+psycopg2://me:pw@h/app", PLAIN),
        ("PostgreSQL://me:pw@h/app", PLAIN),
        (" postgresql://me:pw@h/app\n", PLAIN),
        ("postgresql://me:pw@h/app?pgbouncer=true&connection_limit=1", PLAIN),
        ("postgresql://me:pw@h/app?supa=base-pooler.x", PLAIN),
        ("postgresql://me:pw@h/app?prepare_threshold=0", PLAIN),
        ("postgresql://me:pw@h/app?sslmode=require", {**PLAIN, "sslmode": "require"}),
        ("postgresql://me:pw@h/app?ssl=true", {**PLAIN, "sslmode": "require"}),
        ("postgresql://me:p%40%2F%23%3A%3F%25@h/app", {**PLAIN, "password": "p@/#:?%"}),
        ("postgresql://me:p:w@h/app", {**PLAIN, "password": "p:w"}),
        ("postgresql://me:a+b@h/app", {**PLAIN, "password": "a+b"}),
        ("postgresql://[::1]:5432/app", {"host": "::1", "port": "5432", "dbname": "app"}),
        ("postgresql://[fe80::1%25eth0]/app", {"host": "fe80::1%eth0", "dbname": "app"}),
        ("postgresql://a:1,b:2/app", {"host": "a,b", "port": "1,2", "dbname": "app"}),
        ("postgresql://%2Frun%2Fpg/app", {"host": "/run/pg", "dbname": "app"}),
        ("postgresql:///app?host=/run/pg", {"host": "/run/pg", "dbname": "app"}),
        ("postgresql://me@/app?host=/run/pg", {"user": "me", "host": "/run/pg", "dbname": "app"}),
        ("postgresql:///app", {"dbname": "app"}),
        ("postgresql://?service=app", {"service": "app"}),
    ],
)
def test_what_people_paste_is_what_libpq_is_told(written: str, options: Mapping[str, str]) -> None:
    found = parse_url(written, NAME)
    assert (found.kind, found.options, found.settings) == ("postgresql", options, {})


@pytest.mark.parametrize(
    ("query", "settings"),
    [
        ("schema=x", {"search_path": '"x"'}),
        ("schema=a%22b", {"search_path": '"a""b"'}),
        ("options=-csearch_path%3Da", {"search_path": "a"}),
        ("options=-c%20search_path%3Da,b%20--role=r", {"search_path": "a,b", "role": "r"}),
        ("options=-c%20DateStyle%3DISO%5C%20x", {"DateStyle": "ISO x"}),
    ],
)
def test_what_a_session_is_set_to_is_kept_for_each_transaction(
    query: str, settings: Mapping[str, str]
) -> None:
    found = parse_url(f"postgresql://h/app?{query}", NAME)
    assert found.settings == settings
    assert found.options == {"host": "h", "dbname": "app"}


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////var/app.db", "/var/app.db"),
        ("sqlite+aiosqlite:///a b%20.db", "a b%20.db"),
        ("sqlite://", ""),
    ],
)
def test_sqlite_has_a_path(written: str, path: str) -> None:
    assert parse_url(written, NAME) == DatabaseUrl(NAME, "sqlite", path)


def test_a_path_alone_is_a_file_where_that_is_asked_for() -> None:
    assert parse_url("dir/state.db", NAME, paths=True).path == "dir/state.db"
    with pytest.raises(UsageError):
        parse_url("dir/state.db", NAME)


# The password, sEcrEt, has a character that a URL must encode, or the URL has another fault.
FAULTY = [
    ("postgresql://me:sE@crEt@h/app", "must be encoded"),
    ("postgresql://me:sE/crEt@h/app", "must be encoded"),
    ("postgresql://me:1/sEcrEt@h/app", "must be encoded"),
    ("postgresql://me:sE#crEt@h/app", "must be encoded"),
    ("postgresql://me:sE?crEt@h/app", "must be encoded"),
    ("postgresql://me:1?sEcrEt=1@h/app", "must be encoded"),
    ("postgresql://me:sE%crEt@h/app", "must be encoded"),
    ("postgresql://me:sE crEt@h/app", "must be encoded"),
    ("postgresql://me:sE%00crEt@h/app", "must be encoded"),
    ("postgresql://me:sE%FFcrEt@h/app", "not UTF-8"),
    ("postgresql://me:sE%0AcrEt@h/app", "control character"),
    ("postgresql://me:[YOUR-PASSWORD]@h/app", "[YOUR-PASSWORD]"),
    ("postgresql://me:sEcrEt@/app", "names no host"),
    ("postgresql://me:sEcrEt@:5432/app", "names no host"),
    ("postgresql://me:sEcrEt@h:port/app", "host and port"),
    ("postgresql://me:sEcrEt@h:0/app", "port"),
    ("postgresql://me:sEcrEt@h:70000/app", "port"),
    (f"postgresql://me:sEcrEt@h:{'9' * 5000}/app", "port"),
    ("postgresql://me:sEcrEt@::1/app", "host and port"),
    ("postgresql://me:sEcrEt@h!x/app", "neither a name nor an address"),
    ("postgresql://me:sEcrEt@h/app?shema=x", "`shema` is not a parameter"),
    ("postgresql://me:sEcrEt@h/app?sEcr!Et=x", "one of its parameters is not a parameter"),
    ("postgresql://me:sEcrEt@h/app?sslmode=sEcrEt", "`sslmode`"),
    ("postgresql://me:sEcrEt@h/app?connect_timeout=sEcrEt", "`connect_timeout`"),
    ("postgresql://me:sEcrEt@h/app?application_name", "`application_name` has no value"),
    ("postgresql://me:sEcrEt@h/app?user=x", "`user` twice"),
    ("postgresql://me:sEcrEt@h/app?options=sEcrEt", "`options`"),
    ("mysql://me:sEcrEt@h/app", "not supported"),
    ("jdbc:postgresql://h/app?password=sEcrEt", "not a database's URL"),
    ("sEcrEt", "not a database's URL"),
    ('"postgresql://me:sEcrEt@h/app"', "not a database's URL"),
    ("", "not a database's URL"),
    ("sqlite://sEcrEt/app.db", "has no host"),
    ("sqlite:///app.db?mode=sEcrEt", "`mode` is not a parameter"),
]


@pytest.mark.parametrize(("written", "words"), FAULTY, ids=[written[:50] for written, _ in FAULTY])
def test_a_faulty_url_is_a_fault_of_its_variable_and_is_not_printed(
    written: str, words: str
) -> None:
    with pytest.raises(UsageError) as refused:
        parse_url(written, NAME)
    assert words in str(refused.value)
    assert NAME in str(refused.value)
    assert refused.value.hint
    shown = f"{refused.value} {refused.value.hint}"
    assert not [part for part in ("sEcrEt", "crEt", "sE") if part in shown]


@given(st.text(string.printable + "äß", max_size=12), st.sampled_from(["", "?sslmode=require"]))
def test_no_text_in_the_place_of_a_password_crashes_or_becomes_a_host(
    password: str, query: str
) -> None:
    with contextlib.suppress(UsageError):
        found = read(f"postgresql://me:{password}@h.example/app{query}")
        assert (found["host"], found["dbname"]) == ("h.example", "app")


def test_neither_the_repr_nor_the_address_shows_who_and_with_what() -> None:
    found = parse_url("postgresql://me:sEcrEt@h/app?sslpassword=aLso", NAME)
    assert found.shown == "postgresql://h/app"
    assert "sEcrEt" not in repr(found)
    assert found.clean("FATAL: no sEcrEt, no aLso") == "FATAL: no ***, no ***"
