"""Following and seeing 10,000 events: requests a sweep, a page against its queries, news."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from runner.adapters.embedded.server import create_app as create_target
from runner.adapters.journal.store import Store
from runner.adapters.web.app import create_app
from runner.cli.ui import Journals
from runner.output.page import asset
from tests.benchmarks.measure import BenchmarkFailed, Figure, Goal
from tests.cli.conftest import served

EVENTS = 10_000
_PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: many}
catalog: catalog.yaml
repos: [{file: repos.csv}]
operations: [sync]
batch_size: 50
delay: 0s
"""
_CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: completed}
"""


class Counting:
    """An ASGI application with its questions about jobs counted, by sweep."""

    def __init__(self, app: Any) -> None:
        self.app, self.asked, self.sweeps = app, 0, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            self.asked += 1
            query = scope["query_string"]
            # Each sweep begins with the first page of the jobs that go on.
            self.sweeps += b"status=QUEUED" in query and b"cursor" not in query
        await self.app(scope, receive, send)


def measure(folder: Path) -> list[Figure]:
    (folder / "plan.yaml").write_text(_PLAN, encoding="utf-8")
    (folder / "catalog.yaml").write_text(_CATALOG, encoding="utf-8")
    rows = "".join(f"o/r{number}\n" for number in range(EVENTS))
    (folder / "repos.csv").write_text(f"repo\n{rows}", encoding="utf-8")

    async def sync(_: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.002)

    state = f"sqlite:///{folder / 'state.db'}"
    target = Counting(create_target({"app/sync": sync}))
    with served(target) as url:
        process = _start(folder, url, state)
        latency = _news(state)
        _, err = process.communicate(timeout=300)
        if process.returncode:
            raise BenchmarkFailed(f"the run ended with {process.returncode}: {err[-300:]}")
    with Store(state) as store:
        pages = Journals(store)
        pairs, size = _page(pages, store)
    a_sweep = target.asked / max(1, target.sweeps)
    return [
        Figure(
            f"following {EVENTS:,} events: questions a sweep",
            "requests",
            "1 in 50 events",
            ((a_sweep, EVENTS / 50),),
            Goal("at most", 1.0),
        ),
        Figure("page of a run of 10,000 events", "s", "its bare SQL", pairs, Goal("under", 5.0)),
        Figure("its size", "MB", "1 MB", ((size / 1_000_000, 1.0),), Goal("under", 1.0)),
        Figure("journal to page, the longest", "s", "2 s", ((latency, 2.0),), Goal("at most", 1.0)),
    ]


def _start(folder: Path, url: str, state: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner", "run", str(folder / "plan.yaml"), "--target", url]
    return subprocess.Popen(
        [*command, "--state", state],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def _news(state: str) -> float:
    """The longest that a change of the journal took to be on a page that listens."""
    changes: list[tuple[float, str]] = []
    done = threading.Event()
    with Store(state) as store:
        until = time.monotonic() + 30
        while not store.runs(limit=1):
            if time.monotonic() > until:
                raise BenchmarkFailed("the run has not begun")
            time.sleep(0.05)
        record = store.runs(limit=1)[0].record

        def look() -> None:
            last = ""
            while not done.is_set():
                mark = store.mark(store.find(record.id))
                if mark != last:
                    changes.append((time.monotonic(), mark))
                    last = mark
                time.sleep(0.01)

        with Store(state) as others:
            pages = Journals(others)
            app = create_app(pages, {name: asset(name) for name in ("page.css", "live.js")})
            with served(app) as site:
                watcher = threading.Thread(target=look, daemon=True)
                watcher.start()
                shown: list[float] = []
                with httpx.stream("GET", f"{site}/live/runs/{record.id}", timeout=300) as answer:
                    for line in answer.iter_lines():
                        if line == "event: change":
                            httpx.get(f"{site}/runs/{record.id}").raise_for_status()
                            shown.append(time.monotonic())
                        if line == "event: end":
                            break
                done.set()
                watcher.join(5)
    late = [next((at for at in shown if at >= when), None) for when, _ in changes]
    waits = [at - when for (when, _), at in zip(changes, late, strict=True) if at is not None]
    if not waits:
        raise BenchmarkFailed("nothing was told")
    return max(waits)


def _page(pages: Journals, store: Store) -> tuple[tuple[tuple[float, float], ...], int]:
    """The page and the bare SQL that it took, in turn; and the page's bytes."""
    from sqlalchemy import event

    asked: list[tuple[str, Any]] = []

    def remember(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        asked.append((statement, given))

    event.listen(store.engine, "before_cursor_execute", remember)
    page = pages.run("latest")
    event.remove(store.engine, "before_cursor_execute", remember)

    def bare() -> None:
        connection = store.engine.raw_connection()
        try:
            for statement, given in asked:
                connection.cursor().execute(statement, given).fetchall()
        finally:
            connection.close()

    pairs = tuple((_timed(lambda: pages.run("latest")), _timed(bare)) for _ in range(9))
    return pairs, len(page.encode())


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
