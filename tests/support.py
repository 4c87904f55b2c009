"""Shared by tests of several rooms: a clock without waiting, and a strict stand-in for Inngest."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from ulid import ULID

from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.execution.context import RunContext
from runner.execution.ports import Chunk, Guard, Hold
from runner.model import ExecutionPlan, Observer, RunHead, StageRecord
from runner.planning.build import build_execution_plan
from runner.planning.event_blocks import line_of
from runner.spec.load import load_plan

EVENT_KEY = "test-event-key"
SIGNING_KEY = "7e57" * 8
ORIGIN = "http://inngest.test"

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: completed}
  embed: {event: app/embed, for_each: repo, after: [sync], payload: {repo: "{{ repo.repo }}"}}
  fire: {event: app/fire, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: sent}
"""


def write_plan(folder: Path, body: str, *, catalog: str = CATALOG) -> Path:
    """Write a plan file with the usual head, and its catalog beside it."""
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    head = "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: test}\n"
    path = folder / "plan.yaml"
    path.write_text(f"{head}catalog: catalog.yaml\n{body}", encoding="utf-8")
    return path


def make_plan(folder: Path, body: str, *, catalog: str = CATALOG) -> ExecutionPlan:
    return build_execution_plan(load_plan(str(write_plan(folder, body, catalog=catalog))))


def repos(count: int) -> str:
    return "repos: [" + ", ".join(f"o/r{number}" for number in range(count)) + "]\n"


# The first request of a run that sends `sync`.
_SEED = "1,AAAAAAAAAAAAAA=="


def lines_of(positions: Iterable[int]) -> list[bytes]:
    """Return the lines of the repositories `o/r0`, `o/r1` and so on, with empty payloads."""
    return [line_of(f"o/r{position}", b"{}") for position in positions]


REQUEST = Chunk(0, 1, 1, "sync", "app/sync", _SEED, b"[]", range(1), lines_of(range(1)), 1.0, 1.0)

open_stores: list[Store] = []


class FakeClock:
    """Time passes only by sleeping, and sleeping takes no time. `ahead`: by how much the time of
    day was put forward."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0
        self.ahead = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now + self.ahead

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        self.slept.append(seconds)
        if not until.is_set():
            self.now += seconds
        await asyncio.sleep(0)


@dataclass
class HoldsOnce:
    """A guard that holds from its n-th question on, for so many questions."""

    since: int
    questions: int
    name: str = "once"
    asked: int = 0

    async def ask(self) -> Hold | None:
        self.asked += 1
        holds = self.since <= self.asked < self.since + self.questions
        return Hold("busy", 15.0) if holds else None


class HurriedClock:
    """Real time, but a hundred times as fast in each sleep: a job of a process that starts slowly
    still ends in time."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def time(self) -> float:
        return time.time() + self._skipped

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        if not until.is_set():
            self._skipped += seconds * 0.99
        await asyncio.sleep(seconds / 100)


