"""Runs as workers carry them out, in one process and on a clock that never waits."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.adapters.embedded.server import create_app
from runner.adapters.inngest.target import resolve
from runner.adapters.journal.store import Store
from runner.adapters.worker.request import EVENT, event_of
from runner.app.drive import Drive, drive
from runner.app.session import Session
from runner.app.worker import Worker
from runner.execution.context import Ending, RequestLimits, RunOptions
from runner.model import ExecutionPlan
from runner.output.progress import LogObserver
from tests.cli.conftest import backfill, served, start
from tests.support import EVENT_KEY, SIGNING_KEY, Recorder, state_url
from tests.worker.engine import Engine, Ran, VirtualClock, recorded

__all__ = ["backfill", "start"]  # fixtures of the command line

LOG = logging.getLogger("test.worker")


@dataclass
class World:
    """A server whose functions record what arrives and when; a state; workers."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    stack: ExitStack
    clock: VirtualClock = field(default_factory=VirtualClock)
    arrived: list[tuple[str, str, float]] = field(default_factory=list)  # name, item, when
    requests: list[int] = field(default_factory=list)  # how many events each request had
    started: list[str] = field(default_factory=list)  # ids of events that started a job
    failing: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    follow: bool = True
    grace: float = 20.0
    budget: float = 20.0
    limits: RequestLimits = field(default_factory=RequestLimits)
    silent: bool = False
    let_go: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def __post_init__(self) -> None:
        handlers: dict[str, Any] = {EVENT: self._asked}
        if not self.silent:
            handlers |= {"app/sync": self._job, "app/embed": self._job, "app/fire": self._job}
        app = create_app(handlers, clock=self.clock.time)
        self.url = self.stack.enter_context(
            served(self._dated(recorded(app, self._noted)), dated=False)
        )
        for name, value in {
            "INNGEST_BASE_URL": self.url,
            "INNGEST_SIGNING_KEY": SIGNING_KEY,
            "INNGEST_EVENT_KEY": EVENT_KEY,
        }.items():
            self.monkeypatch.setenv(name, value)
        self.engine = Engine([], self.clock)

    def _dated(self, app: ASGIApp) -> ASGIApp:
        """Give answers the time of this world, which shows which jobs have started."""

        async def dated(scope: Scope, receive: Receive, send: Send) -> None:
            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    date = formatdate(self.clock.now, usegmt=True).encode()
                    message["headers"] = [*message["headers"], (b"date", date)]
                await send(message)

            await app(scope, receive, told)

        return dated

    def _asked(self, event: Mapping[str, Any]) -> None:
        self.engine.receive(event)

    def _noted(self, events: list[dict[str, Any]]) -> None:
        """Note the events; the sender waits for the answer, so that the time of a request is
        exact."""
        ours = [event for event in events if event["name"] != EVENT]
        self.arrived += [(one["name"], one["data"]["repo"], self.clock.now) for one in ours]
        self.requests += [len(ours)] if ours else []

    async def _job(self, event: Mapping[str, Any]) -> None:
        item = event["data"]["repo"]
        self.started.append(event["id"])
        while item in self.held:
            await asyncio.to_thread(self.let_go.wait, 0.05)
        if item in self.failing:
            raise ValueError(f"{item} is broken")

    @property
    def state(self) -> str:
        return state_url(self.folder)

    def write_down(self, plan: ExecutionPlan, run_id: str = "RUN1") -> None:
        """Write the run down as `run --detach` does."""
        target = resolve(self.url, {"INNGEST_EVENT_KEY": EVENT_KEY})
        with Store(self.state) as store:
            lease = store.lock(plan.name, target.address, run_id)
            record = {"target": self.url, "address": target.address, "variables": {}}
            store.start(run_id, plan, lease, follow=self.follow, **record)
            store.park(lease, self.clock.now, "nobody yet")

    def steps(self, state: str | None = None) -> Worker:
        return Worker(
            lambda: Session(state or self.state, environ=os.environ, clock=self.clock),
            lambda run: LogObserver(LOG, run),
            grace=self.grace,
            budget=self.budget,
        )

    def add_worker(self, state: str | None = None) -> httpx.Client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")

            from runner.adapters.worker.app import create_worker
        steps = self.steps(state)
        worker = create_worker(steps, steps.unknown, None, LOG)
        self.engine.app = worker.client.app_id
        sdk: Any = worker.client
        self.stack.enter_context(closing(sdk._http_client._http_client_sync))  # else left open
        url = self.stack.enter_context(served(worker.app))
        client = self.stack.enter_context(httpx.Client(base_url=url, timeout=60))
        self.engine.clients.append(client)
        return client

    def submit(self, plan: ExecutionPlan, run_id: str = "RUN1", **options: Any) -> list[Ran]:
        """Write the run down, request it, and drive it to its end."""
        self.write_down(plan, run_id)
        return self.carry_on(plan, run_id, **options)

    def carry_on(self, plan: ExecutionPlan, run_id: str = "RUN1", **options: Any) -> list[Ran]:
        if not self.engine.clients:
            self.add_worker()
        cut = {"request_events": self.limits.events, "request_bytes": self.limits.bytes}
        known = {"run": run_id, "plan": plan.name, "address": self.url, **cut, **options}
        self.engine.events.append({**event_of(known), "ts": 0})
        return self.engine.run_all()

    def run(self, plan: ExecutionPlan, run_id: str = "RUN1") -> Ending:
        """Drive the run as `run` does, in one go."""
        return asyncio.run(self._run(plan, run_id))

    async def _run(self, plan: ExecutionPlan, run_id: str) -> Ending:
        target = resolve(self.url, {"INNGEST_EVENT_KEY": EVENT_KEY})
        options = RunOptions(follow=self.follow, grace=self.grace, limits=self.limits)
        with Session(self.state, clock=self.clock) as session:
            lease = session.store.lock(plan.name, target.address, run_id)
            record = {"target": self.url, "address": target.address, "variables": {}}
            what = Drive(
                plan,
                target,
                lambda: session.store.start(run_id, plan, lease, follow=self.follow, **record),
                options,
            )
            ending, _ = await drive(session, what, Recorder(), asyncio.Event(), set())
            lease.release()
            return ending

    def status(self, run_id: str = "RUN1") -> str:
        with Store(self.state) as store:
            return store.find(run_id).status

    def notes(self, run_id: str = "RUN1") -> list[str]:
        with Store(self.state) as store:
            return [note.message for note in store.notes(store.find(run_id))]

    def store(self, change: Callable[[Store], object]) -> None:
        with Store(self.state) as store:
            change(store)


@pytest.fixture
def new_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:

        def make(name: str = "world", **options: Any) -> World:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            return World(folder, monkeypatch, stack, **options)

        yield make
