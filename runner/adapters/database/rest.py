"""Questions to Supabase's REST interface (PostgREST), for who has its key and no password.

PostgREST cuts an answer at its own `max-rows` and calls it a success, so what counts is the total
that it names in Content-Range: an answer is whole when that many rows are there.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import httpx
import orjson
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from runner.errors import BackfillError, KeyRefused, TargetDown, TargetError, UsageError
from runner.model import Json, Query, QueryRefused, Selection, Table
from runner.spec.secrets import redact

URL = "SUPABASE_URL"
KEY = "SUPABASE_SERVICE_ROLE_KEY"
PAGE = 1000  # rows; also what Supabase cuts answers at unless it is told otherwise
MAX_TRIES = 3
MAX_FILTERS = 5_500  # characters, of about 8,000 that proxies let a URL have
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_RANGE = re.compile(r"(?:(\d+)-(\d+)|\*)/(\d+)")  # an unknown total is written *
_LONGEST_WORDS = 300  # characters
# What PostgREST, or the gateway before it, takes for its own unless it is quoted.
_RESERVED = frozenset(
    {"select", "order", "limit", "offset", "columns", "on_conflict", "and", "or", "not", "apikey"}
)
_TOO_LONG, _FORBIDDEN = "57014", "42501"
_OTHERWISE = "set BACKFILL_DATABASE_URL or SUPABASE_DB_URL"  # SQL reads it in one go

# A column's filter: one in PostgREST's words, or the members of a list, each in its words.
Filters: TypeAlias = dict[str, str | list[str]]
Row: TypeAlias = tuple[Json, ...]


class _Unanswered(Exception):
    """A try that may be made again: every question only reads."""


@dataclass(slots=True)
class Rest:
    """Meets `runner.model.Database`. Nothing of the URL or the key ever reaches a message."""

    url: str = field(repr=False)
    key: str = field(repr=False)
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.url, self.key = _origin(self.url), self.key.strip()
        # httpx and h11 would echo a header's value that they cannot send.
        if not re.fullmatch(r"[!-~]+", self.key):
            hint = "copy it anew from the project's API settings"
            raise UsageError(f"{KEY} has characters that no key has", hint=hint)
        for name in ("httpx", "httpcore"):  # they log full URLs, and filters are data
            logging.getLogger(name).disabled = True
        self._client = self._connect()

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        if isinstance(query.ask, str):
            hint = f"write it as `table`, `columns` and `where`, or {_OTHERWISE}"
            raise QueryRefused("the REST interface cannot run SQL", hint)
        selection = query.ask
        parts = list(_fitting(_filters(selection.where, parameters)))
        if selection.columns == ("count",):
            return Table(("count",), ((sum(self._count(selection, part) for part in parts),),))
        rows: list[Row] = []
        for part in parts:
            rows += self._read(selection, part, len(rows), query.max_rows)
        return Table(tuple(called for _, called in selection.named), tuple(rows))

    def close(self) -> None:
        self._client.close()

    def _connect(self) -> httpx.Client:
        try:
            return httpx.Client(
                headers={
                    "accept": "application/json",
                    "apikey": self.key,
                    "authorization": f"Bearer {self.key}",
                    "prefer": "count=exact",
                    "range-unit": "items",
                },
                transport=self.transport,
                timeout=_TIMEOUT,
                follow_redirects=False,
                trust_env=self.transport is None,
            )
        except (ImportError, ValueError, OSError) as error:
            hint = "look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
            message = f"the proxy or certificates cannot be used ({type(error).__name__})"
            raise UsageError(message, hint=hint) from None

    def _count(self, selection: Selection, part: Filters) -> int:
        return _range(self._answer("HEAD", selection.table, _encoded(part), "0-0"))[1]

    def _read(self, selection: Selection, part: Filters, taken: int, max_rows: int) -> list[Row]:
        """All rows of one part, page by page; `taken` rows of the answer are there already."""
        rows, total = self._page(selection, part, 0)
        if taken + total > max_rows:
            message = f"it gives {taken + total:,} rows or more, and its `max_rows` is {max_rows:,}"
            raise QueryRefused(message, "narrow it, or raise its `max_rows`")
        while len(rows) < total:
            more, now = self._page(selection, part, len(rows))
            if now != total:
                message = f"its rows change while they are read ({total:,}, then {now:,})"
                raise QueryRefused(message, f"ask again, or {_OTHERWISE}")
            if not more:
                raise QueryRefused(f"only {len(rows):,} of its {total:,} rows come", _OTHERWISE)
            rows += more
        return rows

    def _page(self, selection: Selection, part: Filters, start: int) -> tuple[list[Row], int]:
        """The rows from `start` on, as many as come at once, and how many there are in all."""
        # In the order of all that is selected, only rows that are alike may change places.
        order = ",".join(column for column, _ in selection.named)
        wanted = ",".join(f"{a}:{c}" if a != c else c for c, a in selection.named)
        query = _encoded({"select": wanted}, part, {"order": order})
        response = self._answer("GET", selection.table, query, f"{start}-{start + PAGE - 1}")
        rows = _rows(response.content, [called for _, called in selection.named])
        sent, total = _range(response)
        if sent != range(start, start + len(rows)):
            raise QueryRefused("the rows are not those that its Content-Range names", _OTHERWISE)
        return rows, total

    def _answer(self, method: str, table: str, query: str, items: str) -> httpx.Response:
        """What is sent back with success; a few tries for what may pass by itself."""
        schema, _, name = table.rpartition(".")
        url = f"{self.url}/rest/v1/{quote(name, safe='')}" + (query and f"?{query}")
        headers = {"range": items} | ({"accept-profile": schema} if schema else {})
        tries = Retrying(
            sleep=self.sleep,
            stop=stop_after_attempt(MAX_TRIES),
            wait=wait_random_exponential(multiplier=0.5, max=3),
            retry=retry_if_exception_type(_Unanswered),
            reraise=True,
        )
        try:
            return tries(self._try, method, url, headers)
        except _Unanswered as error:
            hint = f"look at {URL} and at the network"
            raise TargetDown(f"the database cannot be reached: {error}", hint=hint) from None

    def _try(self, method: str, url: str, headers: Mapping[str, str]) -> httpx.Response:
        try:
            response = self._client.request(method, url, headers=headers)
            if method == "HEAD" and response.is_error:  # it has no body to say why
                response = self._client.get(url, headers=headers)
        except httpx.RequestError as error:
            raise _Unanswered(f"no answer ({type(error).__name__})") from None
        except httpx.InvalidURL:
            raise QueryRefused("a value of it does not fit into a URL") from None
        if not response.is_success:
            raise self._refusal(response)
        return response

    def _refusal(self, response: httpx.Response) -> QueryRefused | BackfillError | _Unanswered:
        status, said = response.status_code, self._said(response.content)
        code, message = said.get("code"), said.get("message", "")
        hint = said.get("hint") or said.get("details")
        words = f"{status}: {message}" if message else f"{status}"
        if code == _TOO_LONG:
            return QueryRefused(message, "narrow it, or add an index")
        if status == 429 or status >= 500:
            return _Unanswered(f"it answers {words}")
        if status == 403 and code == _FORBIDDEN:
            return QueryRefused(message, hint or "grant the key's role SELECT on it")
        if status in (401, 403):
            hint = f"look at {KEY} and {URL}: they must be of one project"
            return KeyRefused(f"the database refuses {KEY} ({words})", hint=hint)
        if status < 400:
            hint = f"set {URL} to the address that it redirects to"
            return TargetError(f"{URL} redirects ({status}), and a key is never sent on", hint=hint)
        return QueryRefused(message or f"the REST interface answers {status}", hint)

    def _said(self, body: bytes) -> dict[str, str]:
        """PostgREST's own words: code, message, details and hint, of which most may be null."""
        found = _parsed(body)
        if not isinstance(found, dict):  # a proxy's page
            return {}
        said = {name: text for name, text in found.items() if isinstance(text, str)}
        clean = {name: redact(text.replace(self.key, "***")) for name, text in said.items()}
        return {name: " ".join(text.split())[:_LONGEST_WORDS] for name, text in clean.items()}


