"""Show a run of 10,000 events: a page against its own queries, its size, and how soon it gets
news."""

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
from tests.benchmarks.inputs import plan_followed
from tests.benchmarks.measure import BenchmarkFailed, Figure, Goal, Sizes, timed
from tests.cli.conftest import served

_EVENTS, _ROUNDS = 10_000, 9


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    events = sizes.of(_EVENTS)
    plan = plan_followed(folder, events)

    async def sync(_: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.002)

    state = f"sqlite:///{folder / 'state.db'}"
    with served(create_target({"app/sync": sync})) as url:
        process = _start(plan, url, state)
        latency = _news(state)
        _, err = process.communicate(timeout=300)
        if process.returncode:
            raise BenchmarkFailed(f"the run ended with {process.returncode}: {err[-300:]}")
    with Store(state) as store:
        pairs, size = _page(Journals(store), store, sizes.rounds(_ROUNDS))
    page = f"page of a run of {events:,} events"
    megabytes = size / 1_000_000
    return [
        Figure(page, "s", "its bare SQL", pairs, Goal("under", 5.0)),
        Figure(f"{page}, its size", "MB", "1 MB", ((megabytes, 1.0),), Goal("under", 1.0), "bound"),
        Figure(
            "journal to page, the longest",
            "s",
            "2 s",
            ((latency, 2.0),),
            Goal("at most", 1),
            "bound",
        ),
    ]


def _start(plan: Path, url: str, state: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner", "run", str(plan), "--target", url]
    return subprocess.Popen(
        [*command, "--state", state],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def _news(state: str) -> float:
    """Return the longest time from a change of the journal to a page that listens for it."""
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


def _page(
    pages: Journals, store: Store, rounds: int
) -> tuple[tuple[tuple[float, float], ...], int]:
    """Measure the page and its bare SQL, in turn; return the pairs, and the page's bytes."""
    asked: list[str] = []
    with store._database.read() as connection:
        bare_connection = connection._do(lambda raw: raw)  # the page reads by it, too
    bare_connection.set_trace_callback(asked.append)
    page = pages.run("latest", {})
    bare_connection.set_trace_callback(None)

    def bare() -> None:
        for statement in asked:
            bare_connection.execute(statement).fetchall()

    pairs = tuple((timed(lambda: pages.run("latest", {})), timed(bare)) for _ in range(rounds))
    return pairs, len(page.encode())
