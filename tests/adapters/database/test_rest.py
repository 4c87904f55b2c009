"""Supabase's REST interface: what is sent, what counts as an answer, and what never leaks.

The stand-in follows PostgREST's protocol: a Range of rows, cut at `max-rows` without an error; 200
if all rows are sent, else 206; ``*/0`` for none; errors with code, message, details and hint, which
HEAD omits.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from runner.adapters.database.rest import Rest
from runner.errors import KeyRefused, TargetDown, TargetError, UsageError
from runner.model import Json, Query, QueryRefused, Selection, Table, patience

SITE = "https://abcdefgh.supabase.co"
SECRET = "sb_secret_0123456789abcdef"  # noqa: S105
# As PostgREST 14 writes its errors (see its test/spec/Feature/Query), and Supabase's gateway its
# own.
NO_TABLE = {
    "code": "PGRST205",
    "details": None,
    "hint": "Perhaps you meant the table 'public.repositories'",
    "message": "Could not find the table 'public.repos' in the schema cache",
}
NO_COLUMN = {
    "code": "42703",
    "details": None,
    "hint": 'Perhaps you meant to reference the column "repositories.full_name".',
    "message": "column repositories.fullname does not exist",
}
NO_RIGHT = {
    "code": "42501",
    "details": None,
    "hint": None,
    "message": "permission denied for table repositories",
}
NO_SCHEMA = {
    "code": "PGRST106",
    "details": None,
    "hint": "Only the following schemas are exposed: public, graphql_public",
    "message": "Invalid schema: private",
}
BAD_TOKEN = {
    "code": "PGRST301",
    "details": None,
    "hint": None,
    "message": "Expected 3 parts in JWT; got 1",
}
BAD_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}
NO_ROOM = {
    "code": "PGRST002",
    "details": None,
    "hint": None,
    "message": "Could not query the database for the schema cache. Retrying.",
}
TOO_LONG = {
    "code": "57014",
    "details": None,
    "hint": None,
    "message": "canceling statement due to statement timeout",
}
OFFSIDE = {
    "code": "PGRST103",
    "details": "An offset of 1000 was requested, but there are only 900 rows.",
    "hint": None,
    "message": "Requested range not satisfiable",
}
Row = dict[str, Json]


@pytest.fixture(autouse=True)
def real_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleeps take no time here."""
    monkeypatch.setattr("runner.model.patience.FIRST", 10.0)


@dataclass
class Server:
    """One table behind PostgREST. `rows` may depend on the query; `counts`: whether totals are
    given."""

    rows: list[Row] | Callable[[dict[str, str]], list[Row]] = field(default_factory=list)
    table: str = "repositories"
    max_rows: int = 1000
    counts: bool = True
    seen: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        check(request, self.table)
        rows = self.rows if isinstance(self.rows, list) else self.rows(asked(request))
        start, end = (int(number) for number in request.headers["range"].split("-"))
        sent = rows[start : min(end + 1, start + self.max_rows)]
        if start and start >= len(rows):
            return httpx.Response(416, json=OFFSIDE)
        where = f"{start}-{start + len(sent) - 1}" if sent else "*"
        total = f"{len(rows)}" if self.counts else "*"
        status = 206 if self.counts and len(sent) < len(rows) else 200
        body = b"" if request.method == "HEAD" else json.dumps(sent).encode()
        headers = {"content-range": f"{where}/{total}", "content-type": "application/json"}
        return httpx.Response(status, headers=headers, content=body)


def check(request: httpx.Request, table: str = "repositories") -> None:
    """Check what holds for every request."""
    assert request.method in ("GET", "HEAD")
    assert str(request.url).partition("?")[0] == f"{SITE}/rest/v1/{table}"
    assert request.headers["apikey"] == SECRET
    assert "authorization" not in request.headers, "a key of the new kind is no token"
    assert request.headers["accept"] == "application/json"
    assert request.headers["prefer"] == "count=exact"
    assert request.headers["range-unit"] == "items"
    assert request.content == b""
    assert SECRET not in str(request.url)


