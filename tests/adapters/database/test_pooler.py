"""Behind a pooler in transaction mode: a real PgBouncer, whose clients share one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.adapters import driver
from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.adapters.journal.store import Store
from runner.errors import KeyRefused
from runner.model import Json, Query, QueryRefused
from tests.pgbouncer import PROGRAM, pooled

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture(scope="module")
def pooler(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pooled(parse_url(database_url, "URL"), tmp_path_factory.mktemp("pgbouncer")) as url:
        yield url


def ask(url: str, sql: str, **parameters: Json) -> Json:
    ((value,),) = SqlDatabase(parse_url(url, "URL")).ask(Query(sql), parameters).rows
    return value


def test_a_question_is_answered_any_number_of_times(pooler: str) -> None:
    for number in range(12):  # by default, a driver prepares a statement at its fifth use
        assert ask(pooler, "SELECT :n::int AS n", n=number) == number


def test_what_the_pooler_refuses_is_not_asked_for(pooler: str) -> None:
    """Such as a time limit or a search path at the start of a connection."""
    url = f"{pooler}?options=-cstatement_timeout%3D5000%20-csearch_path%3Da&pgbouncer=true"
    assert ask(url, "SELECT current_setting('search_path') AS s") == "a"


def test_nothing_is_left_in_the_session_that_the_next_client_gets(pooler: str) -> None:
    shown = "SELECT current_setting('search_path') || current_setting('statement_timeout') AS s"
    other = "SELECT current_setting('transaction_read_only') AS s"
    with driver.connect(parse_url(pooler, "URL"), autocommit=True) as plain:
        before = plain.execute(shown).fetchone()
        assert ask(f"{pooler}?schema=only_mine", shown) == '"only_mine"30s'
        with pytest.raises(QueryRefused):
            ask(pooler, "SELECT nowhere AS n")
        assert plain.execute(shown).fetchone() == before
        assert plain.execute(other).fetchone() == ("off",)


def test_a_question_through_the_pooler_only_reads(pooler: str) -> None:
    with pytest.raises(QueryRefused, match="read-only transaction"):
        ask(pooler, "SELECT lo_create(0)::text AS made")


def test_a_password_that_is_wrong_or_missing_is_a_refusal_and_not_an_absence(
    database_url: str, tmp_path: Path
) -> None:
    with pooled(parse_url(database_url, "URL"), tmp_path, "right") as url:
        right, wrong = (url.replace("@", f":{word}@") for word in ("right", "sEcrEt"))
        assert ask(right, "SELECT 1 AS n") == 1
        with pytest.raises(KeyRefused, match="the database of URL refuses access") as refused:
            ask(wrong, "SELECT 1 AS n")
        assert "sEcrEt" not in str(refused.value)
        assert "check user, password and database in URL" in str(refused.value.hint)
        with pytest.raises(KeyRefused) as refused:
            ask(url, "SELECT 1 AS n")
        assert refused.value.hint == "URL has no password, but the server requires one"


def test_a_state_behind_the_pooler_is_opened_read_and_written_by_two(
    pooler: str, new_schema: Callable[[str], str]
) -> None:
    schema = parse_url(new_schema("pooled"), "URL").settings["search_path"]
    url = f"{pooler}?schema={schema}"
    with Store(url) as first, Store(url) as second:
        for _ in range(12):
            assert first.runs() == second.runs() == []
            first.lock("a plan", "an address", "01RUN").release()