def _origin(written: str) -> str:
    """The project's address, whether it was copied with the interface's path or without."""
    try:
        url = urlsplit(written.strip().rstrip("/").removesuffix("/rest/v1"))
        more = url.username or url.password or url.query or url.fragment  # a place for keys
        plain = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not more
    except ValueError:
        plain = False
    if not plain:
        hint = f"write {URL} like https://abcdefgh.supabase.co"
        raise UsageError(f"{URL} is not a plain web address", hint=hint)
    return url.geturl().rstrip("/")


def _filters(where: Mapping[str, Json], parameters: Mapping[str, Json]) -> Filters:
    filters: Filters = {}
    for column, written in where.items():
        value = _given(written, parameters)
        name = f'"{column}"' if column in _RESERVED else column
        if isinstance(value, list):
            # NULL equals nothing, and a member that is there twice must not count twice.
            members = (_member(column, member) for member in value if member is not None)
            filters[name] = list(dict.fromkeys(members))
        else:
            operator = "is" if value is None or isinstance(value, bool) else "eq"
            filters[name] = f"{operator}.{_scalar(column, value)}"
    return filters


def _given(value: Json, parameters: Mapping[str, Json]) -> Json:
    if not (isinstance(value, str) and value.startswith(":")):
        return value
    if value[1:] not in parameters:
        known = ", ".join(f":{name}" for name in parameters) or "none"
        message = f"nothing is given for its parameter {value}"
        raise QueryRefused(message, f"there are: {known}; `params` adds others")
    return parameters[value[1:]]