def asked(request: httpx.Request) -> dict[str, str]:
    """Return the query's parameters; each name must occur once."""
    pairs = parse_qsl(request.url.query.decode(), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def members(filter_: str) -> list[str]:
    """Parse a list as PostgREST does (pListVal in its QueryParams.hs)."""
    inside = re.fullmatch(r"in\.\((.*)\)", filter_, re.DOTALL)
    assert inside
    found = re.findall(r'(?:"((?:[^"\\]|\\.)*)"|([^",()]+))(?:,|$)', inside[1], re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) or bare for quoted, bare in found]


def numbered(count: int) -> list[Row]:
    return [{"id": number} for number in range(count)]


def rest(handle: Callable[[httpx.Request], httpx.Response], **more: Any) -> Rest:
    return Rest(SITE, SECRET, httpx.MockTransport(handle), **{"sleep": lambda _: None} | more)


def ask(
    handle: Callable[[httpx.Request], httpx.Response],
    *columns: str,
    where: Mapping[str, Json] | None = None,
    table: str = "repositories",
    max_rows: int = 100_000,
    **parameters: Json,
) -> Table:
    query = Query(Selection(table, columns or ("id",), where or {}), max_rows=max_rows)
    database = rest(handle)
    try:
        return database.ask(query, parameters)
    finally:
        database.close()


def filters(where: Mapping[str, Json], **parameters: Json) -> dict[str, str]:
    """Return the conditions as they are in the URL."""
    server = Server([{"id": 1}])
    ask(server, where=where, **parameters)
    found = asked(server.seen[0])
    assert found.pop("select") == found.pop("order") == "id"
    return found


def test_the_columns_come_in_the_order_asked_for_and_in_that_order_the_rows() -> None:
    server = Server([{"full_name": "a/b", "id": "7", "size": 1.5, "extra": None}])
    table = ask(server, "id", "full_name", "size")
    assert table == Table(("id", "full_name", "size"), (("7", "a/b", 1.5),))
    (request,) = server.seen
    assert request.method == "GET"
    assert request.url.query == b"select=id,full_name,size&order=id,full_name,size"
    assert request.headers["range"] == "0-999"
    assert "accept-profile" not in request.headers


def test_a_column_may_be_called_something_else() -> None:
    server = Server([{"repo": "a/b", "id": 7}])
    table = ask(server, "full_name as repo", "id")
    assert table == Table(("repo", "id"), (("a/b", 7),))
    assert server.seen[0].url.query == b"select=repo:full_name,id&order=full_name,id"


def test_two_columns_of_one_name_are_refused_and_nothing_is_sent() -> None:
    server = Server([{"a": 1}])
    with pytest.raises(QueryRefused, match="two columns are named `a`"):
        ask(server, "id as a", "size as a")
    assert not server.seen


def test_a_table_of_a_schema_is_asked_for_with_its_profile() -> None:
    server = Server([{"id": 1}], table="runs")
    assert ask(server, table="metrics.runs").rows == ((1,),)
    assert server.seen[0].headers["accept-profile"] == "metrics"


@pytest.mark.parametrize(
    "url", [SITE, f"{SITE}/", f"{SITE}/rest/v1", f"{SITE}/rest/v1/", f" {SITE}\n"]
)
def test_the_url_may_be_written_with_the_interfaces_path_or_without(url: str) -> None:
    server = Server([{"id": 1}])
    database = Rest(url, f"{SECRET}\n", httpx.MockTransport(server))
    assert database.ask(Query(Selection("repositories", ("id",))), {}).rows == ((1,),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("acme/api", "eq.acme/api"),
        ("", "eq."),
        ("null", "eq.null"),
        ('a,b.(c) "d" & e=f+g%41 ü', 'eq.a,b.(c) "d" & e=f+g%41 ü'),
        (7, "eq.7"),
        (2**70, f"eq.{2**70}"),
        (1.5, "eq.1.5"),
        (True, "is.true"),
        (False, "is.false"),
        (None, "is.null"),
        (["a", "b"], 'in.("a","b")'),
        ([1, 2.5, True], "in.(1,2.5,true)"),
        (["a,b", 'say "x"', "back\\slash", "c)", ""], None),
    ],
)
def test_a_value_is_written_in_postgrests_words_and_reads_back_as_it_was(
    value: Json, words: str | None
) -> None:
    for found in (filters({"name": value}), filters({"name": ":it"}, it=value, other=1)):
        assert list(found) == ["name"]
        if words is None:
            assert members(found["name"]) == value
        else:
            assert found["name"] == words


