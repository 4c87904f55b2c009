"""How `backfill serve` registers with a server, and what it says if that fails."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from runner.adapters.worker import registration
    from runner.adapters.worker.app import create_worker
    from runner.adapters.worker.function import create_function
from tests.cli.conftest import Result, served, until
from tests.support import SIGNING_KEY
from tests.worker.test_serve import Site

Backfill = Callable[..., Result]


class Server:
    """Accepts registrations as a server does: one URL per app. `answer`: an answer to give instead.
    `urls`: those of the runs' app.

    `others`: URLs, each of which takes over right after the next registration.
    """

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.others: list[str] = []
        self.plans: dict[str, tuple[str, list[str]]] = {}  # by app of plans: its URL, its functions
        self.answer: Response | None = None
        self.slug = ""
        self.app = Starlette(
            routes=[
                Route("/fn/register", self._register, methods=["POST"]),
                Route("/v0/gql", self._functions),
            ]
        )

    async def _register(self, request: Request) -> Response:
        if self.answer:
            return self.answer
        body = await request.json()
        if "-plans" in body["appname"]:
            functions = [one["id"] for one in body["functions"]]
            self.plans[body["appname"]] = body["url"], functions
            return JSONResponse({"ok": True, "modified": True})
        self.slug = f"{body['appname']}-run"
        self.urls += [body["url"], *self.others[:1]]
        del self.others[:1]
        return JSONResponse({"ok": True, "modified": True})

    async def _functions(self, _: Request) -> Response:
        apps = [{"url": url, "functions": [{"slug": self.slug}]} for url in self.urls[-1:]]
        return JSONResponse({"data": {"apps": apps}})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def site(tmp_path: Path, warm: str, server: Server) -> Iterator[Site]:
    """A site whose `serve` processes register with `server`."""
    with ExitStack() as stack:
        site = Site(tmp_path, stack, warm)
        site.env["INNGEST_BASE_URL"] = stack.enter_context(served(server.app))
        yield site


def log_of(site: Site) -> str:
    return "".join(path.read_text() for path in site.folder.glob("serve-*.log"))


@pytest.mark.parametrize("name", ["INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"])
@pytest.mark.parametrize("key", ["nothexkey", "signkey-prod-nothexkey", SIGNING_KEY + "0"])
def test_a_key_that_cannot_be_one_is_refused_before_anything_and_not_shown(
    name: str, key: str, backfill: Backfill
) -> None:
    done = backfill("serve", env={"INNGEST_SIGNING_KEY": SIGNING_KEY, name: key})
    assert done.status == 4, done.err
    assert f"{name} is not a signing key" in done.err
    assert "hint: a signing key is hexadecimal" in done.err
    assert "nothexkey" not in done.err
    assert SIGNING_KEY not in done.err
    assert "serving" not in done.err


@pytest.mark.parametrize("url", ["notaurl", "worker:8322", "ftp://worker", "http://", "http://w:0"])
def test_what_is_no_url_is_not_registered(
    url: str, server: Server, site: Site, backfill: Backfill
) -> None:
    done = backfill("serve", "--url", url, env=site.env)
    assert done.status == 2, done.err
    assert "--url" in done.err
    assert "hint: write http://host:port" in done.err
    assert not server.urls


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            PlainTextResponse("Authentication failed", 401),
            "the server refuses the signing key (401)",
        ),
        (JSONResponse({"error": "no"}, 401), "the server refuses the signing key (401)"),
        (JSONResponse({"error": "app is odd"}, 400), "the server answers 400: app is odd"),
        (PlainTextResponse("hello"), "the server answers 200: is it an Inngest server?"),
    ],
)
def test_until_the_server_knows_it_the_process_is_not_ready_and_says_why(
    answer: Response, words: str, server: Server, site: Site
) -> None:
    server.answer = answer
    site.serve("--url", "http://worker:8322", ready=False)
    (client,) = site.engine.clients

    def why() -> Any:
        told = client.get("/readyz")
        return told.status_code, told.json().get("why", "")

    until(lambda: words in log_of(site))
    assert why() == (503, "not registered with the Inngest server: see this process's log")
    assert log_of(site).count(words) == 1
    server.answer = None
    until(lambda: why()[0] == 200)
    assert server.urls == ["http://worker:8322/api/inngest"]
    assert "the server knows this process as http://worker:8322/api/inngest" in log_of(site)


def _driver(identity: str) -> Any:
    return SimpleNamespace(identity=identity)


def _daily(*names: str) -> list[Any]:
    return [SimpleNamespace(name=name, cron="TZ=UTC 0 3 * * *") for name in names]


def test_workers_of_one_state_that_are_given_different_plans_keep_their_schedules(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are known by their URL: one that comes back without a plan removes its own schedule,
    and no other's."""
    monkeypatch.setenv("INNGEST_SIGNING_KEY", SIGNING_KEY)
    log = logging.getLogger("test.registration")

    def schedules() -> dict[str, list[str]]:
        return {
            url: [id_.partition("-scheduled-")[2] for id_ in functions if "-scheduled-" in id_]
            for url, functions in server.plans.values()
        }

    async def live(url: str, *names: str) -> None:
        known = len(server.urls)
        worker = create_worker(_driver("0a1b2c3d"), lambda: None, url, log, _daily(*names))
        wanted = {f"{url}/api/inngest/plans": list(names)}
        async with worker.app.router.lifespan_context(worker.app):
            await asyncio.to_thread(
                until, lambda: len(server.urls) > known and schedules() | wanted == schedules()
            )

    with served(server.app) as url:
        monkeypatch.setenv("INNGEST_BASE_URL", url)
        asyncio.run(live("http://east:8322", "nightly", "hourly"))
        asyncio.run(live("http://west:8322", "weekly"))
        asyncio.run(live("http://east:8322", "nightly"))
    assert schedules() == {
        "http://east:8322/api/inngest/plans": ["nightly"],
        "http://west:8322/api/inngest/plans": ["weekly"],
    }
    assert set(server.urls) == {f"http://{one}:8322/api/inngest" for one in ("east", "west")}
    for app, (_, functions) in server.plans.items():
        assert functions[0] == f"{app}-run", "who has the plan drives the runs that it starts"


