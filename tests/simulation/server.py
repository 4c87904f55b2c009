"""The world around the real code: an engine with queues, the user's database, and the network."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from random import Random
from typing import Any

import httpx

from runner.adapters.worker.request import EVENT
from runner.errors import TargetDown
from runner.model import DatabaseClock, Json, Query, RowSecurity, Table
from tests.engine import Engine, Fn
from tests.simulation.clockwork import Process, Scheduler, current

KNOWN_AGAIN = 24 * 3600.0  # seconds for which the server remembers an event's id
WORKER = Fn("run", EVENT)
HOOK = "hook.test"


@dataclass
class Truth:
    """What becomes of an event: its fate and end for each function that hears it."""

    item: str
    name: str
    at: float
    fates: dict[str, str] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    taken: int = 1  # how often it took effect

    def ended(self, now: float) -> bool:
        return all(self.ends.get(fn, now + 1) <= now for fn in self.fates)


@dataclass
class ServerClock:
    """The server's clock, which differs from the runner's."""

    world: Scheduler
    ahead: float

    @property
    def now(self) -> float:
        return self.world.now + self.ahead


@dataclass
class Server(Engine):
    """Our jobs, and those of others, share the `workers`. `requested`: called for a submitted run.
    `work`: called for each job that completes."""

    world: Scheduler = field(default_factory=lambda: Scheduler(0))
    workers: int = 4
    failure_rate: float = 0.0
    refused: set[str] = field(default_factory=set)
    requested: Callable[[dict[str, Any]], None] = lambda _event: None
    work: Callable[[str, str], None] = lambda _name, _item: None
    truths: dict[str, Truth] = field(default_factory=dict)
    arrivals: list[tuple[float, str]] = field(default_factory=list)  # when, and the event's id
    taken_ids: set[str] = field(default_factory=set)
    _known: dict[str, float] = field(default_factory=dict)
    _free: list[float] = field(default_factory=list)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """Schedule a call at a moment, in true time."""
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, do))

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.content == b"[]":  # a test of the key
            return httpx.Response(200, text='{"ids": [""], "status": 200}')
        answer = super().handle(request)
        answer.headers["date"] = formatdate(self.clock.now, usegmt=True)
        return answer

    def _fetched_at(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now, UTC)

    def _fate(self, event: dict[str, Any]) -> str:
        refused = str(event["data"].get("repo")) in self.refused
        return "rejected" if refused else "completed"

    def _start(self, internal_id: str, event: dict[str, Any]) -> None:
        id_, now = event["id"], self.world.now
        self.taken_ids.add(id_)
        known = self._known.get(id_)
        if known is not None and now - known < KNOWN_AGAIN:
            return
        self._known[id_] = now
        if event["name"] == EVENT:
            self.requested(event)
            return
        self.effects.append(id_)
        self.arrivals.append((now, id_))
        item = event["data"]["repo"]
        if id_ in self.truths:
            self.truths[id_].taken += 1
        else:
            self.truths[id_] = Truth(item, event["name"], now)
        for fn in self.functions:
            if fn.event == event["name"]:
                self._take_one(fn, internal_id, id_)

    def _take_one(self, fn: Fn, internal_id: str, id_: str) -> None:
        truth = self.truths[id_]
        if fn.paused or (fn.only and truth.item not in fn.only):
            if fn.only and not fn.paused:
                self._drop(fn, id_)
            return
        passed = self._passed[fn.name] = self._passed.get(fn.name, 0) + 1
        if fn.rate_limit and passed > fn.rate_limit:
            self._drop(fn, id_)
        elif fn.debounce:
            before = self._waiting.get(fn.name)
            if before:
                self._drop(fn, before["items"][0])
            truth.fates[fn.name] = "waits"
            self._hold(fn, fn.debounce, {"ids": [internal_id], "items": [id_]})
        elif fn.batch:
            truth.fates[fn.name] = "waits"
            if fn.name not in self._waiting:
                self._hold(fn, fn.batch, {"ids": [], "items": []})
            self._waiting[fn.name]["ids"].append(internal_id)
            self._waiting[fn.name]["items"].append(id_)
        else:
            self._run(fn, [internal_id], [id_])

    def _hold(self, fn: Fn, seconds: float, kept: dict[str, Any]) -> None:
        self._waiting[fn.name] = kept

        def due() -> None:
            if self._waiting.get(fn.name) is kept:
                del self._waiting[fn.name]
                self._run(fn, kept["ids"], kept["items"])

        self.at(self.world.now + seconds, due)

    def _drop(self, fn: Fn, id_: str) -> None:
        self.truths[id_].fates[fn.name] = "dropped"
        self.truths[id_].ends[fn.name] = self.world.now

    def _run(self, fn: Fn, ids: list[str], items: list[str]) -> None:
        """Start a job of these events, once a worker is free."""
        running = any(job["fn"] is fn and job["status"] == "Running" for job in self.jobs)
        job: dict[str, Any] = {
            "id": f"{len(self.jobs) + 1:026d}",
            "fn": fn,
            "events": ids,
            "status": "Scheduled",
            "queued": self.clock.now,
            "ended": None,
        }
        self.jobs.append(job)
        if fn.singleton and running:
            job |= {"status": "Skipped", "ended": self.clock.now}
            for id_ in items:
                self._drop(fn, id_)
            return
        random = self.world.random
        takes = fn.takes * random.uniform(0.5, 1.5)
        fails = fn.fails or random.random() < self.failure_rate
        self._free = self._free or [0.0] * self.workers
        begins = max(self.world.now + 0.05, heapq.heappop(self._free))
        heapq.heappush(self._free, begins + takes)
        for id_ in items:
            self.truths[id_].fates[fn.name] = "failed" if fails else "completed"
            self.truths[id_].ends[fn.name] = begins + takes

        def begin() -> None:
            job.update(status="Running", began=_iso(begins + self.clock.ahead))

        def end() -> None:
            job.update(status="Failed" if fails else "Completed", ended=self.clock.now)
            if not fails:
                for id_ in items:
                    self.work(self.truths[id_].name, self.truths[id_].item)

        self.at(begins, begin)
        self.at(begins + takes, end)

    def go_on(self) -> None:
        now = self.world.now
        while self._due and self._due[0][0] <= now:
            self.world.now, _, do = heapq.heappop(self._due)
            do()
            self.world.now = now

    def _go_on(self) -> None:
        self.go_on()

    def open_of(self, run_id: str, name: str) -> int:
        """Return how many events of a run have not ended yet."""
        now = self.world.now
        return sum(
            not truth.ended(now)
            for id_, truth in self.truths.items()
            if truth.name == name and id_.startswith(f"{run_id}:")
        )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


Sees = Callable[[Process, httpx.Request], None]


@dataclass
class Network(httpx.AsyncBaseTransport):
    """`cut`: until when nothing gets through. `faulty`: the share of requests that are hit."""

    world: Scheduler
    server: Server
    sees: Sees
    latency: float = 0.02
    cut: float = 0.0
    silent: bool = False  # while it is cut, requests hang instead of being refused
    faulty: float = 0.0
    faults: int = 0
    begun: set[int] = field(default_factory=set)  # pids that sent, or got an answer about jobs
    told: Counter[str] = field(default_factory=Counter)  # notices that a hook accepted, by id

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process = current()
        assert process
        await request.aread()
        self.world.alive()
        self.sees(process, request)
        self.world.note(process.name, request.method, request.url.path, request.content)
        await asyncio.sleep(self.latency * process.random.uniform(0.5, 2.0))
        self.world.alive()
        if self.world.now < self.cut:
            if self.silent:
                await asyncio.sleep(60.0)
            raise httpx.ConnectError("refused")
        fault = process.mortal and process.random.random() < self.faulty
        answer = await self._faulty(process, request) if fault else self._served(request)
        await asyncio.sleep(self.latency * process.random.uniform(0.5, 2.0))
        self.world.alive()
        if answer.status_code == 200 and (
            request.url.path.startswith("/v1/") or events_of(request)
        ):
            self.begun.add(process.pid)
        return answer

    async def _faulty(self, process: Process, request: httpx.Request) -> httpx.Response:
        self.faults += 1
        kind = process.random.choice(
            ("before", "after", "late", "500", "503", "429", "slow", "html")
        )
        self.world.note("network", kind)
        if kind == "before":
            raise httpx.ConnectError("refused")
        if kind == "after":
            self._served(request)
            raise httpx.ReadError("reset")
        if kind == "late":  # accepted after the client has given up
            self.server.at(self.world.now + 45.0, lambda: self._late(request))
            raise httpx.ReadTimeout("timed out")
        if kind == "slow":
            await asyncio.sleep(process.random.uniform(1.0, 29.0))
            return self._served(request)
        if kind == "html":
            return httpx.Response(502, text="<html>Bad Gateway</html>")
        headers = {"retry-after": "2"} if kind == "429" else {}
        return httpx.Response(int(kind), headers=headers)

    def _served(self, request: Any) -> httpx.Response:
        if request.url.host == HOOK:
            self.told[json.loads(request.content)["id"]] += 1
            return httpx.Response(204)
        return self.server.handle(request)

    def _late(self, request: httpx.Request) -> None:
        self._served(request)


@dataclass
class Row:
    done: int = 0
    at: float = 0.0  # last written, by the database's clock
    hidden: bool = False


@dataclass
class Data:
    """The user's database: a row per item, and a backlog. `ahead`: how far its clock is ahead.
    `lies`: items whose jobs complete and change nothing. `blind`: policies hide every row."""

    world: Scheduler
    server: Server
    ahead: float = 0.0
    zone: str = "UTC"
    lies: set[str] = field(default_factory=set)
    blind: bool = False
    away: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    backlog: int = 0
    timings: tuple[()] = ()
    shaken: bool = False  # somebody else inserted, deleted or changed rows
    asked: list[tuple[float, str, dict[str, Row]]] = field(default_factory=list)

    def for_a_run(self) -> Data:
        """It is never tried again by itself."""
        return self

    def shake(self, random: Random) -> None:
        """Hide, show, delete or write a row, as somebody else might."""
        self.shaken = True
        item = random.choice(sorted(self.rows) or ["o/r0"])
        row = self.rows.setdefault(item, Row(1))
        match random.choice(["hidden", "gone", "written"]):
            case "hidden":
                row.hidden = not row.hidden
            case "gone":
                del self.rows[item]
            case _:
                row.at = self.world.now + self.ahead

    def work(self, name: str, item: str) -> None:
        if item in self.lies:
            return
        row = self.rows.setdefault(item, Row())
        row.done += 1
        row.at = self.world.now + self.ahead
        if name == "app/drain":
            self.backlog = max(0, self.backlog - 1)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        self._reach()
        text = str(query.ask)
        if "backlog" in text:
            return Table(("pending",), ((0 if self.blind else self.backlog,),))
        shown = [] if self.blind else [(k, r) for k, r in self.rows.items() if not r.hidden]
        if "select repo from" in text:
            name = text.split("from ")[1].split()[0]
            self.asked.append((self.world.wall(), name, {k: replace(r) for k, r in shown}))
        return Table(
            ("repo", "done", "done_pct", "at"),
            tuple(
                (item, row.done, 100.0 if row.done else 0.0, self._written(row.at))
                for item, row in shown
            ),
        )

    def _written(self, at: float) -> str:
        """Format a time without a zone, as in `timestamp` columns."""
        from zoneinfo import ZoneInfo

        there = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(self.zone))
        return there.replace(tzinfo=None).isoformat(sep=" ")

    def clock(self, name: str | None) -> DatabaseClock:  # noqa: ARG002
        from zoneinfo import ZoneInfo

        self._reach()
        now = datetime.fromtimestamp(self.world.now + self.ahead, UTC)
        offset = now.astimezone(ZoneInfo(self.zone)).utcoffset()
        assert offset is not None
        return DatabaseClock(now.isoformat(), self.zone, offset.total_seconds(), self.ahead)

    def row_security(
        self,
        query: Query,  # noqa: ARG002
        parameters: Mapping[str, Json],  # noqa: ARG002
    ) -> tuple[RowSecurity, ...]:
        self._reach()
        return (RowSecurity("rows", blind=self.blind),)

    def close(self) -> None: ...

    def _reach(self) -> None:
        self.world.wait(0.01)
        self.server.go_on()
        if self.world.now < self.away:
            raise TargetDown("the database cannot be reached", hint="once it is back")


def events_of(request: httpx.Request) -> list[dict[str, Any]]:
    if request.method != "POST" or not request.url.path.startswith("/e/"):
        return []
    found: list[dict[str, Any]] = json.loads(request.content)
    return found
