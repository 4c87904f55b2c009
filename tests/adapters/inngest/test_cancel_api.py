"""Cancelling jobs over HTTP: method, path, key and body, and what the answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import httpx
import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.http import open_client
from runner.adapters.inngest.cancel_api import HttpCancelApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.target import resolve
from runner.errors import KeyRefused, TargetDown, TargetError
from runner.execution.ports import CancelApi

ENV = {"INNGEST_SIGNING_KEY": "old-key", "INNGEST_SIGNING_KEY_FALLBACK": "new-key"}
UNKNOWN = "0" * 26


def _retry() -> Retry:
    async def no_wait(_seconds: float) -> None:
        return

    return Retry(no_wait, Random(0), lambda _note: None)  # noqa: S311


def call(
    use: Callable[[HttpCancelApi], Awaitable[Any]],
    answers: tuple[httpx.Response | Exception, ...],
    env: Mapping[str, str] = ENV,
) -> tuple[Any, list[httpx.Request]]:
    """Return the result, and every request; the answers are given once each, in order."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = answers[len(seen) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> Any:
        async with open_client(httpx.MockTransport(handle)) as client:
            target = resolve("http://inngest.test", env)
            return await use(HttpCancelApi(client, target, _retry()))

    found = asyncio.run(main())
    assert len(seen) == len(answers)
    return found, seen


def cancel(
    *answers: httpx.Response | Exception, env: Mapping[str, str] = ENV
) -> tuple[str | None, list[httpx.Request]]:
    async def use(api: CancelApi) -> str | None:
        return await api.cancel("01JOB")

    done, seen = call(use, answers, env)
    for request in seen:
        assert request.method == "DELETE"
        assert str(request.url) == "http://inngest.test/v1/runs/01JOB"
        assert request.content == b""
    return done, seen


def keys(seen: list[httpx.Request]) -> list[str | None]:
    return [request.headers.get("authorization") for request in seen]


def hidden(status: object, error: str = "it has a reason") -> httpx.Response:
    return httpx.Response(200, json={"error": error, "status": status, "data": None})


@pytest.mark.parametrize(
    "answer",
    [*[httpx.Response(status) for status in (200, 202, 204)], httpx.Response(200, json={})],
)
def test_a_job_that_went_on_is_cancelled(answer: httpx.Response) -> None:
    done, seen = cancel(answer)
    assert done is None
    assert keys(seen) == ["Bearer old-key"]


@pytest.mark.parametrize("body", ["<html>log in</html>", "ok", "[]", "null"])
@pytest.mark.parametrize("status", [200, 202])
def test_a_body_that_is_not_inngests_has_cancelled_nothing(status: int, body: str) -> None:
    """As from a proxy's login page: the job was said to be cancelled, and went on."""
    with pytest.raises(TargetError, match="not Inngest's"):
        cancel(httpx.Response(status, text=body))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404), "404"),
        (httpx.Response(409), "409"),
        (hidden(404), "404"),
        (hidden(409), "409"),
    ],
)
def test_a_job_that_had_ended_or_is_unknown_is_not(answer: httpx.Response, said: str) -> None:
    assert cancel(answer)[0] == said


@pytest.mark.parametrize("answer", [httpx.Response(401), httpx.Response(403), hidden(401)])
def test_the_fallback_key_is_tried_after_a_rotation(answer: httpx.Response) -> None:
    done, seen = cancel(answer, httpx.Response(200))
    assert done is None
    assert keys(seen) == ["Bearer old-key", "Bearer new-key"]


def test_two_refused_keys_are_an_error_that_holds_neither() -> None:
    with pytest.raises(KeyRefused, match="refuses the signing key") as error:
        cancel(httpx.Response(401), httpx.Response(403))
    assert "INNGEST_SIGNING_KEY" in str(error.value.hint)
    assert not any(key in str(error.value) for key in ENV.values())


def test_without_a_key_none_is_sent_and_a_server_that_asks_for_one_is_an_error() -> None:
    _, seen = cancel(httpx.Response(200), env={})
    assert keys(seen) == [None]
    with pytest.raises(KeyRefused, match="requires a key"):
        cancel(httpx.Response(401), env={})


def test_the_branch_environment_and_an_escaped_id_are_sent() -> None:
    _, seen = cancel(httpx.Response(200), env={**ENV, "INNGEST_ENV": "branch"})
    assert seen[0].headers["x-inngest-env"] == "branch"
    _, (request,) = call(lambda api: api.cancel("../../e?x"), (httpx.Response(404),))
    assert request.url.raw_path == b"/v1/runs/..%2F..%2Fe%3Fx"


@pytest.mark.parametrize(
    "fault",
    [httpx.Response(503), httpx.Response(429), hidden(500), httpx.ReadTimeout("slow")],
)
def test_a_passing_fault_is_tried_again(fault: httpx.Response | Exception) -> None:
    assert cancel(fault, httpx.Response(200))[0] is None


def test_a_server_that_stays_away_is_an_error_after_ten_seconds() -> None:
    with pytest.raises(TargetDown, match=r"cancelling at http://inngest\.test: the server answers"):
        cancel(*[httpx.Response(503)] * 7)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(418), "answers 418$"),
        (httpx.Response(400, json={"error": "old-key is off", "status": 400}), r"\*\*\* is off$"),
        (httpx.Response(201), "answers 201$"),
        (httpx.Response(302, headers={"location": "http://evil.test"}), "redirects"),
        (hidden(400), "answers 400: it has a reason$"),
        (hidden(200), "answers 200: it has a reason$"),
        (hidden(None), "answers 200: it has a reason$"),
        (hidden("404"), "answers 200: it has a reason$"),
    ],
)
def test_any_other_answer_is_an_error_and_never_a_job_that_had_ended(
    answer: httpx.Response, words: str
) -> None:
    with pytest.raises(TargetError, match=words) as error:
        cancel(answer)
    assert "old-key" not in str(error.value)


def test_the_embedded_server_does_not_know_a_job_of_another_process() -> None:
    async def main() -> str | None:
        app = create_app({})
        try:
            async with open_client(httpx.ASGITransport(app)) as client:
                api = HttpCancelApi(client, resolve("embedded", {}), _retry())
                return await api.cancel(UNKNOWN)
        finally:
            await app.state.engine.aclose()

    assert asyncio.run(main()) == "404"
