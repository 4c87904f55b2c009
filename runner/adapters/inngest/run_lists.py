"""Following many events: ``GET {origin}/v2/runs``, a hundred jobs a page (protocol page, 3)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import orjson

from runner.adapters.http import Answer, AnswerTooLarge
from runner.adapters.inngest.http import (
    are_ids,
    is_id,
    json_of,
    moment_of,
    no_ids,
    not_inngests,
    words,
)
from runner.adapters.inngest.target import Target
from runner.execution.ports import Listed, ListsTooLong
from runner.model import Function, Job

PAGE = 100  # the server's maximum
_CURSOR, _NAME = 4_096, 200  # characters
_MOMENT = 1.0  # seconds
_SKEW = 86_400.0  # seconds: a clock that differs more is not believed
# Running jobs come first: one that ends meanwhile then appears in a list of ended jobs. Each job is
# in one list. (Skipped and overflowed ones are in none: they have no status there.) Ordered by the
# time they were queued, since lists by end time omit most jobs.
_LISTS: tuple[Mapping[str, Any], ...] = (
    {"status": ["QUEUED", "RUNNING"]},
    {"status": ["COMPLETED"]},
    {"status": ["FAILED", "CANCELLED"], "includeOutput": "true"},
)
_STATUSES = {
    "QUEUED": "Scheduled",
    "RUNNING": "Running",
    "COMPLETED": "Completed",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}
MESSAGE_LENGTH = 500
_CUT = " […] "
_READ = 100_000  # characters that are searched for a key


class _NoLists(Exception):
    """The server's answer shows that it has no lists."""


@dataclass(slots=True)
class RunLists:
    """Reads lists of jobs. `get` requests a page, and raises `TargetError`."""

    get: Callable[[Mapping[str, Any]], Awaitable[Answer]]
    target: Target
    _over: dict[str, float] = field(default_factory=dict)  # when a job without `endedAt` was seen
    _limit: int = PAGE  # jobs in a page with outputs: what has fitted
    _ahead: float | None = None  # seconds that the server's clock is ahead of ours

    async def since(
        self, moment: float, of: Sequence[Function] | None, most: Callable[[], float]
    ) -> list[Listed] | None:
        """Return the jobs queued since then; None if the server has no lists. `of`: only the jobs
        of these functions are needed.

        Raises `ListsTooLong` if more than `most` requests are needed.
        """
        pages = count()

        def read_on() -> None:
            if next(pages) >= most():
                raise ListsTooLong

        try:
            if self._ahead is None:
                before = time.time()
                ahead = _fetched_at(await self._page({"limit": 1}), before) - before
                self._ahead = ahead if abs(ahead) < _SKEW else 0.0
            found: list[Listed] = []
            for query in _LISTS:
                params = {**query, **_only(of)}
                found += await self._all(params, min(moment, time.time()) + self._ahead, read_on)
        except _NoLists:
            return None
        return found

    async def _all(
        self, query: Mapping[str, Any], moment: float, read_on: Callable[[], None]
    ) -> list[Listed]:
        start = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
        found: list[Listed] = []
        params = {**query, "timeField": "queuedAt", "from": start, "order": "asc"}
        cursor, known = None, set[object]()
        while True:
            page = await self._fitting(
                {**params, **({"cursor": cursor} if cursor else {})}, read_on
            )
            fetched_at = _fetched_at(page, time.time())
            for run in page.get("data") or ():
                found += self._listed(run, fetched_at)
            paging = page["page"]
            following = paging.get("cursor") if paging.get("hasMore") else None
            if not following:
                return found
            if not isinstance(following, str) or len(following) > _CURSOR:
                raise not_inngests(self.target.name, 200)
            if following in known:  # its pages go round in a circle
                return found
            known.add(cursor := following)

    async def _fitting(
        self, query: Mapping[str, Any], read_on: Callable[[], None]
    ) -> dict[str, Any]:
        """Read a page; if it is too large, halve it. A single job that is too large is read without
        output."""
        limit = self._limit if "includeOutput" in query else PAGE
        while True:
            read_on()
            try:
                return await self._page({**query, "limit": limit})
            except AnswerTooLarge:
                if limit == 1 and "includeOutput" not in query:
                    raise
            if limit > 1:
                self._limit = limit = limit // 2
            else:
                query = {name: value for name, value in query.items() if name != "includeOutput"}

    async def _page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        response, body = await self.get(query)
        answer = json_of(body)
        if response.status_code != 200 or not isinstance(answer, dict):
            raise _NoLists
        if not isinstance(answer.get("page"), dict) or not _objects(answer.get("data")):
            raise _NoLists
        return answer

    def _listed(self, run: dict[str, Any], fetched_at: float) -> list[Listed]:
        status = _STATUSES.get(str(run.get("status")))
        trigger, function = run.get("trigger") or {}, run.get("function") or {}
        if status is None or not isinstance(trigger, dict) or not isinstance(function, dict):
            raise _NoLists
        events = trigger.get("eventIds") or []
        if not is_id(run.get("id")) or not isinstance(events, list) or not are_ids(events):
            raise no_ids(self.target.name, 200)
        ended = bool(run.get("endedAt")) or self._is_over(str(run["id"]), status)
        if ended and status in ("Scheduled", "Running"):
            return []  # skipped or overflowed: an answer about its event says which
        job_id = str(run["id"])
        failed = ended and status != "Completed"
        began = None if status == "Scheduled" else moment_of(run.get("startedAt"))
        job = Job(
            id=job_id,
            function=words(function.get("id"), _NAME),
            status=status,
            ended=ended,
            message=message_of(run.get("output"), self.target) if failed else None,
            url=self.target.job_url(job_id),
            batch=bool(trigger.get("isBatch")),
            ran=None if began is None else max(0.0, fetched_at - began),
        )
        return [Listed(str(event), job) for event in events]

    def _is_over(self, job_id: str, status: str) -> bool:
        """Whether a job is over: its status turns final a moment before `endedAt` and the output
        appear. If they are missing a second later, the server does not give them, and the status
        counts."""
        if status in ("Scheduled", "Running"):
            return False
        now = time.monotonic()
        return now - self._over.setdefault(job_id, now) >= _MOMENT


