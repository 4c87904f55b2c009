"""Following: ``GET {origin}/v1/events/{id}/runs`` (protocol page, section 3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx

from runner.adapters.http import Answer, Client, Unanswered
from runner.adapters.inngest.functions import functions
from runner.adapters.inngest.http import (
    Retry,
    are_ids,
    is_id,
    json_of,
    moment_of,
    no_ids,
    not_inngests,
    request,
    words,
)
from runner.adapters.inngest.run_lists import MESSAGE_LENGTH, RunLists, message_of
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetError
from runner.execution.ports import Listed
from runner.model import ENDED, Function, Job

_TRIGGER = 'query{runTrigger(runID:"%s"){IDs}}'
_NAME = 200  # characters of a function's name
_NO_EVENT = "0" * 26  # a well-formed internal id that no event has


@dataclass(slots=True)
class HttpJobsApi:
    client: Client
    target: Target
    retry: Retry
    _keys: list[str] = field(init=False)
    _lists: RunLists = field(init=False)
    _cache_buster: Any = field(default_factory=count)
    _batches: dict[str, Sequence[str]] = field(default_factory=dict)
    _warned_of_batches: bool = False

    def __post_init__(self) -> None:
        self._keys = list(self.target.signing_keys)
        self._lists = RunLists(self._list, self.target)

    async def probe(self) -> str | None:
        response, _ = await self._ask(_NO_EVENT)
        self.retry.patience.begun = True
        if response.status_code == 404 and "json" not in response.headers.get("content-type", ""):
            return f"{self.target.name} has no /v1/events (404), which tells of jobs"
        return None

    async def jobs(self, internal_id: str) -> list[Job]:
        response, runs = await self._ask(internal_id)
        now = _date_of(response)
        return [self._job(await self._made_consistent(run), now) for run in runs]

    async def functions(self) -> Sequence[Function] | None:
        async def attempt() -> Sequence[Function] | None:
            return await functions(self._keyed)

        found: Sequence[Function] | None = await self.retry(self._what, attempt)
        return found

    async def listed(
        self, since: float, of: Sequence[Function] | None, most: Callable[[], float]
    ) -> Sequence[Listed] | None:
        """Read ``/v2/runs``, a beta: None if a server does not have it."""
        return await self._lists.since(since, of, most)

    async def batch(self, job_id: str) -> Sequence[str]:
        """Read the events of a batch from the dashboard's own API."""
        if job_id not in self._batches:
            self._batches[job_id] = await self._events_of(job_id)
        return self._batches[job_id]

    async def probe_api_key(self) -> bool:
        """Whether the server has v2 routes. Raises `KeyRefused` for the API key."""
        response, _ = await self._request("/v2/apps", {"limit": 1}, self.target.api_key)
        if response.status_code in (401, 403):
            message = f"{self.target.name} refuses the API key ({response.status_code})"
            hint = f"set {self.target.variable('INNGEST_API_KEY')} to one of this environment's"
            raise KeyRefused(message, hint=hint)
        return response.status_code == 200

    async def _made_consistent(self, run: dict[str, Any]) -> dict[str, Any]:
        """Fix a run with an end but a status from before it. Answers about an event may stay
        like that, since the server reads the two in different places; the answer about the job
        has both."""
        if not run.get("ended_at") or words(run.get("status")).lower() in ENDED:
            return run
        _, found = await self._about(f"/v1/runs/{run['run_id']}", one=True)
        return next((one for one in found if words(one.get("status")).lower() in ENDED), run)

    async def _ask(self, internal_id: str) -> tuple[httpx.Response, list[dict[str, Any]]]:
        # The server caches this answer for 15 s, even an early empty one; a query that it does not
        # know bypasses the cache (protocol page, section 6).
        return await self._about(f"/v1/events/{quote(internal_id, safe='')}/runs")

    async def _about(
        self, path: str, *, one: bool = False
    ) -> tuple[httpx.Response, list[dict[str, Any]]]:
        """Read the jobs of an event, or the `one` that the path names."""

        async def attempt() -> tuple[httpx.Response, list[dict[str, Any]]]:
            response, body = await self._get(path, {"fresh": str(next(self._cache_buster))})
            return response, self._runs(response, body, one=one)

        found: tuple[httpx.Response, list[dict[str, Any]]] = await self.retry(self._what, attempt)
        return found

    async def _list(self, query: Mapping[str, Any]) -> Answer:
        return await self._patiently("/v2/runs", query)

    async def _patiently(self, path: str, query: Mapping[str, Any]) -> Answer:
        found: Answer = await self.retry(self._what, lambda: self._keyed(path, query))
        return found

    async def _keyed(self, path: str, query: Mapping[str, Any]) -> Answer:
        """Try the API key first, then the key for single events. If that is refused here, where a
        server guards its beta, do not try others."""
        if not path.startswith("/v2/"):
            return await self._request(path, query, None)
        keys = [key for key in (self.target.api_key, *self._keys[:1]) if key]
        for key in keys[:-1]:
            response, body = await self._request(path, query, key)
            if response.status_code not in (401, 403):
                return response, body
        return await self._request(path, query, keys[-1] if keys else None)

    async def _events_of(self, job_id: str) -> list[str]:
        found: list[str] = []
        response, body = await self._patiently("/v0/gql", {"query": _TRIGGER % job_id})
        with suppress(KeyError, TypeError):
            if response.status_code == 200:
                found = list(json_of(body)["data"]["runTrigger"]["IDs"])
        if not are_ids(found):
            raise no_ids(self.target.name, response.status_code)
        if not found and not self._warned_of_batches:
            self._warned_of_batches = True
            self.retry.note(
                f"a function takes events in batches, and {self.target.name} names only "
                "one event of each batch: the outcome of the others is not known"
            )
        return found

    @property
    def _what(self) -> str:
        return f"asking {self.target.name} for jobs"

    async def _get(self, path: str, query: Mapping[str, Any]) -> Answer:
        """Try keys in turn: after a rotation the fallback may be the valid one."""
        while True:
            key = self._keys[0] if self._keys else None
            response, body = await self._request(path, query, key)
            if response.status_code not in (401, 403):
                return response, body
            if key is None or key == self._keys[-1]:
                return response, body
            if key == self._keys[0]:  # else another request has already moved on
                self._keys.pop(0)

    async def _request(self, path: str, query: Mapping[str, Any], key: str | None) -> Answer:
        url = f"{self.target.api}{path}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if self.target.environment:
            headers["x-inngest-env"] = self.target.environment
        return await request(self.client, "GET", url, headers=headers, params=query)

    def _runs(
        self, response: httpx.Response, body: bytes, *, one: bool = False
    ) -> list[dict[str, Any]]:
        status = response.status_code
        if status in (401, 403):
            what = "refuses the signing key" if self._keys else "requires a signing key"
            variable = self.target.variable("INNGEST_SIGNING_KEY")
            hint = f"set {variable}, or send without following: --no-wait"
            raise KeyRefused(f"{self.target.name} {what} ({status})", hint=hint)
        if status == 404:
            return []
        answer = json_of(body)
        if isinstance(answer, dict) and answer.get("error"):
            return self._hidden_error(answer)
        if answer == {}:  # the server's answer to an error in its own busy database
            says = "its answer is empty, which happens when its own database is busy"
            raise Unanswered(says, maybe_taken=False, answered=True)
        runs = answer
        if isinstance(answer, dict) and "data" in answer:
            runs = answer["data"] or []
            runs = [runs] if one and runs else runs
        if status != 200 or not (isinstance(runs, list) and all(isinstance(r, dict) for r in runs)):
            raise not_inngests(self.target.name, status)
        if not all(is_id(run.get("run_id")) for run in runs):
            raise no_ids(self.target.name, status)
        return runs

    def _hidden_error(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """Raise an error hidden behind 200 (protocol page, section 6): an error never means "no
        jobs"."""
        status = answer.get("status")
        if status == 404:
            return []
        says = f"it says: {self._reason(answer['error'])}"
        if isinstance(status, int) and (status == 429 or status >= 500):
            raise Unanswered(says, maybe_taken=False)
        raise TargetError(f"asking {self.target.name} for jobs: {says}")

    def _job(self, run: dict[str, Any], now: float) -> Job:
        job_id, status = str(run["run_id"]), words(run.get("status")) or "Unknown"
        original = run.get("original_run_id")
        # The status turns terminal up to 160 ms before the output and `ended_at` appear; for a
        # server without that key, the status counts.
        ended = status.lower() in ENDED and bool(run.get("ended_at", True))
        # Before a job starts, `run_started_at` is when it was queued; in the open-source server it
        # always is, also in lists.
        queued = status.lower() == "scheduled"
        began = None if queued else moment_of(run.get("run_started_at"))
        return Job(
            id=job_id,
            function=words(run.get("function_id"), _NAME),
            status=status,
            ended=ended,
            message=self._message(run) if status.lower() != "completed" else None,
            url=self.target.job_url(job_id),
            original=original if is_id(original) else None,
            batch=is_id(run.get("batch_id")),
            ran=None if began is None else max(0.0, now - began),
        )

    def _reason(self, error: object) -> str:
        return self.target.clean(words(error, 10 * MESSAGE_LENGTH))[:MESSAGE_LENGTH]

    def _message(self, run: dict[str, Any]) -> str | None:
        return message_of(run.get("output"), self.target)


def _date_of(response: httpx.Response) -> float:
    """Return the server's time, to the second; ours if it does not tell."""
    with suppress(KeyError, ValueError, OverflowError):
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    return time.time()