def test_workers_of_two_states_are_two_apps_and_each_takes_its_own_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", SIGNING_KEY)
    log, found = logging.getLogger("test.registration"), []
    for identity in ("0a1b2c3d", "4e5f6a7b"):
        worker = create_worker(_driver(identity), lambda: None, None, log)
        function = create_function(worker.client, _driver(identity))
        config = function.get_config("http://worker/api/inngest").main
        trigger: Any = config.triggers[0]
        found.append((worker.client.app_id, trigger.expression))
        close = worker.client._http_client._http_client_sync
        close.close()
    assert found == [
        ("backfill-0a1b2c3d", "event.data.app == 'backfill-0a1b2c3d'"),
        ("backfill-4e5f6a7b", "event.data.app == 'backfill-4e5f6a7b'"),
    ]


def test_who_lives_gets_the_function_back_and_names_who_had_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another spelling of this process's URL, as a server may write it, causes no warning."""
    ours, other = "http://127.0.0.1:8322/api/inngest", "http://other:8322/api/inngest"
    monkeypatch.setenv("INNGEST_SIGNING_KEY", SIGNING_KEY)
    monkeypatch.setattr(registration, "_EVERY", (0.001, 0.002))
    log = logging.getLogger("test.registration")
    caplog.set_level(logging.INFO, log.name)

    async def live() -> None:
        worker = create_worker(_driver("0a1b2c3d"), lambda: None, "http://127.0.0.1:8322", log)
        async with worker.app.router.lifespan_context(worker.app):
            await asyncio.to_thread(until, lambda: server.urls[-1:] == [ours])
            server.others.append("http://localhost:8322/api/inngest")
            await asyncio.to_thread(until, lambda: len(server.urls) > 5)
            assert not [one for one in caplog.records if one.levelno > logging.INFO]
            server.others.append(other)
            await asyncio.to_thread(
                until, lambda: f"the server calls {other} instead of this process" in caplog.text
            )
            assert server.urls[-1] == ours

    with served(server.app) as url:
        monkeypatch.setenv("INNGEST_BASE_URL", url)
        asyncio.run(live())
    assert caplog.text.count("the server knows this process") == 1