def _scalar(column: str, value: Json) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    raise QueryRefused(f"`{column}` cannot equal a value of several parts")


def _member(column: str, value: Json) -> str:
    if not isinstance(value, str):
        return _scalar(column, value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fitting(filters: Filters) -> Iterator[Filters]:
    """The filters, with long lists halved until each part fits into a URL; none for no rows."""
    lists = {name: members for name, members in filters.items() if isinstance(members, list)}
    if not all(lists.values()):
        return
    longest = max(lists, key=lambda name: len(lists[name]), default=None)
    if longest is None or len(lists[longest]) == 1 or len(_encoded(filters)) <= MAX_FILTERS:
        yield filters
        return
    middle = len(lists[longest]) // 2
    yield from _fitting(filters | {longest: lists[longest][:middle]})
    yield from _fitting(filters | {longest: lists[longest][middle:]})


def _encoded(*parts: Mapping[str, str | list[str]]) -> str:
    """A URL's query."""
    pairs = [
        (name, f"in.({','.join(value)})" if isinstance(value, list) else value)
        for part in parts
        for name, value in part.items()
    ]
    return urlencode(pairs, quote_via=quote, safe=",():")


def _range(response: httpx.Response) -> tuple[range, int]:
    """Which rows were sent, and how many there are."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        raise QueryRefused("the REST interface does not say how many rows there are", _OTHERWISE)
    return (range(int(found[1]), int(found[2]) + 1) if found[1] else range(0)), int(found[3])


def _rows(body: bytes, columns: Sequence[str]) -> list[Row]:
    found = _parsed(body)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise QueryRefused("the REST interface's answer is no list of rows", f"look at {URL}")
    try:
        return [tuple(row[column] for column in columns) for row in found]
    except KeyError as missing:
        message = f"the REST interface's answer has no column `{missing.args[0]}`"
        raise QueryRefused(message) from None


def _parsed(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
