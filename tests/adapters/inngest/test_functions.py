"""What a server tells about its functions, and which keys are used to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import httpx
import pytest

from runner.adapters.http import open_client
from runner.adapters.inngest.functions import seconds
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.probe import HttpProbe
from runner.adapters.inngest.target import resolve
from runner.execution.doctor import examine_target
from runner.model import Finding, Function, Rate, Rest, Singleton, Trigger

Handler = Callable[[httpx.Request], httpx.Response]
CONFIGURATION = {
    "debounce": {"period": "10s", "key": "event.data.id"},
    "eventsBatch": {"maxSize": 50, "timeout": "1m30s"},
    "rateLimit": {"limit": 2, "period": "24h0m0s"},
    "throttle": {"limit": 3, "period": "1h0m0s", "burst": 1},
    "singleton": {"key": "event.data.id", "mode": "FUNCTION_SINGLETON_MODE_CANCEL"},
}
CONFIGURED: dict[str, Any] = {
    "debounce": Rest(10, "event.data.id"),
    "batch": Rest(90),
    "rate_limit": Rate(2, 86_400),
    "throttle": Rate(3, 3_600),
    "singleton": Singleton(True, "event.data.id"),
}


def api(handler: Handler, ask: Callable[[HttpJobsApi], Any], **env: str) -> Any:
    async def main() -> Any:
        async with open_client(httpx.MockTransport(handler)) as client:
            retry = Retry(asyncio.sleep, Random(0), lambda _: None)  # noqa: S311
            return await ask(HttpJobsApi(client, resolve("http://server", env), retry))

    return asyncio.run(main())


def functions(handler: Handler, **env: str) -> Sequence[Function] | None:
    found: Sequence[Function] | None = api(handler, lambda one: one.functions(), **env)
    return found


def listed(request: httpx.Request) -> httpx.Response:
    """Answer with two apps on two pages, one with two functions and one with none."""
    query = request.url.params
    assert query["limit"] == "100"
    if request.url.path == "/v2/apps":
        page = {"hasMore": True, "cursor": "next"} if "cursor" not in query else {}
        apps = [{"id": "two words"}] if page else [{"id": "empty"}]
        return httpx.Response(200, json={"data": apps, "page": page})
    if request.url.path != "/v2/apps/two words/functions":
        return httpx.Response(200, json={"page": {}})
    event = {"type": "FUNCTION_TRIGGER_TYPE_EVENT", "value": "app/sync"}
    data: list[dict[str, Any]] = [
        {
            "id": "sync",
            "slug": "sync",
            "isPaused": True,
            "triggers": [
                event | {"if": "event.data.n > 1"},
                {"type": "FUNCTION_TRIGGER_TYPE_CRON", "value": "* * * * *"},
            ],
            "configuration": CONFIGURATION,
        },
        {"id": "old", "slug": "old", "isArchived": True, "triggers": [event]},
        {"id": "none"},
    ]
    return httpx.Response(200, json={"data": data, "page": {}})


def test_all_functions_of_all_apps_are_told_with_their_configuration() -> None:
    trigger = Trigger("app/sync", "event.data.n > 1")
    names = ("two words-sync", "sync")
    assert functions(listed) == (
        Function(names, (trigger,), "two words", **CONFIGURED, paused=True),
        Function(("two words-none", "none"), (), "two words"),
    )


@pytest.mark.parametrize("status", [401, 404, 500, 501])
def test_a_server_without_them_is_asked_by_graphql(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/apps":
            return httpx.Response(status)
        assert (request.method, request.url.path) == ("GET", "/v0/gql")
        assert "authorization" not in request.headers, "the dashboard asks for no key"
        trigger = {"type": "EVENT", "value": "app/sync", "condition": "true"}
        cron = {"type": "CRON", "value": "* * * * *"}
        one = {"id": "uuid", "slug": "a-sync", "triggers": [trigger, cron]}
        found = [{"functions": None}, {"functions": [one | {"configuration": CONFIGURATION}]}]
        return httpx.Response(200, json={"data": {"apps": found}})

    expected = Function(("a-sync", "uuid"), (Trigger("app/sync", "true"),), **CONFIGURED)
    assert functions(handler, INNGEST_SIGNING_KEY="key") == (expected,)


@pytest.mark.parametrize(
    ("refused", "keys"),
    [((), ["api"]), (("api",), ["api", "sign"]), (("api", "sign"), ["api", "sign"])],
)
def test_the_api_key_goes_before_the_signing_key(refused: Sequence[str], keys: list[str]) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith("/v2/"):
            return httpx.Response(404)
        key = request.headers["authorization"].removeprefix("Bearer ")
        if key not in seen:
            seen.append(key)
        return httpx.Response(401) if key in refused else listed(request)

    found = functions(handler, INNGEST_API_KEY="api", INNGEST_SIGNING_KEY="sign")
    assert seen == keys
    assert (found is None) == (len(refused) == 2)


@pytest.mark.parametrize(
    ("env", "status", "expected"),
    [
        ({}, 200, None),
        ({"INNGEST_API_KEY": "sk-inn-api-x"}, 200, ("ok", "accepted")),
        ({"INNGEST_API_KEY": "sk-inn-api-x"}, 401, ("warn", "refuses the API key (401)")),
        ({"INNGEST_API_KEY": "sk-inn-api-x"}, 404, ("warn", "no routes that accept it")),
    ],
)
def test_the_doctor_tells_of_each_key_by_itself(
    env: dict[str, str], status: int, expected: tuple[str, str] | None
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/apps":
            assert request.headers["authorization"] == "Bearer sk-inn-api-x"
            return httpx.Response(status, json={"page": {}})
        return httpx.Response(200, json={"data": []})

    async def examined(follower: HttpJobsApi) -> list[Finding]:
        probe = HttpProbe(follower.client, follower.target, follower)
        return await examine_target(probe, "server", follows=True)

    found = api(handler, examined, INNGEST_SIGNING_KEY="sign", **env)
    assert [f.level for f in found if f.about == "signing key"] == ["ok"]
    told = [(f.level, f.message) for f in found if f.about == "API key"]
    assert len(told) == (expected is not None)
    assert not expected or (told[0][0] == expected[0] and expected[1] in told[0][1])
    assert "sk-inn-api-x" not in str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", 10.0),
        ("1m30s", 90.0),
        ("24h0m0s", 86_400.0),
        ("1.5h", 5_400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("500ms", 0.5),
        ("250µs", 0.00025),
        ("soon", 0.0),
        (7, 0.0),
        (None, 0.0),
    ],
)
def test_durations_are_read_as_the_server_writes_them(text: object, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)