def test_quotes_and_backslashes_of_a_list_are_escaped_and_sent_encoded() -> None:
    server = Server([{"id": 1}])
    ask(server, where={"name": ['a"b', "c\\d"]})
    assert b"&name=in.(%22a%5C%22b%22,%22c%5C%5Cd%22)&" in server.seen[0].url.query


def test_all_conditions_go_into_one_request() -> None:
    found = filters({"owner": ":owner", "is_private": False, "left_at": None}, owner="acme")
    assert found == {"owner": "eq.acme", "is_private": "is.false", "left_at": "is.null"}


def test_columns_called_like_postgrests_own_words_are_quoted() -> None:
    found = filters({"order": 1, "limit": [2], "select": None})
    assert found == {'"order"': "eq.1", '"limit"': "in.(2)", '"select"': "is.null"}


def test_a_parameters_value_is_never_taken_for_another_parameter() -> None:
    assert filters({"name": ":it"}, it=":other") == {"name": "eq.:other"}


def test_a_parameter_that_nothing_is_given_for_is_named_and_nothing_is_sent() -> None:
    server = Server()
    with pytest.raises(QueryRefused, match="parameter :keys") as refused:
        ask(server, where={"id": ":keys"}, ids=[1], repos=[])
    assert refused.value.hint == "there are: :ids, :repos; `params` adds others"
    assert not server.seen


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [{}]])
def test_a_value_of_several_parts_is_refused_and_nothing_is_sent(value: Json) -> None:
    server = Server()
    with pytest.raises(QueryRefused, match="`name`"):
        ask(server, where={"name": value})
    assert not server.seen


@pytest.mark.parametrize("nothing", [[], [None]])
def test_one_of_an_empty_list_gives_nothing_without_a_request(nothing: Json) -> None:
    server = Server(numbered(3))
    where = {"id": ":keys", "owner": ["a"]}
    assert ask(server, "id", "name", where=where, keys=nothing) == Table(("id", "name"), ())
    assert ask(server, "count", where=where, keys=nothing).rows == ((0,),)
    assert not server.seen


def test_no_rows_are_an_answer() -> None:
    server = Server([])
    assert ask(server, "id") == Table(("id",), ())
    assert len(server.seen) == 1


@pytest.mark.parametrize("max_rows", [1000, 400, 100_000])
def test_all_rows_come_however_few_the_server_sends_at_once(max_rows: int) -> None:
    server = Server(numbered(2500), max_rows=max_rows)
    assert ask(server).rows == tuple((number,) for number in range(2500))
    assert {request.url.query for request in server.seen} == {b"select=id&order=id"}
    step = min(max_rows, 1000)
    ranges = [request.headers["range"] for request in server.seen]
    assert ranges == [f"{start}-{start + 999}" for start in range(0, 2500, step)]


def test_a_full_page_that_is_all_there_is_asks_no_further() -> None:
    server = Server(numbered(1000))
    assert len(ask(server).rows) == 1000
    assert len(server.seen) == 1


def test_more_rows_than_allowed_are_refused_on_the_first_page() -> None:
    server = Server(numbered(3573))
    with pytest.raises(QueryRefused, match=r"3,573 rows .* `max_rows` is 3,572") as refused:
        ask(server, max_rows=3572)
    assert refused.value.hint == "narrow the query, or raise its `max_rows`"
    assert len(server.seen) == 1
    assert len(ask(server, max_rows=3573).rows) == 3573


