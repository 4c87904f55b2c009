"""The workers' ASGI application: Inngest's requests, and health checks of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import inngest
from anyio import CapacityLimiter, to_thread

# The SDK's only entry point without a web framework: it takes a request as a mapping.
from inngest import digital_ocean
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.adapters.worker.function import Driver, Scheduled, create_firing, create_function
from runner.adapters.worker.registration import SDK, App, Registration, Signatures
from runner.adapters.worker.request import app_of, plans_app_of
from runner.model import frozen
from runner.spec.secrets import redact

PATH = "/api/inngest"
PLANS_PATH = f"{PATH}/plans"
_AT_ONCE = 32  # requests served at once; each has a thread
_LOG_AGAIN = 60.0  # seconds after which the same reason to refuse is logged again
_CHECK_AGAIN = 1.0  # ... for which a result of /readyz is reused, since anybody may ask it

_Sdk: TypeAlias = Callable[[dict[str, object], Any], Mapping[str, Any]]


@frozen
class Worker:
    """The application, and the SDK's client for its runs, which knows where the server is."""

    app: Starlette
    client: inngest.Inngest


def create_worker(
    driver: Driver,
    ready: Callable[[], str | None],
    url: str | None,
    log: logging.Logger,
    scheduled: Sequence[Scheduled] = (),
    clock: Callable[[], float] = time.time,
) -> Worker:
    """Create the application. `ready` says what is missing, if anything. The server is told that
    this worker is at `url`. The SDK reads its settings and keys from the environment.

    It has two apps: all workers of a state share that of its runs, and have their `scheduled` plans
    in another, by their URL, so that no worker removes what others are given.
    """
    url = url.rstrip("/") if url else None
    runs = _app(app_of(driver.identity), driver, (), url and url + PATH)
    plans = _app(plans_app_of(driver.identity, url), driver, scheduled, url and url + PLANS_PATH)
    client, sdks = runs.client, {PATH: _sdk(runs), PLANS_PATH: _sdk(plans)}
    registration = Registration((runs, plans), log) if url else None
    keys = [key for key in (client.signing_key, client.signing_key_fallback) if key]
    door = _Door(sdks, registration, Signatures(keys, clock), not client.is_production, log)
    health = _Health(ready, registration, log)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if registration is None:
            log.info("this process is not registered with the server: start it with --url")
            yield
        else:
            async with registration.kept():
                yield
        log.info("stopped: no request is in flight, and runs wait for another worker")

    routes = [
        *(Route(path, door.answer, methods=["GET", "POST", "PUT"]) for path in sdks),
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
    ]
    return Worker(Starlette(routes=routes, lifespan=lifespan), client)


def _app(app: str, driver: Driver, scheduled: Sequence[Scheduled], url: str | None) -> App:
    quiet = logging.getLogger("backfill.sdk")
    quiet.setLevel(logging.CRITICAL)  # errors in a step are logged once, by us
    client = inngest.Inngest(app_id=app, logger=quiet)
    functions = [
        create_function(client, driver),
        *(create_firing(client, plan) for plan in scheduled),
    ]
    return App(client, functions, url)


def _sdk(app: App) -> _Sdk:
    parts = urlsplit(app.url or "")
    return digital_ocean.serve(
        app.client,
        list(app.functions),
        enable_unauthed_sync=False,
        # For the answer to a signed request to register; a request's own address is never used.
        serve_origin=f"{parts.scheme}://{parts.netloc}" if app.url else None,
        serve_path=parts.path if app.url else None,
    )


@dataclass
class _Door:
    """Checks requests and passes them on. A dev server has no key and signs nothing, so `unsigned`
    requests are served there, except to register: if there is a key, that needs it."""

    sdks: Mapping[str, _Sdk]  # by path
    registration: Registration | None
    signatures: Signatures
    unsigned: bool
    log: logging.Logger
    _threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_AT_ONCE))
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _logged_at: dict[str, float] = field(default_factory=dict)

    async def answer(self, request: Request) -> Response:
        body, method = await request.body(), "GET" if request.method == "HEAD" else request.method
        signature = request.headers.get("x-inngest-signature")
        if not self._is_open(method) and (why := await self._refusal(signature, body)):
            self._say(method, why)
            return _answer({"message": "Unauthorized"}, 401)
        # In band, the engine receives the functions in the answer; otherwise we register them
        # ourselves.
        in_band = request.headers.get("x-inngest-sync-kind") == "in_band" and not self.unsigned
        if method == "PUT" and not in_band:
            return await self._register()
        return await self._driven(method, request, body)

    def _is_open(self, method: str) -> bool:
        return self.unsigned and not (method == "PUT" and self.signatures.keys)

    async def _refusal(self, signature: str | None, body: bytes) -> str | None:
        """Check the signature in a thread, since a large body takes a second; one at a time."""
        async with self._one:
            return await to_thread.run_sync(self.signatures.refusal, signature, body)

    def _say(self, method: str, why: str) -> None:
        now = time.monotonic()
        kind = why.partition(" is ")[0]  # an age changes with each request
        if now - self._logged_at.get(kind, -_LOG_AGAIN) >= _LOG_AGAIN:
            self._logged_at[kind] = now
            self.log.warning("refused a %s request: %s", method, why)

    async def _register(self) -> Response:
        """Register again, at the address that this process was given: the request's own does not
        count."""
        if self.registration is None:
            message = "This worker was not told where it is: start it with --url."
            return _answer({"message": message}, 400)
        if await self.registration.anew():
            return _answer({"message": "Not registered: the log of this process says why."}, 500)
        return _answer({"message": "Registered at the address that this process was given."}, 200)

    async def _driven(self, method: str, request: Request, body: bytes) -> Response:
        given: dict[str, object] = {
            "http": {
                "method": method,
                "headers": dict(request.headers),
                "queryString": request.url.query,
                "body": body.decode(errors="replace"),
            }
        }
        nowhere = SimpleNamespace(api_host="", function_name="")
        sdk = self.sdks[request.url.path]
        answer = await to_thread.run_sync(sdk, given, nowhere, limiter=self._threads)
        # Encoded as the SDK encodes what it signs.
        content = json.dumps(answer["body"]).encode()
        return Response(content, answer["statusCode"], answer["headers"])


@dataclass
class _Health:
    """Health checks, which anybody may ask: the answers are our own words, and the details are in
    the log."""

    missing: Callable[[], str | None]
    registration: Registration | None
    log: logging.Logger
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _checked_at: float = -_CHECK_AGAIN
    _found: str | None = None

    async def alive(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        why = await self._why()
        if why is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "why": f"{why}: see this process's log"}, 503)

    async def _why(self) -> str | None:
        async with self._one:
            if time.monotonic() - self._checked_at >= _CHECK_AGAIN:
                found = await to_thread.run_sync(self.missing)
                if found is not None and found != self._found:
                    self.log.warning("not ready: %s", redact(found))
                self._found, self._checked_at = found, time.monotonic()
        if self._found is not None:
            return "the state cannot be reached, or is not the one of the runs"
        if self.registration is not None and self.registration.trouble is not None:
            return "not registered with the Inngest server"
        return None


def _answer(body: Mapping[str, object], status: int) -> Response:
    """Add the header by which the server tells an SDK's answer from a proxy's."""
    return JSONResponse(body, status, {"x-inngest-sdk": SDK})
