"""Questions to Supabase's REST interface (PostgREST), for users with its key but no password.

PostgREST cuts an answer at its own `max-rows` and reports success, so the total in Content-Range
counts: an answer is complete when it has that many rows.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import httpx

from runner.adapters.database.bounds import ahead, tried
from runner.adapters.database.values import refuse_twins
from runner.adapters.http import (
    Answer,
    AnswerTooLarge,
    BlockingClient,
    Unanswered,
    open_blocking_client,
    parsed,
    retry_after,
)
from runner.errors import BackfillError, KeyRefused, TargetDown, TargetError, UsageError
from runner.model import (
    DatabaseClock,
    Json,
    Query,
    QueryRefused,
    RowSecurity,
    Selection,
    Table,
)
from runner.spec.secrets import redact
from runner.spec.units import counted
from runner.spec.urls import is_http

URL = "SUPABASE_URL"
PAGE = 1000  # rows; also Supabase's default limit for an answer
MAX_FILTERS = 5_500  # characters, of about 8,000 that proxies allow for a URL
_MOST = 64 * 1024 * 1024  # bytes of all pages of an answer
_QUESTION = 120.0  # seconds for all of them
_DEEPEST = 64  # levels of a column that is JSON
_LARGEST = 2.0**63  # beyond it a number in a JSON answer has lost its last digits
# Which rows were sent, and of how many; an unknown total is written *.
_RANGE = re.compile(r"(?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15})")
_LONGEST_URL = 65_536  # characters: httpx accepts no longer URL
_LONGEST_WORDS = 300  # characters
# Names with a meaning for PostgREST, or the gateway before it, unless they are quoted.
_RESERVED = frozenset(
    {"select", "order", "limit", "offset", "columns", "on_conflict", "and", "or", "not", "apikey"}
)
_TOO_LONG, _FORBIDDEN = "57014", "42501"
_OTHERWISE = "set BACKFILL_DATABASE_URL or SUPABASE_DB_URL"  # SQL reads it in one go

# The filter of a column: in PostgREST's syntax, or the encoded members of a list.
Filters: TypeAlias = dict[str, str | list[str]]
Row: TypeAlias = tuple[Json, ...]


@dataclass(slots=True)
class Rest:
    """Implements `runner.model.Database`. No part of the URL or the key ever reaches a message."""

    url: str = field(repr=False)
    key: str = field(repr=False)
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)
    variable: str = "SUPABASE_SECRET_KEY"  # the variable that holds the key
    env: Mapping[str, str] | None = field(default=None, repr=False)  # None: this process's
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    _client: BlockingClient = field(init=False, repr=False)
    _close: ExitStack = field(default_factory=ExitStack, repr=False)
    _left: int = _MOST  # bytes that the answer to the current question may still have
    _until: float = 0.0
    _once: bool = False

    def __post_init__(self) -> None:
        self.url, self.key = _origin(self.url), self.key.strip()
        # httpx and h11 would echo a header's value that they cannot send.
        if not re.fullmatch(r"[!-~]+", self.key):
            hint = "copy the key again from the project's API settings"
            raise UsageError(
                f"{self.variable} has characters that cannot be part of a key", hint=hint
            )
        if _is_public(self.key):
            hint = "use a secret key (sb_secret_...) or the service_role key"
            message = (
                f"{self.variable} has a key for browsers, which reads only what anybody may read"
            )
            raise UsageError(message, hint=hint)
        opened = open_blocking_client(self.transport, env=self.env, headers=_headers(self.key))
        self._client = self._close.enter_context(opened)

    def ask(self, query: Query, parameters: Mapping[str, Json], *, once: bool = False) -> Table:
        if isinstance(query.ask, str):
            hint = f"write it as `table`, `columns` and `where`, or {_OTHERWISE}"
            raise QueryRefused("the REST interface cannot run SQL", hint)
        selection = query.ask
        self._begin(once=once)
        parts = list(_fitting(_filters(selection.where, parameters)))
        if selection.columns == ("count",):
            return Table(("count",), ((sum(self._count(selection, part) for part in parts),),))
        columns = tuple(called for _, called in selection.named)
        refuse_twins(columns)
        rows: list[Row] = []
        for part in parts:
            rows += self._read(selection, part, len(rows), query.max_rows)
        return Table(columns, tuple(rows))

    def clock(self, *, once: bool = False) -> DatabaseClock:
        """Return the server's time. It is in whole seconds, so use the end of the second, lest
        earlier times count as later."""
        self._begin(once=once)
        began = time.time()
        response = self._patiently(self._exchange, "HEAD", f"{self.url}/rest/v1/", {})[0]
        try:
            dated = parsedate_to_datetime(response.headers["date"])
            dated = dated if dated.tzinfo else dated.replace(tzinfo=UTC)  # -0000
            now = dated + timedelta(seconds=1)
        except (KeyError, ValueError, OverflowError):
            raise QueryRefused("the REST interface does not give the time", _OTHERWISE) from None
        apart = ahead(dated.timestamp(), began - 1, time.time())
        return DatabaseClock(now.isoformat(), "UTC", 0.0, apart)

    def row_security(
        self,
        query: Query,  # noqa: ARG002
        parameters: Mapping[str, Json],  # noqa: ARG002
        *,
        once: bool = False,  # noqa: ARG002
    ) -> Sequence[RowSecurity] | None:
        """A secret key sees all rows; what other keys see is unknown."""
        return (
            () if self.key.startswith("sb_secret_") or _role(self.key) == "service_role" else None
        )

    def close(self) -> None:
        self._close.close()

    def _begin(self, *, once: bool) -> None:
        """Begin a question. Until its first answer, it is asked `once` or as long as a connection
        is tried."""
        self._left, self._until, self._once = _MOST, self.monotonic() + _QUESTION, once

    def _count(self, selection: Selection, part: Filters) -> int:
        return _range(self._answer("HEAD", selection.table, _encoded(part), "0-0")[0])[1]

    def _read(self, selection: Selection, part: Filters, taken: int, max_rows: int) -> list[Row]:
        """Read all rows of one part, page by page; `taken` rows of the answer are already there."""
        rows, total = self._page(selection, part, 0)
        if taken + total > max_rows:
            message = f"it gives {taken + total:,} rows or more, and its `max_rows` is {max_rows:,}"
            raise QueryRefused(message, "narrow the query, or raise its `max_rows`")
        while len(rows) < total:
            more, now = self._page(selection, part, len(rows))
            if now != total:
                message = f"the rows changed while they were read ({total:,}, then {now:,})"
                raise QueryRefused(message, f"try again, or {_OTHERWISE}")
            if not more:
                raise QueryRefused(
                    f"only {len(rows):,} of {counted(total, 'row')} were received", _OTHERWISE
                )
            rows += more
        return rows

    def _page(self, selection: Selection, part: Filters, start: int) -> tuple[list[Row], int]:
        """Read the rows from `start` on, as many as come at once, and the total."""
        # Ordered by all selected columns, so that only identical rows may change places.
        order = ",".join(column for column, _ in selection.named)
        wanted = ",".join(f"{a}:{c}" if a != c else c for c, a in selection.named)
        query = _encoded({"select": wanted}, part, {"order": order})
        response, body = self._answer("GET", selection.table, query, f"{start}-{start + PAGE - 1}")
        rows = _rows(body, [called for _, called in selection.named])
        sent, total = _range(response)
        if sent != range(start, start + len(rows)):
            raise QueryRefused("the rows do not match the Content-Range", _OTHERWISE)
        return rows, total

    def _answer(self, method: str, table: str, query: str, items: str) -> Answer:
        """Return a successful answer; retry what may pass by itself."""
        schema, _, name = table.rpartition(".")
        url = f"{self.url}/rest/v1/{quote(name, safe='')}" + (query and f"?{query}")
        headers = {"range": items} | ({"accept-profile": schema} if schema else {})
        return self._patiently(self._try, method, url, headers)

    def _patiently(
        self, what: Callable[..., Answer], method: str, url: str, headers: Mapping[str, str]
    ) -> Answer:
        try:
            answer = tried(
                lambda: what(method, url, headers),
                Unanswered,
                sleep=self.sleep,
                monotonic=self.monotonic,
                until=self._until,
                once=self._once,
            )
        except Unanswered as error:
            hint = f"check {URL} and the network"
            message = f"the database cannot be reached: {error}"
            raise TargetDown(message, hint=hint, wait=error.wait) from None
        self._once = False  # a limited server would never answer all pages of a question begun anew
        return answer

    def _try(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        response, body = self._exchange(method, url, headers)
        if method == "HEAD" and response.is_error:  # it has no body to say why
            response, body = self._exchange("GET", url, headers)
        if not response.is_success:
            raise self._refusal(response, body)
        self._left -= len(body)
        return response, body

    def _exchange(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if len(url) > _LONGEST_URL:
            raise QueryRefused("a value is too long for a URL")
        seconds = self._until - self.monotonic()
        if seconds <= 0:
            message = f"the query has no answer within {_QUESTION:g} s"
            raise QueryRefused(message, "narrow the query, or add an index")
        try:
            return self._client.exchange(
                method, url, headers=headers, seconds=seconds, most=max(1, self._left)
            )
        except AnswerTooLarge:
            message = f"it gives more than {_MOST // 1024 // 1024} MiB"
            raise QueryRefused(message, "narrow the query, or select fewer columns") from None

    def _refusal(
        self, response: httpx.Response, body: bytes
    ) -> QueryRefused | BackfillError | Unanswered:
        status, answer = response.status_code, self._words(body)
        code, message = answer.get("code"), answer.get("message", "")
        hint = answer.get("hint") or answer.get("details")
        words = f"{status}: {message}" if message else f"{status}"
        if code == _TOO_LONG:
            return QueryRefused(message, "narrow the query, or add an index")
        if status in (408, 429) or status >= 500:
            wait = retry_after(response.headers)
            return Unanswered(f"it answers {words}", maybe_taken=False, wait=wait)
        if status == 403 and code == _FORBIDDEN:
            return QueryRefused(message, hint or "grant the key's role SELECT on it")
        if status in (401, 403):
            hint = f"check {self.variable} and {URL}: both must be of the same project"
            return KeyRefused(f"the database refuses {self.variable} ({words})", hint=hint)
        if status < 400:
            hint = f"set {URL} to the address that it redirects to"
            return TargetError(
                f"{URL} redirects ({status}), and keys are not sent to another address", hint=hint
            )
        return QueryRefused(message or f"the REST interface answers {status}", hint)

    def _words(self, body: bytes) -> dict[str, str]:
        """Return PostgREST's code, message, details and hint, of which most may be null."""
        found = _parsed(body)
        if not isinstance(found, dict):  # a proxy's page
            return {}
        answer = {name: text for name, text in found.items() if isinstance(text, str)}
        clean = {name: redact(text.replace(self.key, "***")) for name, text in answer.items()}
        return {name: " ".join(text.split())[:_LONGEST_WORDS] for name, text in clean.items()}