@pytest.mark.parametrize("count", [0, 10, 2500])
def test_a_server_that_tells_no_total_is_refused_even_where_all_may_be_there(count: int) -> None:
    server = Server(numbered(count), counts=False)
    for column in ("id", "count"):
        with pytest.raises(QueryRefused, match="does not give the number of rows"):
            ask(server, column)


def cut(pages: list[tuple[str, int]]) -> Callable[[httpx.Request], httpx.Response]:
    """Answer with these Content-Ranges and numbers of rows."""
    left = iter(pages)

    def handle(request: httpx.Request) -> httpx.Response:
        where, count = next(left)
        headers = {"content-range": where} if where else {}
        return httpx.Response(206, headers=headers, json=numbered(count))

    return handle


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([("0-9/15", 10), ("*/15", 0)], "only 10 of 15 rows were received"),
        ([("*/15", 0), ("*/15", 0)], "only 0 of 15 rows were received"),
        ([("0-9/15", 10), ("10-14/16", 5)], r"changed while they were read \(15, then 16\)"),
        ([("0-9/15", 10), ("0-9/15", 10)], "do not match the Content-Range"),
        ([("0-9/15", 9)], "do not match the Content-Range"),
        ([("*/15", 3)], "do not match the Content-Range"),
        ([("", 3)], "does not give the number"),
        ([("items 0-2/3", 3)], "does not give the number"),
    ],
)
def test_rows_that_do_not_add_up_to_the_total_are_no_answer(
    pages: list[tuple[str, int]], message: str
) -> None:
    with pytest.raises(QueryRefused, match=message):
        ask(cut(pages))


def test_rows_that_go_away_while_they_are_read_are_refused_in_postgrests_words() -> None:
    left = iter([httpx.Response(206, headers={"content-range": "0-999/1500"}, json=numbered(1000))])
    with pytest.raises(QueryRefused, match="range not satisfiable") as refused:
        ask(lambda _: next(left, httpx.Response(416, json=OFFSIDE)))
    assert refused.value.hint == OFFSIDE["details"]


def test_a_long_list_is_split_over_requests_that_fit_and_joined_without_doubles() -> None:
    names = [f'owner-{number}/"repo", {number}' for number in range(3000)]

    def held(query: dict[str, str]) -> list[Row]:
        assert query["owned"] == "is.true"
        return [{"id": name} for name in members(query["id"])]

    server = Server(held)
    table = ask(server, where={"id": ":keys", "owned": True}, keys=[*names, None, *names])
    assert [row[0] for row in table.rows] == names
    assert len(server.seen) > 10
    assert max(len(str(request.url)) for request in server.seen) <= 6000
    server.seen.clear()
    assert ask(server, "count", where={"id": names, "owned": True}).rows == ((3000,),)
    assert len(server.seen) > 10
    server.seen.clear()
    with pytest.raises(QueryRefused, match="`max_rows` is 2,000"):
        ask(server, where={"id": names, "owned": True}, max_rows=2000)


def test_two_long_lists_are_split_so_that_each_pair_is_asked_for_once() -> None:
    pairs: list[tuple[str, str]] = []

    def held(query: dict[str, str]) -> list[Row]:
        new = [(a, b) for a in members(query["a"]) for b in members(query["b"])]
        pairs.extend(new)
        return [{"id": f"{a} {b}"} for a, b in new[:1]]

    ask(Server(held), where={"a": list(range(1000)), "b": [f"{n:050}" for n in range(120)]})
    assert len(pairs) == len(set(pairs)) == 1000 * 120


@pytest.mark.parametrize("count", [0, 1, 2500])
def test_a_count_asks_for_no_rows(count: int) -> None:
    server = Server(numbered(count))
    assert ask(server, "count", where={"owner": "a"}) == Table(("count",), ((count,),))
    assert ask(server, "count").rows == ((count,),)
    assert [request.method for request in server.seen] == ["HEAD", "HEAD"]
    assert [request.url.query for request in server.seen] == [b"owner=eq.a", b""]


