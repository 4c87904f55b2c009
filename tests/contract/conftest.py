"""The servers under contract: the embedded one, and the one at BACKFILL_TEST_INNGEST_URL."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import anyio
import httpx
import pytest

from runner.adapters.embedded.server import create_app
from tests.contract.target import (
    COMPLETES,
    EVENT_KEY,
    FAILS,
    HOLDS,
    SIGNING_KEY,
    STARTS_TWO,
    Target,
)

LIVE_URL = os.environ.get("BACKFILL_TEST_INNGEST_URL", "").rstrip("/")


def completes(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"echo": event["data"]}


async def fails(event: Mapping[str, Any]) -> None:
    raise ValueError("there is no such repository")


async def holds(event: Mapping[str, Any]) -> None:
    await anyio.sleep_forever()


HANDLERS: dict[str, Any] = {
    COMPLETES: completes,
    FAILS: fails,
    HOLDS: holds,
    STARTS_TWO: [lambda _: "first", lambda _: "second"],
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def live_jobs() -> Iterator[set[tuple[str, str]]]:
    """The event ids and job ids of what the live server's functions have run."""
    # Only a live server needs the SDK, which warns when it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.contract.sdk_app import serve_functions

    with serve_functions(LIVE_URL) as ran:
        yield ran


@pytest.fixture(scope="session")
def live_url(live_jobs: set[tuple[str, str]]) -> str:
    """The URL of the live server, with our functions served."""
    return LIVE_URL


@pytest.fixture(params=["embedded", *(["live"] if LIVE_URL else [])])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """A server that needs no keys and serves the contract's functions."""
    if request.param == "live":
        url: str = request.getfixturevalue("live_url")
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield Target(client, live=True)
        return
    app = create_app(HANDLERS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://embedded") as client:
        yield Target(client, live=False)
    await app.state.engine.aclose()


@pytest.fixture(params=["embedded", *(["live"] if LIVE_URL else [])])
async def locked(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """A server that requires EVENT_KEY and SIGNING_KEY."""
    if request.param == "live":
        pytest.skip("a live server's keys are not ours to choose")
    transport = httpx.ASGITransport(create_app({}, event_key=EVENT_KEY, signing_key=SIGNING_KEY))
    async with httpx.AsyncClient(transport=transport, base_url="http://embedded") as client:
        yield Target(client, live=False)
