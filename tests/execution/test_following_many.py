"""Many jobs are followed with few requests, whatever the server's lists omit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from runner.adapters.clock import SystemClock
from runner.adapters.embedded.server import create_app
from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.writer import JournalWriter
from runner.execution import poller
from runner.execution.context import RunContext
from runner.execution.ports import Listed
from runner.execution.run import execute
from runner.model import Function, Totals
from tests.depth import depth
from tests.support import Recorder, make_plan, new_store, repos, start_journal

MANY = depth(200, 800)
BODY = "operations: [{use: sync, batch_size: 500, delay: 0s}]\n"


@dataclass
class Counting(httpx.AsyncBaseTransport):
    """The embedded server; counts requests about jobs by path."""

    app: Any
    hidden: set[str] = field(default_factory=set)  # paths that answer 404
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = httpx.ASGITransport(self.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "GET":
            self.asked.append("event" if path.startswith("/v1/") else path)
        if path in self.hidden:
            return httpx.Response(404, text="404 page not found")
        return await self.server.handle_async_request(request)


class Swept(HttpJobsApi):
    """The API of the follower; counts its sweeps over the lists."""

    sweeps = 0

    async def listed(
        self, since: float, of: Sequence[Function] | None, most: Callable[[], float]
    ) -> Sequence[Listed] | None:
        self.sweeps += 1
        return await HttpJobsApi.listed(self, since, of, most)


def follow(
    tmp_path: Path, server: Counting, grace: float = 0.5, many: int = MANY
) -> tuple[JournalWriter, int]:
    """Drive a run of so many events; return its journal, and how many sweeps it took."""
    plan = make_plan(tmp_path, repos(many) + BODY)
    journal = start_journal(new_store(tmp_path), plan)
    target: Target = resolve("embedded", {})

    async def go() -> None:
        clock, stop = SystemClock(), asyncio.Event()
        random = Random(1)  # noqa: S311 - tests repeat

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds, stop)

        retry = Retry(sleep, random, lambda _: None)
        async with open_client(server) as client:
            jobs = Swept(client, target, retry)
            context = RunContext(
                HttpEventApi(client, target, retry),
                jobs,
                journal,
                clock,
                Recorder(),
                random,
                stop,
                grace,
            )
            await execute(plan, context)
            sweeps.append(jobs.sweeps)
        await server.app.state.engine.aclose()

    sweeps: list[int] = []
    asyncio.run(go())
    return journal, sweeps[0]


def test_a_sweep_takes_at_most_one_request_for_fifty_events(tmp_path: Path) -> None:
    async def sync(event: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.002)

    server = Counting(create_app({"app/sync": sync}))
    journal, sweeps = follow(tmp_path, server, grace=60.0, many=800)
    assert journal.totals() == Totals(800, 800, jobs=800, completed=800)
    assert sweeps > 1
    assert len(server.asked) <= sweeps * 800 / 50


def test_a_server_without_lists_is_asked_event_by_event(tmp_path: Path) -> None:
    server = Counting(create_app({"app/sync": lambda _: None}), hidden={"/v2/runs"})
    journal, sweeps = follow(tmp_path, server)
    assert journal.totals().completed == MANY
    assert sweeps == 1, "it is not asked for lists again"
    assert server.asked.count("event") >= MANY


def test_events_without_a_job_are_known_by_an_answer_about_each(tmp_path: Path) -> None:
    """That an event is missing in a list never means that it started nothing."""
    server = Counting(create_app({"app/other": lambda _: None}))
    journal, _ = follow(tmp_path, server, grace=0.1)
    assert journal.totals() == Totals(MANY, MANY, no_job=MANY)
    assert server.asked.count("event") >= MANY


@pytest.mark.parametrize("ends", [True, False])
def test_a_job_that_the_lists_leave_out_or_never_end_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """A live server's lists omit skipped jobs, and all but one event of a batch; they can also show
    an ended job as waiting."""
    monkeypatch.setattr(poller, "_STALE", 0.2)
    monkeypatch.setattr(poller, "_SHARE", 4)

    class Forgetful(Counting):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await super().handle_async_request(request)
            if request.url.path == "/v2/runs":
                body = (await answer.aread()).replace(b'"COMPLETED"', b'"QUEUED"')
                body = body if ends else body.replace(b'"endedAt"', b'"unknown"')
                return httpx.Response(answer.status_code, content=body)
            return answer

    journal, _ = follow(tmp_path, Forgetful(create_app({"app/sync": lambda _: None})))
    assert journal.totals().completed == MANY


def test_a_handler_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    def sync(event: Mapping[str, Any]) -> None:
        raise ValueError(f"no export of {event['data']['repo']}")

    journal, _ = follow(tmp_path, Counting(create_app({"app/sync": sync})))
    failures = journal.failures()
    assert failures
    assert all(f.message == f"ValueError: no export of {f.item}" for f in failures)
