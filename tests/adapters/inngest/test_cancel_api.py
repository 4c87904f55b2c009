"""Cancelling a job over HTTP: method, path, key, and what the answers mean."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest

from runner.adapters.inngest.cancel_api import HttpCancelApi
from runner.adapters.inngest.http import Retry, open_client
from runner.adapters.inngest.target import resolve
from runner.errors import KeyRefused, TargetError

ENV = {"INNGEST_SIGNING_KEY": "old-key", "INNGEST_SIGNING_KEY_FALLBACK": "new-key"}


def cancel(*answers: httpx.Response) -> tuple[bool, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.method == "DELETE"
        assert request.url.path == "/v1/runs/01JOB"
        seen.append(request)
        return answers[len(seen) - 1]

    async def no_wait(_seconds: float) -> None:
        return

    async def main() -> bool:
        retry = Retry(no_wait, Random(0), lambda _note: None)  # noqa: S311
        async with open_client(httpx.MockTransport(handle)) as client:
            api = HttpCancelApi(client, resolve("http://inngest.test", ENV), retry)
            return await api.cancel("01JOB")

    return asyncio.run(main()), seen


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_job_that_went_on_is_cancelled(status: int) -> None:
    done, seen = cancel(httpx.Response(status))
    assert done
    assert seen[0].headers["authorization"] == "Bearer old-key"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(409),
        httpx.Response(200, json={"error": "run has ended", "status": 409, "data": None}),
    ],
)
def test_a_job_that_had_ended_or_is_unknown_is_not(answer: httpx.Response) -> None:
    assert cancel(answer)[0] is False


def test_the_fallback_key_is_tried_after_a_rotation() -> None:
    done, seen = cancel(httpx.Response(401), httpx.Response(200))
    assert done
    assert seen[1].headers["authorization"] == "Bearer new-key"


def test_two_refused_keys_are_an_error() -> None:
    with pytest.raises(KeyRefused):
        cancel(httpx.Response(401), httpx.Response(401))


def test_a_passing_fault_is_tried_again_and_a_strange_answer_is_an_error() -> None:
    assert cancel(httpx.Response(503), httpx.Response(200))[0] is True
    with pytest.raises(TargetError, match="answers 418"):
        cancel(httpx.Response(418))
