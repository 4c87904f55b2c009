"""How a live server's limits, and the jobs of others, affect a run."""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.cli.conftest import COMMAND, served, until
from tests.contract.conftest import LIVE_URL
from tests.contract.target import OWN, unique
from tests.support import repos, write_plan

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
APP = f"backfill-{OWN}-closed-loop"
THROTTLED, OURS, OTHERS = f"{OWN}/throttled", f"{OWN}/ours", f"{OWN}/others"
QUEUED, ENOUGH = f"{OWN}/queued", f"{OWN}/others.enough"


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The server, with an app for this module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import inngest

        from tests.contract.sdk_app import limited, serving

    throttle = inngest.Throttle(limit=1, period=datetime.timedelta(seconds=2))

    def create(client: inngest.Inngest) -> list[inngest.Function[Any]]:
        @client.create_function(
            fn_id="others",
            trigger=inngest.TriggerEvent(event=OTHERS),
            cancel=[inngest.Cancel(event=ENOUGH)],
            retries=0,
        )
        async def others(ctx: inngest.Context) -> None:
            await ctx.step.sleep("busy", datetime.timedelta(minutes=5))

        @client.create_function(
            fn_id="queued",
            trigger=inngest.TriggerEvent(event=QUEUED),
            concurrency=[inngest.Concurrency(limit=1)],
        )
        async def queued(ctx: inngest.Context) -> None:
            await asyncio.sleep(3)  # the limit counts steps, which the engine's sleeps are not

        ours = limited(client, "ours", OURS)
        return [limited(client, "throttled", THROTTLED, throttle=throttle), ours, others, queued]

    with serving(LIVE_URL, APP, create):
        yield LIVE_URL


def run(folder: Path, event: str, events: int, more: str = "") -> tuple[dict[str, Any], str]:
    operation = f'  do: {{event: {event}, for_each: repo, payload: {{test: "{unique()}"}}}}\n'
    head = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    body = repos(events) + f"operations: [{{use: do, wait: completed{more}}}]\n"
    plan = write_plan(folder, body, catalog=head + operation)
    state = f"sqlite:///{folder / 'state.db'}"
    command = [*COMMAND, "run", str(plan), "--target", "dev", "--format", "json", "--state", state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_throttle_is_reported_with_both_figures_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str
) -> None:
    monkeypatch.setenv("INNGEST_DEV", app)
    summary, said = run(tmp_path, THROTTLED, 4)
    assert summary["totals"]["completed"] == 4
    assert summary["duration_s"] > 4, "one starts in two seconds"
    assert "its throttle is 1 in 2s; the plan sends 4 at once" in said


def test_the_time_of_a_job_that_queued_behind_others_counts_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str
) -> None:
    """This server tells when each job was queued, and never when it started."""
    monkeypatch.setenv("INNGEST_DEV", app)
    summary, _ = run(tmp_path, QUEUED, 5, ", timeout: 9s")
    assert summary["totals"]["completed"] == 5
    assert summary["duration_s"] > 15, "one after the other"


class Between:
    """Forwards requests to the server, and counts the runs in its lists."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.lists = self.told = 0

    async def answer(self, request: Request) -> Response:
        url = f"{self.server}{request.url.path}?{request.url.query}"
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.request(request.method, url, content=await request.body())
        if request.url.path.startswith("/v2/") and request.url.path.endswith("/runs"):
            self.lists += 1
            self.told += len(answer.json().get("data") or ())
        kept = {name: answer.headers[name] for name in ("date", "content-type")}
        return Response(answer.content, answer.status_code, kept)


def test_a_thousand_jobs_of_others_cost_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    app: str,
    record_property: Any,
) -> None:
    """They keep running; only the functions that listen are listed, and cost requests."""
    between = Between(app)
    events = [{"name": OTHERS, "data": {"of": unique()}} for _ in range(1_000)]
    taken = httpx.post(f"{app}/e/key", json=events, timeout=60).json()["ids"]
    assert len(taken) == 1_000
    listed = f"{app}/v2/apps/{APP}/functions/others/runs"

    def page() -> list[Any]:
        found: list[Any] = httpx.get(listed, params={"limit": "100"}).json().get("data", [])
        return found

    until(lambda: len(page()) == 100, seconds=60)
    route = Route("/{path:path}", between.answer, methods=["GET", "POST"])
    with served(Starlette(routes=[route]), dated=False) as url:
        monkeypatch.setenv("INNGEST_DEV", url)
        summary, _ = run(tmp_path, OURS, 40)
    httpx.post(f"{app}/e/key", json={"name": ENOUGH, "data": {}}).raise_for_status()
    assert Counter(summary["totals"])["completed"] == 40
    name = "busy with 1,000 jobs of others: seconds, lists read, runs in them"
    record_property(name, (summary["duration_s"], between.lists, between.told))
    assert between.lists > 0
    assert between.told <= 40 * between.lists, "none of others"