def _only(of: Sequence[Function] | None) -> Mapping[str, Any]:
    """Return the parameters that limit a list to functions; empty if their names in lists are
    unknown."""
    if not of or any(one.app is None for one in of):
        return {}
    apps = sorted({one.app for one in of if one.app})
    return {"appId": apps, "functionId": sorted({one.names[-1] for one in of})}


def _fetched_at(page: Mapping[str, Any], otherwise: float) -> float:
    """Return the server's time of a page; ours if it does not tell."""
    metadata = page.get("metadata")
    at = moment_of(metadata.get("fetchedAt")) if isinstance(metadata, dict) else None
    return otherwise if at is None else at


def _objects(found: Any) -> bool:
    if found is None:
        return True
    return isinstance(found, list) and all(isinstance(one, dict) for one in found)


def message_of(output: Any, target: Target) -> str | None:
    """Return a failed job's own message, without keys."""
    message = _own_words(output)
    return message and _cut(target.clean(message))


def _cut(message: str) -> str:
    """Shorten a long message in the middle: a traceback has its cause at the end."""
    if len(message) <= MESSAGE_LENGTH:
        return message
    first = message.partition("\n")[0][: MESSAGE_LENGTH // 3]
    return first + _CUT + message[len(first) + len(_CUT) - MESSAGE_LENGTH :]


def _own_words(output: Any) -> str | None:
    """Return a failed job's own message: ``{"code", "message", "name", "stack"}``, sometimes as
    text."""
    if isinstance(output, str):
        try:
            output = orjson.loads(output)
        except orjson.JSONDecodeError:
            return words(output, _READ) or None
    if not isinstance(output, dict):
        return None
    if isinstance(output.get("error"), dict):  # in the lists of /v2
        output = output["error"]
    name, message = output.get("name"), output.get("message")
    if not message:
        return words(name, _READ) or None
    parts = words(name, _READ), words(message, _READ)
    return ": ".join(filter(None, parts)) or None
