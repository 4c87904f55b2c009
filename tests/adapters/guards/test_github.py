"""The rate-limit guard: what it sends, how long it holds, and which answers are invalid."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.adapters.guards import open_guards
from runner.adapters.guards_http import Github
from runner.adapters.http import open_client
from runner.errors import UsageError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import GithubGuard

TOKEN = "ghp-of-the-test"  # noqa: S105
NOW = 1_000_000.0


def ask(answer: httpx.Response | Exception, needs: int = 500) -> Hold | None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        assert str(request.url) == "https://gh.test/api/rate_limit"
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.content == b""
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> Hold | None:
        async with open_client(httpx.MockTransport(handle)) as client:
            spec = GithubGuard(needs)
            guard = Github(spec, client, "https://gh.test/api", TOKEN, lambda: NOW)
            assert TOKEN not in repr(guard)
            return await guard.ask()

    return asyncio.run(main())


def limits(**core: Any) -> httpx.Response:
    usual = {"limit": 5000, "remaining": 12, "reset": int(NOW) + 60}
    return httpx.Response(200, json={"resources": {"core": usual | core}})


@pytest.mark.parametrize(
    ("reset", "seconds"), [(60, 61), (1, 2), (0, 2), (-50, 2), (3_600, 3_601), (9_999, 3_700)]
)
def test_it_asks_again_a_second_after_the_reset_and_within_about_an_hour(
    reset: int, seconds: float
) -> None:
    hold = ask(limits(reset=int(NOW) + reset))
    assert hold is not None
    assert hold.seconds == seconds


def test_the_reason_names_what_is_left_what_is_needed_and_when_there_is_more() -> None:
    hold = ask(limits(reset=1_000_000 + 1_100))
    assert hold is not None
    assert hold.reason == "GitHub has 12 of 5,000 points left (needs 500) until 14:05 UTC"


def test_just_enough_points_are_enough() -> None:
    assert ask(limits(remaining=500)) is None
    assert ask(limits(remaining=499)) is not None


@pytest.mark.parametrize(
    "answer",
    [
        *[httpx.Response(status) for status in (204, 301, 302, 401, 403, 404, 429, 500, 503)],
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"resources": {"core": None}}),
        httpx.Response(200, text="<html>login</html>"),
        httpx.Response(200, content=b" " * 70_000 + limits().content),
        limits(remaining="5000"),
        limits(remaining=True),
        limits(remaining=None),
        limits(remaining=12.5),
        limits(limit=None),
        limits(reset=None),
        limits(reset=10**18),
        httpx.ConnectError(f"refused {TOKEN}"),
        httpx.ReadTimeout(f"slow {TOKEN}"),
        httpx.RemoteProtocolError(TOKEN),
    ],
)
def test_whatever_is_no_rate_limit_is_unanswered_in_one_line_without_the_token(
    answer: httpx.Response | Exception,
) -> None:
    with pytest.raises(GuardUnanswered) as error:
        ask(answer)
    assert str(error.value)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_redirect_is_not_followed_and_the_token_not_sent_on() -> None:
    # `ask` asserts that only the rate limit's own URL is requested.
    with pytest.raises(GuardUnanswered, match=r"^it answers 302$"):
        ask(httpx.Response(302, headers={"location": "https://elsewhere.test/rate_limit"}))


def origin_with(env: dict[str, str], folder: Path) -> str:
    async def main() -> str:
        async with open_guards([GithubGuard(1)], {"GITHUB_TOKEN": TOKEN, **env}, folder) as guards:
            (guard,) = guards
            assert isinstance(guard, Github)
            return guard.origin

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("env", "origin"),
    [
        ({}, "https://api.github.com"),
        ({"GITHUB_API_URL": ""}, "https://api.github.com"),
        ({"GITHUB_API_URL": "https://ghe.test/api/v3/"}, "https://ghe.test/api/v3"),
    ],
)
def test_the_enterprise_servers_address_comes_from_the_environment(
    tmp_path: Path, env: dict[str, str], origin: str
) -> None:
    assert origin_with(env, tmp_path) == origin


@pytest.mark.parametrize(
    "env", [{"GITHUB_TOKEN": "a-b\nc"}, {"GITHUB_TOKEN": "gø"}, {"GITHUB_API_URL": "s3cret"}]
)
def test_a_malformed_variable_is_named_and_not_echoed(tmp_path: Path, env: dict[str, str]) -> None:
    ((name, value),) = env.items()
    with pytest.raises(UsageError, match=name) as error:
        origin_with(env, tmp_path)
    assert value not in f"{error.value} {error.value.hint}"