def test_count_beside_other_columns_is_a_column() -> None:
    server = Server([{"id": 1, "count": 9}])
    assert ask(server, "id", "count").rows == ((1, 9),)
    assert server.seen[0].method == "GET"


def test_sql_is_refused_and_the_hint_says_both_ways_on() -> None:
    server = Server()
    with pytest.raises(QueryRefused, match="the REST interface cannot run SQL") as refused:
        rest(server).ask(Query("SELECT 1"), {})
    for word in ("`columns`", "`where`", "BACKFILL_DATABASE_URL", "SUPABASE_DB_URL"):
        assert word in str(refused.value.hint)
    assert not server.seen


def fails(status: int, body: Any) -> Callable[[httpx.Request], httpx.Response]:
    """Answer with an error, which HEAD gives without a body."""

    def handle(request: httpx.Request) -> httpx.Response:
        check(request)
        if request.method == "HEAD":
            return httpx.Response(status)
        if isinstance(body, str):
            return httpx.Response(status, text=body)
        return httpx.Response(status, json=body)

    return handle


@pytest.mark.parametrize("column", ["id", "count"])
@pytest.mark.parametrize(
    ("status", "body"), [(404, NO_TABLE), (400, NO_COLUMN), (406, NO_SCHEMA), (416, OFFSIDE)]
)
def test_what_postgrest_refuses_is_told_in_its_own_words(
    status: int, body: dict[str, str], column: str
) -> None:
    with pytest.raises(QueryRefused) as refused:
        ask(fails(status, body), column)
    assert str(refused.value) == body["message"]
    assert refused.value.hint == body["hint"] or body["details"]


@pytest.mark.parametrize("body", ["<html>not found</html>", "", [], "null", {"message": None}])
def test_a_refusal_without_words_still_names_its_status(body: Any) -> None:
    with pytest.raises(QueryRefused, match="the REST interface answers 404"):
        ask(fails(404, body))


def test_a_table_that_the_key_may_not_read_is_the_querys_fault_and_not_the_keys() -> None:
    with pytest.raises(QueryRefused, match="permission denied for table") as refused:
        ask(fails(403, NO_RIGHT))
    assert refused.value.hint == "grant the key's role SELECT on it"


def test_a_question_that_takes_too_long_is_refused_and_not_asked_again() -> None:
    tries = []

    def handle(request: httpx.Request) -> httpx.Response:
        tries.append(request.method)
        return fails(500, TOO_LONG)(request)

    for column in ("id", "count"):
        with pytest.raises(QueryRefused, match="statement timeout") as refused:
            ask(handle, column)
        assert refused.value.hint == "narrow the query, or add an index"
    assert tries == ["GET", "HEAD", "GET"]


