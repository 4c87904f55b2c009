"""Submitted runs on the live Inngest server at BACKFILL_TEST_INNGEST_URL, by `serve` processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runner.execution.pacing import PATIENCE
from tests.cli.conftest import COMMAND, backfill, served, until
from tests.contract.conftest import LIVE_URL
from tests.contract.target import COMPLETES
from tests.depth import depth
from tests.ports import free_port
from tests.support import repos, write_plan

__all__ = ["backfill"]  # a fixture of the command line

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  echo: {{event: {COMPLETES}, for_each: repo, payload: {{repo: "{{{{ repo.repo }}}}"}}}}
  again:
    {{event: {COMPLETES}, for_each: repo, after: [echo], payload: {{repo: "{{{{ repo.repo }}}}"}}}}
"""


class Workers:
    """`serve` processes of one state, each on its own port."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *options: str, port: int = 0) -> None:
        """Start one more, and wait until it has registered."""
        port = port or free_port()
        log = self.stack.enter_context((self.folder / f"serve-{port}.log").open("a"))
        command = [*COMMAND, "serve", "--port", str(port), *options]
        process = subprocess.Popen(command, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        self.processes[port] = process
        until(lambda: _is_ready(port))

    def restart(self) -> None:
        """Restart each on its port, without options."""
        for port, process in list(self.processes.items()):
            process.terminate()
            process.wait()
            self.start(port=port)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


class Front:
    """The one address of the workers: forwards the server's calls in turn, to those that are
    alive."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.busy: int | None = None  # the port of the worker that is called now
        self.calls: Counter[int] = Counter()
        self.steps = 0  # the function's steps, without the engine's sleeps

    async def answer(self, request: Request) -> Response:
        headers = _passed_on(request.headers)
        body, path = await request.body(), f"{request.url.path}?{request.url.query}"
        async with httpx.AsyncClient(timeout=60) as client:
            for port in sorted(self.workers.processes, key=lambda port: self.calls[port]):
                self.busy = port
                url = f"http://127.0.0.1:{port}{path}"
                try:
                    answer = await client.post(url, content=body, headers=headers)
                except httpx.ConnectError:
                    continue
                except httpx.TransportError:
                    return Response(status_code=502)
                finally:
                    self.busy = None
                    self.calls[port] += 1
                if answer.status_code == 206:
                    self.steps += sum(one["op"] == "StepRun" for one in answer.json())
                return Response(answer.content, answer.status_code, _passed_on(answer.headers))
        return Response(status_code=503)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """All headers but those of one connection, or of one form of the body."""
    own = ("host", "connection", "content-length", "content-encoding", "transfer-encoding")
    return {name: value for name, value in headers.items() if name not in own}


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setenv("INNGEST_DEV", LIVE_URL)
    monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{tmp_path / 'state.db'}")
    with ExitStack() as stack:
        yield Workers(tmp_path, stack)


@pytest.mark.usefixtures("live_url")
def test_the_engine_waits_and_the_run_completes(
    tmp_path: Path, workers: Workers, backfill: Callable[..., Any]
) -> None:
    workers.start()
    body = "repos: [o/a, o/b, o/c]\noperations: [{use: echo, wait: completed}]\n"
    plan = write_plan(tmp_path, body + "batch_size: 1\ndelay: 4s\n", catalog=CATALOG)
    done = backfill("run", "--detach", plan, "--target", "dev", "--format", "json", "--yes")
    assert done.status == 0, done.err
    run_id = json.loads(done.out)["run_id"]
    shown = backfill("status", run_id, "--watch", "--format", "json", env=dict(os.environ))
    assert shown.status == 0, shown.out
    stages = json.loads(shown.out)["stages"]
    assert [stage["completed"] for stage in stages] == [3]
    events = json.loads(backfill("events", run_id, "--format", "json").out)["events"]
    sent = sorted(datetime.fromisoformat(event["sent_at"]) for event in events)
    assert all(later - earlier >= timedelta(seconds=4) for earlier, later in pairwise(sent))
    # If the server calls late, there is nothing left to wait for.
    assert backfill("logs", run_id).out.count("waiting 4s between batches") in (1, 2)


def test_hundreds_of_events_by_two_workers_of_which_one_is_killed_half_way(
    tmp_path: Path,
    workers: Workers,
    live_jobs: set[tuple[str, str]],
    backfill: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    """Every event starts one job, and the function takes one step per batch, a few per stage, and
    one for each poll of jobs that take long. The duration is up to the server, which executes 4 to
    40 jobs a second depending on its machine's load: a failure is if jobs stop coming. A dev server
    forgets what its SQLite, whose cache is shared, could not write at once; it can handle this many
    on two busy cores."""
    items = depth(250, 5_000)
    size = max(50, items // 25)
    body = repos(items) + "operations: [{use: echo, wait: completed}, again]\n"
    plan = write_plan(tmp_path, body + f"batch_size: {size}\ndelay: 3100ms\n", catalog=CATALOG)
    front, began = Front(workers), time.monotonic()
    with served(Starlette(routes=[Route("/api/inngest", front.answer, methods=["POST"])])) as url:
        workers.start("--url", url)
        workers.start("--url", url)
        asked = ("run", "--detach", plan, "--target", "dev", "--format", "json", "--yes")
        done = backfill(*asked)
        assert done.status == 0, done.err
        run_id = json.loads(done.out)["run_id"]
        ours = _starting_with(live_jobs, run_id)
        while_coming(ours, lambda: len(ours()) >= 0.9 * items and front.busy is not None)
        victim = workers.processes[front.busy or 0]
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
        watching = subprocess.Popen([*COMMAND, "status", run_id, "--watch"])
        try:
            while_coming(ours, lambda: watching.poll() is not None)
        finally:
            watching.kill()
            watching.wait()
        assert watching.returncode == 0
    jobs = Counter(event for event, _ in ours())
    took, events, batches = time.monotonic() - began, 2 * items, 2 * items // size
    lost, doubled = events - len(jobs), sum(jobs.values()) - len(jobs)
    name = "live workers: events, lost, doubled, batches, steps, seconds"
    figures = (events, lost, doubled, batches, front.steps, round(took))
    record_property(name, figures)
    assert (lost, doubled) == (0, 0)
    assert all(front.calls.values()), "both have carried it"
    waited = took - batches * 3.1  # for the jobs of both stages, at most
    assert front.steps <= batches + 2 * (3 + _looks(waited / 2))


def _looks(seconds: float) -> int:
    """Return how many steps only poll jobs, until so long after the sending: the next poll comes
    after a quarter of the time waited so far, and a wait of 3 s needs no step of its own."""
    looks, at = 0, 4 * 3.0
    while at < seconds:
        looks, at = looks + 1, at + min(at / 4, PATIENCE)
    return looks


def while_coming(jobs: Callable[[], list[tuple[str, str]]], done: Callable[[], bool]) -> None:
    """Wait until it is done, as long as there are more jobs every two minutes."""
    before, since = 0, time.monotonic()
    while not done():
        if (now := len(jobs())) > before:
            before, since = now, time.monotonic()
        assert time.monotonic() - since < 120, f"no job for two minutes, after {before}"
        time.sleep(0.02)


def _starting_with(jobs: set[tuple[str, str]], run_id: str) -> Callable[[], list[tuple[str, str]]]:
    """Return the jobs of this run so far; the server adds to them meanwhile."""
    return lambda: [one for one in list(jobs) if one[0].startswith(run_id)]