@dataclass
class Recorder:
    """An observer that records what it gets."""

    run_id: str = ""
    progresses: list[StageRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:  # noqa: ARG002
        self.run_id = run_id

    def progress(self, progress: StageRecord) -> None:
        self.progresses.append(progress)

    def note(self, message: str) -> None:
        self.notes.append(message)


Fault = Callable[["StandIn", httpx.Request], httpx.Response | None]


@dataclass
class StandIn:
    """Inngest as `inngest-protocol.md` has it, asserting every request's method, path and headers.

    `faults` are used up one per POST; a fault may answer, raise, or let the request through (None).
    `effects`: the ids of events that started a job, once each.
    """

    faults: list[Fault | None] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)  # event names that nothing listens to
    failing: set[str] = field(default_factory=set)  # repositories whose jobs fail
    bad: set[str] = field(default_factory=set)  # repositories whose event is refused
    # The fate of an event, unless its repository decides it: `completed`, `failed`, `cancelled`,
    # `no_job` or `rejected`.
    fate: Callable[[dict[str, Any]], str] | None = None
    slow_jobs: set[str] = field(default_factory=set)  # repositories whose jobs never end
    event_key: str = EVENT_KEY
    signing_key: str | None = SIGNING_KEY
    first_run: int = 0
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    _runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/e/"):
            return self._post(request)
        assert request.method == "GET"
        if path in ("/v2/runs", "/v2/apps", "/v0/gql"):
            return httpx.Response(404, text="404 page not found")
        assert path.startswith("/v1/events/")
        assert path.endswith("/runs")
        assert request.url.query, "the server's cache is passed by with a query"
        if self.signing_key and request.headers.get("authorization") != f"Bearer {SIGNING_KEY}":
            return httpx.Response(401, text="Authentication failed")
        runs = self._runs.get(path.split("/")[3], [])
        return httpx.Response(200, json={"data": runs, "metadata": {}})

    def _post(self, request: httpx.Request) -> httpx.Response:
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/json"
        seed = request.headers["x-inngest-event-id-seed"]
        self.bodies.append((seed, request.content))
        fault = self.faults.pop(0) if self.faults else None
        answer = fault(self, request) if fault else None
        return answer if answer is not None else self.accept(request)

    def accept(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != f"/e/{self.event_key}":
            body = {"status": 401, "message": "", "error": "Event key not found"}
            return httpx.Response(401, json=body)
        events = json.loads(request.content)
        assert isinstance(events, list)
        assert events, "an empty array is never sent"
        self.posts.append(events)
        milliseconds, _, encoded = request.headers["x-inngest-event-id-seed"].partition(",")
        entropy = base64.b64decode(encoded)
        ids: list[str] = []
        for index, event in enumerate(events):
            if event["data"].get("repo") in self.bad or self._fate(event) == "rejected":
                answer = {"ids": ids or [""], "status": 400, "error": "bad event"}
                return httpx.Response(400, text=json.dumps(answer))
            low = (int.from_bytes(entropy[6:], "big") + index + 1) & 0xFFFFFFFF
            prefix = int(milliseconds).to_bytes(6, "big") + entropy[:6]
            internal_id = str(ULID(prefix + low.to_bytes(4, "big")))
            ids.append(internal_id)
            self.received.append(event)
            self._start(internal_id, event)
        return httpx.Response(200, text=json.dumps({"ids": ids, "status": 200}))

    def _fate(self, event: dict[str, Any]) -> str:
        return self.fate(event) if self.fate else "completed"

    def _start(self, internal_id: str, event: dict[str, Any]) -> None:
        if event["name"] in self.silent or event["id"] in self.effects:
            return
        fate = self._fate(event)
        if fate == "no_job":
            return
        self.effects.append(event["id"])
        repo = event["data"].get("repo")
        run = {
            "run_id": f"{self.first_run + len(self.effects):026d}",
            "function_id": event["name"],
            "status": "Completed",
            "ended_at": "2026-01-01T00:00:00Z",
            "output": None,
        }
        if fate == "cancelled":
            run |= {"status": "Cancelled"}
        if repo in self.failing or fate == "failed":
            run |= {"status": "Failed", "output": {"name": "ValueError", "message": "no such repo"}}
        if repo in self.slow_jobs:
            run |= {"status": "Running", "ended_at": None}
        self._runs[internal_id] = [run]


def answers(status: int, body: Any = "", **headers: str) -> Fault:
    """Make a fault: do not accept the request, and answer this."""
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda _server, _request: httpx.Response(status, text=text, headers=headers)


def lost_before(_server: StandIn, _request: httpx.Request) -> httpx.Response:
    """Refuse the connection: nothing was accepted."""
    raise httpx.ConnectError("refused")


def lost_after(server: StandIn, request: httpx.Request) -> httpx.Response:
    """Accept the events, and lose the answer."""
    server.accept(request)
    raise httpx.ReadError("reset")


def server_target() -> Target:
    env = {"INNGEST_EVENT_KEY": EVENT_KEY, "INNGEST_SIGNING_KEY": SIGNING_KEY}
    return resolve(ORIGIN, env)


@asynccontextmanager
async def connect(
    server: StandIn,
    journal: JournalWriter,
    *,
    clock: FakeClock | None = None,
    observer: Observer | None = None,
    target: Target | None = None,
    follow: bool = True,
    seed: int = 0,
    stop: asyncio.Event | None = None,
    guards: Sequence[Guard] = (),
) -> AsyncIterator[RunContext]:
    """Connect the real adapters to the stand-in, with a clock that does not wait."""
    clock, observer, target = (
        clock or FakeClock(),
        observer or Recorder(),
        target or server_target(),
    )
    stop, random = stop or asyncio.Event(), Random(seed)  # noqa: S311 - tests repeat

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds, stop)

    retry = Retry(sleep, random, observer.note)
    async with open_client(httpx.MockTransport(server.handle)) as client:
        yield RunContext(
            events=HttpEventApi(client, target, retry),
            jobs=HttpJobsApi(client, target, retry) if follow else None,
            journal=journal,
            clock=clock,
            observer=observer,
            random=random,
            stop=stop,
            patiently=retry.patiently,
            grace=20.0,
            guards=guards,
        )


def state_url(folder: Path) -> str:
    """Return the URL of a test's state; the fixture `state` puts it into PostgreSQL too."""
    return f"sqlite:///{folder / 'state.db'}"


def new_store(folder: Path, clock: Callable[[], float] = time.time) -> Store:
    """Open a store beside the plan; the fixture `closed_stores` closes it."""
    store = Store(state_url(folder), clock)
    open_stores.append(store)
    return store


def close_stores() -> None:
    """Close all stores, as the end of a process would."""
    while open_stores:
        open_stores.pop().close()


def start_journal(
    store: Store, plan: ExecutionPlan, run_id: str = "RUN1", **more: Any
) -> JournalWriter:
    """Start a run's journal; `more`: further data of the run, such as a retry's `parent`."""
    lease = store.lock(plan.name, ORIGIN, run_id)
    record: Any = {"target": ORIGIN, "address": ORIGIN, "variables": {}, "follow": True}
    return store.start(run_id, plan, lease, **record, **more)


def let_go(store: Store) -> None:
    """Expire all locks, as if their processes were gone."""
    change_leases(store, "expires_at = 0")


def change_leases(store: Store, what: str, **given: object) -> None:
    """Change leases, as time or another machine would."""
    with store._database.write() as connection:
        connection.change(f"UPDATE leases SET {what}", **given)


def reopen(store: Store, plan: ExecutionPlan, run_id: str = "RUN1") -> JournalWriter:
    """Reopen the journal of a run whose process has died."""
    let_go(store)
    record = store.find(run_id)
    return store.reopen(record, store.lock(record.plan, record.address, run_id), plan)


def items_of(events: Iterable[dict[str, Any]]) -> list[str]:
    return [event["data"]["repo"] for event in events]