@pytest.mark.parametrize("column", ["id", "count"])
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, BAD_TOKEN, "Expected 3 parts in JWT; got 1"),
        (401, BAD_KEY, "Invalid API key"),
        (401, NO_RIGHT, "permission denied"),
        (403, "forbidden", "403"),
        (401, {"message": f"the key {SECRET} is none"}, r"the key \*\*\* is none"),
    ],
)
def test_a_key_that_is_refused_is_named_by_its_variable(
    status: int, body: Any, words: str, column: str
) -> None:
    with pytest.raises(KeyRefused, match=words) as refused:
        ask(fails(status, body), column)
    assert "SUPABASE_SECRET_KEY" in str(refused.value)
    told = f"{refused.value} {refused.value.hint}"
    assert SECRET not in told
    assert "abcdefgh" not in told


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.Response(503, json=NO_ROOM), "it answers 503: Could not query the database"),
        (httpx.Response(540, text="paused"), "it answers 540"),
        (httpx.Response(429), "it answers 429"),
        (httpx.ConnectError(f"no route to {SITE}"), "no connection"),
        (httpx.ReadTimeout("slow"), "no answer in time"),
        (httpx.RemoteProtocolError("cut"), "the connection broke"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_told(
    failure: httpx.Response | Exception, words: str
) -> None:
    server, waits, failures = Server([{"id": 1}]), list[float](), list[str]()

    def fail(request: httpx.Request) -> httpx.Response:
        check(request)
        failures.append(request.method)
        if isinstance(failure, Exception):
            raise failure
        return failure

    def recover(request: httpx.Request) -> httpx.Response:
        return fail(request) if len(failures) < 4 else server(request)

    query = Query(Selection("repositories", ("id",)))
    assert rest(recover, sleep=waits.append).ask(query, {}).rows == ((1,),)
    assert len(waits) == 4
    waits.clear()
    with pytest.raises(TargetDown, match=f"the database cannot be reached: {words}") as down:
        rest(fail, sleep=waits.append).ask(query, {})
    assert sum(waits) == pytest.approx(patience.FIRST), "it is time that counts, and no tries"
    assert "abcdefgh" not in f"{down.value} {down.value.hint}"


def test_it_waits_for_as_long_as_the_server_asks() -> None:
    server, waits, limits = Server([{"id": 1}]), list[float](), ["7", "3"]

    def limited(request: httpx.Request) -> httpx.Response:
        if not limits:
            return server(request)
        return httpx.Response(429, headers={"retry-after": limits.pop()})

    query = Query(Selection("repositories", ("id",)))
    assert rest(limited, sleep=waits.append).ask(query, {}).rows == ((1,),)
    assert waits == [3.0, 7.0]
    limits.append("5")
    with pytest.raises(TargetDown) as down:
        rest(limited, sleep=waits.append).ask(query, {}, once=True)
    assert down.value.wait == 5.0, "so the run waits as long"


def test_asked_once_it_is_not_tried_again() -> None:
    failures, waits = list[str](), list[float]()

    def fail(request: httpx.Request) -> httpx.Response:
        failures.append(request.method)
        return httpx.Response(503)

    query, database = Query(Selection("repositories", ("id",))), rest(fail, sleep=waits.append)
    with pytest.raises(TargetDown, match="it answers 503"):
        database.ask(query, {}, once=True)
    assert (failures, waits) == (["GET"], [])


@pytest.mark.parametrize(("status", "asks"), [(429, {"retry-after": "2"}), (503, {})])
def test_what_is_asked_once_is_not_begun_anew_for_one_of_its_pages(
    status: int, asks: dict[str, str]
) -> None:
    """A server that answers so many requests in a while would never answer the whole question."""
    server, requests, waits = Server(numbered(25), max_rows=10), list[str](), list[float]()

    def limited(request: httpx.Request) -> httpx.Response:
        requests.append(request.headers["range"])
        return httpx.Response(status, headers=asks) if len(requests) % 3 == 0 else server(request)

    query, database = Query(Selection("repositories", ("id",))), rest(limited, sleep=waits.append)
    assert len(database.ask(query, {}, once=True).rows) == 25
    assert (len(requests), len(waits)) == (4, 1)
    requests.append("so that the first one of the next question fails")
    with pytest.raises(TargetDown):
        database.ask(query, {}, once=True)


def test_a_redirect_is_not_followed_because_the_key_would_go_along() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        check(request)
        return httpx.Response(301, headers={"location": "https://elsewhere.test/"})

    with pytest.raises(TargetError, match="SUPABASE_URL redirects"):
        ask(handle)


@pytest.mark.parametrize(
    "body", ["<html>login</html>", "", "{}", "null", '[{"id": 1}, 2]', "[[1]]"]
)
def test_a_success_that_is_no_list_of_rows_is_no_answer(body: str) -> None:
    headers = {"content-range": "0-0/1"}
    with pytest.raises(TargetError, match="not a list of rows"):
        ask(lambda _: httpx.Response(200, headers=headers, text=body))


def test_a_row_without_a_column_that_was_asked_for_is_no_answer() -> None:
    with pytest.raises(QueryRefused, match="no column `name`"):
        ask(Server([{"id": 1, "name": "a"}, {"id": 2}]), "id", "name")


def test_a_value_beyond_every_url_is_refused() -> None:
    with pytest.raises(QueryRefused, match="is too long for a URL"):
        ask(Server(), where={"name": "x" * 70_000})


@pytest.mark.parametrize(
    "url", ["", "abcdefgh.supabase.co", "ftp://a.test", "https://", "https://u:pw@a.test", "http://[",
            f"{SITE}?apikey=x", f"{SITE}#x", "postgresql://u:pw@a.test/db"],
)  # fmt: skip
def test_a_url_that_is_no_plain_address_is_named_by_its_variable_and_not_echoed(url: str) -> None:
    with pytest.raises(UsageError, match="SUPABASE_URL is not a web address") as wrong:
        Rest(url, SECRET)
    assert "pw" not in str(wrong.value)


@pytest.mark.parametrize("key", ["", " ", f"{SECRET}\nx", f"{SECRET}ü", f"a {SECRET}"])
def test_a_key_that_no_header_may_hold_is_named_by_its_variable_and_not_echoed(key: str) -> None:
    with pytest.raises(UsageError, match="SUPABASE_SECRET_KEY has characters") as wrong:
        Rest(SITE, key)
    assert SECRET not in "".join(traceback.format_exception(wrong.value))


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError(SECRET), httpx.Response(401, json=BAD_TOKEN), httpx.Response(200)]
)
def test_the_key_is_in_no_repr_message_or_tracebacks_locals(
    answer: httpx.Response | Exception,
) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    database = rest(handle)
    assert SECRET not in repr(database)
    assert "abcdefgh" not in repr(database)
    with pytest.raises((TargetError, QueryRefused)) as failed:
        database.ask(Query(Selection("repositories", ("id",))), {})
    frames = failed.value.__traceback__
    assert frames
    failed.value.__traceback__ = frames.tb_next  # the test's own frame has the secret
    error = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    assert "database = Rest()" not in "".join(error.format())
    assert "rest.py" in "".join(error.format())
    assert SECRET not in "".join(error.format())


