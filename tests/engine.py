"""The stand-in with functions: what each is configured to do, and the APIs that tell of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from runner.model import Outcome
from tests.support import FakeClock, StandIn

APP = "my-app"
_LISTED = {"Scheduled": "QUEUED"}  # what lists call it


@dataclass(frozen=True)
class Fn:
    """Times are in seconds. `only`: the repositories that its filter lets pass."""

    name: str
    event: str = "app/sync"
    takes: float = 1.0
    fails: bool = False
    debounce: float = 0.0
    batch: float = 0.0
    rate_limit: int = 0
    singleton: bool = False
    only: tuple[str, ...] = ()
    paused: bool = False

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.name))

    @property
    def condition(self) -> str | None:
        return f"event.data.repo in {list(self.only)}" if self.only else None

    @property
    def configuration(self) -> dict[str, Any]:
        """As the server writes it."""
        found: dict[str, Any] = {"retries": {"value": 4}}
        if self.debounce:
            found["debounce"] = {"period": f"{self.debounce:g}s"}
        if self.batch:
            found["eventsBatch"] = {"maxSize": 100, "timeout": f"{self.batch:g}s"}
        if self.rate_limit:
            found["rateLimit"] = {"limit": self.rate_limit, "period": "24h0m0s"}
        if self.singleton:
            found["singleton"] = {"mode": "FUNCTION_SINGLETON_MODE_SKIP"}
        return found


@dataclass
class Engine(StandIn):
    """`missing`: of `functions` (of /v2), `lists` and `gql`. `others`: jobs of somebody else."""

    clock: FakeClock = field(default_factory=FakeClock)
    functions: Sequence[Fn] = ()
    missing: frozenset[str] = frozenset()
    others: int = 0
    asked: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    fates: dict[str, dict[str, Outcome]] = field(default_factory=dict)  # by item, then function
    _waiting: dict[str, dict[str, Any]] = field(default_factory=dict)  # by function
    _passed: dict[str, int] = field(default_factory=dict)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self._go_on()
        path = request.url.path
        if path.startswith("/e/"):
            return super().handle(request)
        assert request.method == "GET"
        self.asked.append(path)
        api = {"/v0/gql": "gql", "/v2/runs": "lists"}.get(path, "functions")
        if path.startswith("/v1/events/"):
            found = [job for job in self.jobs if job["events"][0] == path.split("/")[3]]
            return httpx.Response(200, json={"data": list(map(_of_v1, found)), "metadata": {}})
        if api in self.missing:
            return httpx.Response(404, text="404 page not found")
        if path == "/v0/gql":
            return self._graphql(request.url.params["query"])
        if path == "/v2/runs":
            return self._list(request.url.params)
        assert path in ("/v2/apps", f"/v2/apps/{APP}/functions")
        data = [{"id": APP}] if path == "/v2/apps" else list(map(_of_v2, self.functions))
        return httpx.Response(200, json={"data": data, "page": {"limit": 100}})

    def _start(self, internal_id: str, event: dict[str, Any]) -> None:
        if event["id"] in self.effects:
            return
        self.effects.append(event["id"])
        item = event["data"]["repo"]
        self.fates[item] = {}
        for fn in self.functions:
            if fn.event == event["name"]:
                self._take(fn, internal_id, item)

    def _take(self, fn: Fn, id_: str, item: str) -> None:
        now, fate = self.clock.now, self.fates[item]
        if fn.paused or (fn.only and item not in fn.only):
            if fn.only and not fn.paused:
                fate[fn.name] = "dropped"
            return
        passed = self._passed[fn.name] = self._passed.get(fn.name, 0) + 1
        if fn.rate_limit and passed > fn.rate_limit:
            fate[fn.name] = "dropped"
        elif fn.debounce:
            before = self._waiting.get(fn.name)
            if before:
                self.fates[before["items"][0]][fn.name] = "dropped"
            self._waiting[fn.name] = {"at": now + fn.debounce, "ids": [id_], "items": [item]}
        elif fn.batch:
            kept = self._waiting.setdefault(fn.name, {"at": now + fn.batch, "ids": [], "items": []})
            kept["ids"].append(id_)
            kept["items"].append(item)
        else:
            self._run(fn, [id_], [item])

    def _run(self, fn: Fn, ids: list[str], items: list[str]) -> None:
        busy = fn.singleton and any(
            job["fn"] is fn and job["status"] == "Running" for job in self.jobs
        )
        for item in items:
            self.fates[item][fn.name] = "dropped" if busy else "failed" if fn.fails else "completed"
        status, end = ("Skipped", self.clock.now) if busy else ("Running", None)
        self.jobs.append(
            {
                "id": f"{len(self.jobs) + 1:026d}",
                "fn": fn,
                "events": ids,
                "status": status,
                "queued": self.clock.now,
                "due": self.clock.now + fn.takes,
                "ended": end,
            }
        )

    def _go_on(self) -> None:
        by_name = {fn.name: fn for fn in self.functions}
        for name, kept in list(self._waiting.items()):
            if kept["at"] <= self.clock.now:
                del self._waiting[name]
                self._run(by_name[name], kept["ids"], kept["items"])
        for job in self.jobs:
            if job["status"] == "Running" and job["due"] <= self.clock.now:
                job["status"] = "Failed" if job["fn"].fails else "Completed"
                job["ended"] = self.clock.now

    def _list(self, query: httpx.QueryParams) -> httpx.Response:
        wanted = query.get_list("status")
        if not wanted:
            return self._page([], more=False)
        of, since = query.get_list("functionId"), datetime.fromisoformat(query["from"]).timestamp()
        found = [
            _in_list(job)
            for job in self.jobs
            if _in_list(job)["status"] in wanted
            and job["status"] != "Skipped"
            and job["queued"] >= since
            and (not of or job["fn"].name in of)
        ]
        if not of and "COMPLETED" in wanted:
            found += [_of_another(number) for number in range(self.others)]
        start, limit = int(query.get("cursor", 0)), int(query["limit"])
        return self._page(
            found[start : start + limit], start + limit, more=start + limit < len(found)
        )

    def _fetched_at(self) -> datetime:
        return datetime.now(UTC)

    def _page(self, data: list[Any], cursor: int = 0, *, more: bool) -> httpx.Response:
        paging = {"hasMore": True, "cursor": str(cursor)} if more else {}
        metadata = {"fetchedAt": self._fetched_at().isoformat()}
        answer = {"data": data, "page": {"limit": 100, **paging}, "metadata": metadata}
        return httpx.Response(200, text=json.dumps(answer))

    def _graphql(self, query: str) -> httpx.Response:
        if "runTrigger" in query:
            id_ = query.split('"')[1]
            events: list[str] = next((job["events"] for job in self.jobs if job["id"] == id_), [])
            return httpx.Response(200, json={"data": {"runTrigger": {"IDs": events}}})
        functions = [
            {
                "id": fn.uuid,
                "slug": f"{APP}-{fn.name}",
                "triggers": [{"type": "EVENT", "value": fn.event, "condition": fn.condition}],
                "configuration": fn.configuration,
            }
            for fn in self.functions
        ]
        return httpx.Response(200, json={"data": {"apps": [{"functions": functions}]}})


def _of_v2(fn: Fn) -> dict[str, Any]:
    trigger = {"type": "FUNCTION_TRIGGER_TYPE_EVENT", "value": fn.event}
    return {
        "id": fn.name,
        "slug": fn.name,
        "isPaused": fn.paused,
        "triggers": [trigger | ({"if": fn.condition} if fn.condition else {})],
        "configuration": fn.configuration,
    }


def _of_v1(job: dict[str, Any]) -> dict[str, Any]:
    batch = {"batch_id": job["id"]} if job["fn"].batch else {}
    output = {"name": "ValueError", "message": "no"} if job["status"] == "Failed" else None
    return {
        "run_id": job["id"],
        "function_id": job["fn"].uuid,
        "status": job["status"],
        "ended_at": job["ended"] and "2026-01-01T00:00:00Z",
        "output": output,
        **({"run_started_at": job["began"]} if job.get("began") else {}),
        **batch,
    }


def _in_list(job: dict[str, Any]) -> dict[str, Any]:
    ended = {"endedAt": "2026-01-01T00:00:00Z"} if job["ended"] else {}
    started = {"startedAt": job["began"]} if job.get("began") else {}
    return {
        "id": job["id"],
        "status": _LISTED.get(job["status"], job["status"].upper()),
        "function": {"id": job["fn"].name},
        "trigger": {"eventIds": job["events"][:1], "isBatch": bool(job["fn"].batch)},
        **started,
        **ended,
    }


def _of_another(number: int) -> dict[str, Any]:
    return {
        "id": f"7{number:025d}",
        "status": "COMPLETED",
        "function": {"id": "somebody-elses"},
        "trigger": {"eventIds": [f"6{number:025d}"], "isBatch": False},
        "endedAt": "2026-01-01T00:00:00Z",
    }