def _origin(written: str) -> str:
    """Normalise the project's address, with or without the interface's path."""
    text = written.strip().rstrip("/").removesuffix("/rest/v1")
    if not is_http(text) or not {"@", "?", "#"}.isdisjoint(text):  # where keys may be
        hint = f"write {URL} like https://abcdefgh.supabase.co"
        raise UsageError(f"{URL} is not a web address", hint=hint)
    return urlsplit(text).geturl().rstrip("/")


def _filters(where: Mapping[str, Json], parameters: Mapping[str, Json]) -> Filters:
    filters: Filters = {}
    for column, written in where.items():
        value = _given(written, parameters)
        name = f'"{column}"' if column in _RESERVED else column
        if isinstance(value, list):
            # NULL equals nothing, and a repeated member must not count twice.
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
        message = f"its parameter {value} has no value"
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
    """Split filters by halving long lists until each part fits into a URL; yield none for an empty
    list."""
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
    """Encode a URL's query."""
    pairs = [
        (name, f"in.({','.join(value)})" if isinstance(value, list) else value)
        for part in parts
        for name, value in part.items()
    ]
    return urlencode(pairs, quote_via=quote, safe=",():")


def _range(response: httpx.Response) -> tuple[range, int]:
    """Return which rows were sent, and how many there are."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        raise QueryRefused("the REST interface does not give the number of rows", _OTHERWISE)
    return (range(int(found[1]), int(found[2]) + 1) if found[1] else range(0)), int(found[3])


def _rows(body: bytes, columns: Sequence[str]) -> list[Row]:
    found = _parsed(body)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        message = "the REST interface's answer is not a list of rows in JSON"
        raise TargetError(
            message, hint=f"check {URL}, and whether a value is a number such as 1e400 or NaN"
        )
    try:
        rows = [tuple(row[column] for column in columns) for row in found]
    except KeyError as missing:
        message = f"the REST interface's answer has no column `{missing.args[0]}`"
        raise QueryRefused(message) from None
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            _check_value(column, value)
    return rows


def _check_value(column: str, value: Json) -> None:
    """Refuse a value that would not arrive intact, naming its column."""
    level: list[Json] = [value]
    for _ in range(_DEEPEST):
        wide = (one for one in level if isinstance(one, float) and abs(one) >= _LARGEST)
        if (largest := next(wide, None)) is not None:
            message = f"`{column}` has a number with too many digits ({largest:g})"
            raise QueryRefused(message, "give it as text, in a view with a cast")
        below = (_members(one) for one in level if isinstance(one, dict | list))
        level = [one for some in below for one in some]
        if not level:
            return
    raise QueryRefused(
        f"`{column}` is nested more than {_DEEPEST} levels deep", "select a part of it"
    )


def _members(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _parsed(body: bytes) -> Json:
    try:
        found: Json = parsed(body)
    except ValueError:
        return None
    return found


def _headers(key: str) -> dict[str, str]:
    """Return the headers. A key of the new kind is no token and is refused as a bearer; an old one
    is both."""
    bearer = {} if key.startswith("sb_") else {"authorization": f"Bearer {key}"}
    return {
        "accept": "application/json",
        "apikey": key,
        "prefer": "count=exact",
        "range-unit": "items",
        **bearer,
    }


def _is_public(key: str) -> bool:
    """Whether it is a publishable key, or the old `anon` one, whose token says so."""
    return key.startswith("sb_publishable_") or _role(key) == "anon"


def _role(key: str) -> Json:
    """Return the role in an old key, which is a token."""
    claims = key.split(".")[1:2]
    try:
        found = _parsed(urlsafe_b64decode(claims[0] + "==")) if claims else None
    except ValueError:
        return None
    return found.get("role") if isinstance(found, dict) else None