def test_httpx_logs_nothing_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(Server([{"id": 1}]), where={"email": "someone@example.com"})
    assert not [one for one in caplog.records if one.name.startswith("http")]
    assert "someone" not in caplog.text


def test_one_connection_serves_all_questions_and_closes() -> None:
    database = rest(Server([{"id": 1}]))
    query = Query(Selection("repositories", ("id",)))
    assert database.ask(query, {}) == database.ask(query, {})
    database.close()
    with pytest.raises(RuntimeError, match="not running"):
        database.ask(query, {})


@pytest.mark.parametrize("status", [200, 404])
def test_the_time_is_the_servers_and_the_later_end_of_its_second(status: int) -> None:
    """Whatever the status of the root's answer: a row from before a run must not count as newer."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("HEAD", "/rest/v1/")
        return httpx.Response(status, headers={"date": "Sun, 01 Mar 2026 12:00:00 GMT"})

    clock = rest(handle).clock()
    assert (clock.now, clock.zone, clock.offset) == ("2026-03-01T12:00:01+00:00", "UTC", 0.0)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_without_a_date_the_time_is_not_known_and_no_clock_takes_its_place(
    date: str | None,
) -> None:
    headers = {} if date is None else {"date": date}
    with pytest.raises(QueryRefused, match="does not give the time"):
        rest(lambda _: httpx.Response(200, headers=headers)).clock()


def test_a_date_without_a_zone_is_in_utc() -> None:
    headers = {"date": "Sun, 01 Mar 2026 12:00:00 -0000"}
    clock = rest(lambda _: httpx.Response(200, headers=headers)).clock()
    assert clock.now == "2026-03-01T12:00:01+00:00"


@pytest.mark.parametrize(("key", "seen"), [(SECRET, ()), ("some.other.key", None)])
def test_only_a_secret_key_is_known_to_see_all_rows(key: str, seen: Json) -> None:
    database = Rest(SITE, key, httpx.MockTransport(lambda _: httpx.Response(200)))
    assert database.row_security(Query(Selection("items", ("count",))), {}) == seen
