"""Probing a server: what it answers, what that means, and that the probe starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import SystemRandom
from typing import Any

import httpx
import pytest

from runner.adapters.http import open_client
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.probe import HttpProbe
from runner.errors import KeyRefused, TargetDown, TargetError
from runner.execution.doctor import examine_target
from runner.execution.ports import Hello
from runner.model import Finding, Function, Trigger
from tests.support import EVENT_KEY, ORIGIN, SIGNING_KEY, server_target

NOW = 1_750_068_000.0  # 2025-06-16T10:00:00Z


def ask(
    handle: Callable[[httpx.Request], httpx.Response], question: Callable[[HttpProbe], Any]
) -> Any:
    async def main() -> Any:
        retry = Retry(asyncio.sleep, SystemRandom(), lambda _: None, stopped=lambda: True)
        async with open_client(httpx.MockTransport(handle)) as client:
            target = server_target()
            follower = HttpJobsApi(client, target, retry)
            return await question(HttpProbe(client, target, follower, clock=lambda: NOW))

    return asyncio.run(main())


def answer(status: int = 200, **content: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _request: httpx.Response(status, **content)


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Mon, 16 Jun 2025 10:00:00 GMT", 0.5),
        ("Mon, 16 Jun 2025 10:05:00 GMT", 300.5),
        ("Mon, 16 Jun 2025 09:00:00 GMT", -3599.5),
        ("yesterday", None),
    ],
)
def test_the_servers_date_tells_how_far_its_clock_is_ahead(date: str, skew: float | None) -> None:
    hello = ask(answer(headers={"date": date}, json={"version": "1.2"}), lambda p: p.hello())
    assert hello == Hello("1.2", skew)


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [(0.5, "ok", "within 30 s"), (300.0, "warn", "300 s behind"), (-90.0, "warn", "90 s ahead of")],
)
def test_a_clock_that_is_apart_is_a_warning_with_its_mend(
    skew: float, level: str, words: str
) -> None:
    class Probe:
        async def hello(self) -> Hello:
            return Hello(None, skew)

        async def accept(self) -> None: ...
        async def follow(self) -> None: ...
        async def api_key(self) -> None: ...
        async def functions(self) -> None: ...

    found: list[Finding] = asyncio.run(examine_target(Probe(), "x", follows=True))
    (clock,) = [finding for finding in found if finding.about == "clock"]
    assert (clock.level, words in clock.message) == (level, True)
    assert (level == "warn") == bool(clock.hint)


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_does_not_tell_its_version_is_there_all_the_same(status: int) -> None:
    assert ask(answer(status), lambda p: p.hello()) == Hello(None, None)


def test_the_version_is_asked_for_with_the_signing_key() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("GET", f"{ORIGIN}/dev")
        assert request.headers["authorization"] == f"Bearer {SIGNING_KEY}"
        return httpx.Response(200, json={"version": "1.2"})

    assert ask(handle, lambda p: p.hello()).version == "1.2"


@pytest.mark.parametrize(
    "response", [(200, '{"ids":[""],"status":200}'), (400, '{"ids":[""],"error":"no events"}')]
)
def test_acceptance_is_asked_for_without_an_event(response: tuple[int, str]) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", f"{ORIGIN}/e/{EVENT_KEY}")
        assert request.content == b"[]"
        assert request.headers["content-type"] == "application/json"
        assert "x-inngest-event-id-seed" not in request.headers
        return httpx.Response(response[0], text=response[1])

    ask(handle, lambda p: p.accept())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, KeyRefused),
        (403, KeyRefused),
        (404, TargetError),
        (200, TargetError),  # such as a login page
        (400, TargetError),
    ],
)
def test_an_answer_that_is_no_acceptance_is_an_error_without_the_key(
    status: int, error: type[TargetError]
) -> None:
    with pytest.raises(error) as raised:
        ask(answer(status, text=EVENT_KEY), lambda p: p.accept())
    assert EVENT_KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("handle", "there"),
    [
        (answer(404, text="404 page not found"), False),
        (answer(404), False),
        (answer(404, json={"error": "event not found"}), True),
        (answer(200, json={"data": []}), True),
    ],
)
def test_a_server_without_the_route_for_jobs_is_doubtful(
    handle: Callable[[httpx.Request], httpx.Response], *, there: bool
) -> None:
    doubt = ask(handle, lambda p: p.follow())
    assert there == (doubt is None)
    assert there or "has no /v1/events (404)" in doubt


def test_a_server_that_does_not_answer_is_down_at_once() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TargetDown):
        ask(handle, lambda p: p.hello())


@pytest.mark.parametrize(
    "handle",
    [
        answer(404, text="404 page not found"),
        answer(401),
        answer(500),
        answer(200, text="<html>a dashboard</html>"),
        answer(200, json={"errors": [{"message": "unknown field"}], "data": None}),
        answer(200, json=["x"]),
    ],
)
def test_a_server_that_cannot_tell_its_functions_is_not_one_without_any(
    handle: Callable[[httpx.Request], httpx.Response],
) -> None:
    assert ask(handle, lambda p: p.functions()) is None


def test_a_star_at_the_end_of_a_trigger_stands_for_anything() -> None:
    assert Function(("f",), (Trigger("app/*"),)).hears("app/sync")
    assert not Function(("f",), (Trigger("app/*"),)).hears("apps/sync")
    assert not Function(("f",), (Trigger("app/sync"),)).hears("app/sync.more")
