"""The web application: pages that `Pages` renders, and notice of their changes."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any, NamedTuple, Protocol

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.errors import BackfillError, UsageError
from runner.spec.document import echo

_EVERY = 0.5  # seconds between two looks at the journal; a page is updated within two
_RUNS_KEYS = ("plan", "state")  # in the query of an address
_RUN_KEYS = ("q", "outcome", "stage", "page")
_ALIVE_EVERY = 30  # looks: a proxy must not take silence for the end
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class Mark(NamedTuple):
    """Changes whenever a page would look different; `final` if it never will again."""

    value: str
    final: bool


class BadQuery(UsageError):
    """The query of an address asks for what no page shows."""


_STATUSES: Mapping[type[BackfillError], tuple[int, str]] = {  # the first match counts
    BadQuery: (400, "Not understood"),
    UsageError: (404, "Not found"),
    BackfillError: (503, "The runs cannot be read"),
}


class Pages(Protocol):
    """Renders pages. Each method raises `UsageError` if the run does not exist, and `TargetError`
    without a state; with `asked`, also `BadQuery`.

    `asked`: the query of the address, which says what to show.
    """

    def runs(self, asked: Mapping[str, str], /) -> str: ...

    def run(self, run_id: str, asked: Mapping[str, str], /) -> str: ...

    def error(self, title: str, error: BackfillError, /) -> str: ...

    def events(self, run_id: str, /) -> Iterator[str]:
        """Yield all events of a run, as CSV."""

    def mark(self, run_id: str | None, /) -> Mark:
        """Return the mark of a run's page, or of the list of runs."""


def create_app(
    pages: Pages,
    assets: Mapping[str, str],
    *,
    token: str | None = None,
    ends: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Create the application. `assets`: stylesheets and scripts by name; `token`: None for no
    authentication; `ends`: whether the server is shutting down, so that no more changes are
    sent."""
    types = {"css": "text/css", "js": "text/javascript"}

    def runs(request: Request) -> Response:
        return HTMLResponse(pages.runs(_asked(request, _RUNS_KEYS)))

    def run(request: Request) -> Response:
        return HTMLResponse(pages.run(request.path_params["run"], _asked(request, _RUN_KEYS)))

    def events(request: Request) -> Response:
        run_id = request.path_params["run"]
        _asked(request, ())
        pages.mark(run_id)  # an unknown run must fail before the answer begins
        return StreamingResponse(
            pages.events(run_id),
            media_type="text/csv",
            headers={"content-disposition": f'attachment; filename="{run_id}.csv"'},
        )

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in assets:
            return PlainTextResponse("There is no such file.", 404)
        return Response(assets[name], media_type=types[name.rpartition(".")[2]])

    async def live(request: Request) -> Response:
        run_id = request.path_params.get("run")
        await to_thread.run_sync(pages.mark, run_id)
        return StreamingResponse(_changes(pages, run_id, ends), media_type="text/event-stream")

    async def say(request: Request, error: Exception) -> Response:
        """Answer with a page for a person, with text for a program."""
        if not isinstance(error, BackfillError):
            error = UsageError("There is no such page.")
        status, title = next(said for kind, said in _STATUSES.items() if isinstance(error, kind))
        wants = request.headers.get("accept", "")
        if "html" in wants and not request.url.path.startswith("/live/"):
            return HTMLResponse(pages.error(title, error), status)
        return PlainTextResponse(str(error), status)

    return Starlette(
        routes=[
            Route("/", runs),
            Route("/runs/{run}", run),
            Route("/runs/{run}/events.csv", events),
            Route("/assets/{name}", asset),
            Route("/live/", live),
            Route("/live/runs/{run}", live),
        ],
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={BackfillError: say, 404: say},
    )


def _asked(request: Request, known: Sequence[str]) -> Mapping[str, str]:
    """Return the query of an address, which may have each of the known keys at most once."""
    given = [key for key, _ in request.query_params.multi_items()]
    hint = f"there are: {', '.join(known)}" if known else "it always has all events of the run"
    for key, count in Counter(given).items():
        if key not in known:
            raise BadQuery(f"there is no key {echo(key)} here", hint=hint)
        if count > 1:
            raise BadQuery(f"{echo(key)} is given {count} times", hint="give it once")
    return request.query_params


async def _changes(
    pages: Pages, run_id: str | None, ends: Callable[[], bool]
) -> AsyncIterator[str]:
    """Yield server-sent events: ``change`` whenever the page changes, ``end`` once it never will
    again."""
    shown, silent = None, 0
    while not ends():
        try:
            mark = await to_thread.run_sync(pages.mark, run_id)
        except BackfillError:
            return  # the browser reconnects by itself
        if mark != shown:
            shown, silent = mark, 0
            yield "event: change\ndata: \n\n"
        if mark.final:
            yield "event: end\ndata: \n\n"
            return
        silent += 1
        if silent % _ALIVE_EVERY == 0:
            yield ": still here\n\n"
        await anyio.sleep(_EVERY)


class Guard:
    """Refuses everything but GET and HEAD, and with a token every request without it.

    The token is the password of HTTP Basic, with any user name, so that browsers can ask for it; or
    a bearer token.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: MutableMapping[str, Any]) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if self._token is not None and not self._is_known(headers.get("authorization", "")):
            asks = {"www-authenticate": 'Basic realm="backfill", charset="UTF-8"'}
            return PlainTextResponse("The token is asked for, as the password.", 401, asks)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Read-only.", 405, {"allow": "GET, HEAD"})
        return None

    def _is_known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return secrets.compare_digest(given.encode(), (self._token or "").encode())
