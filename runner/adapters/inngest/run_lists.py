"""Following many events: ``GET {origin}/v2/runs``, a hundred jobs a page (protocol page, 3)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import orjson

from runner.adapters.inngest.output import message_of
from runner.adapters.inngest.target import Target
from runner.execution.ports import Listed, ListsTooLong
from runner.model import Job

PAGE = 100  # the most that a server gives
# Jobs that go on come first: one that ends meanwhile is then in the lists of those that have ended.
# Each job is in one list. (Skipped and overflowed ones are in none: they have no status there.) By
# the time that they were queued, since the lists by the time of the end leave most of them out.
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


class _NoLists(Exception):
    """The server does not answer as one that has them."""


@dataclass(slots=True)
class RunLists:
    """`get` makes a request for a list, which raises `TargetError`; `batch` names the events that
    a job of a function with batches was started by: the lists name one of them."""

    get: Callable[[Mapping[str, Any]], Awaitable[tuple[httpx.Response, bytes]]]
    batch: Callable[[str], Awaitable[Sequence[str]]]
    target: Target
    _batches: dict[str, Sequence[str]] = field(default_factory=dict)
    _ahead: float | None = None  # seconds that the server's clock is ahead of ours

    async def since(self, moment: float, most: Callable[[], int]) -> list[Listed] | None:
        """What was queued since then; None where the server has no lists.

        Raises `ListsTooLong` where more than `most` requests were needed.
        """
        pages = count()

        def read_on() -> None:
            if next(pages) >= most():
                raise ListsTooLong

        try:
            if self._ahead is None:
                before = time.time()
                self._ahead = _fetched_at(await self._page({"limit": 1}), before) - before
            found: list[Listed] = []
            for query in _LISTS:
                found += await self._all(query, moment + self._ahead, read_on)
        except _NoLists:
            return None
        return found

    async def _all(
        self, query: Mapping[str, Any], moment: float, read_on: Callable[[], None]
    ) -> list[Listed]:
        start = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
        found: list[Listed] = []
        asked = {**query, "timeField": "queuedAt", "from": start, "order": "asc", "limit": PAGE}
        cursor: str | None = None
        while True:
            read_on()
            page = await self._page({**asked, **({"cursor": cursor} if cursor else {})})
            for run in page.get("data") or ():
                found += await self._listed(run)
            paging = page.get("page") or {}
            following = paging.get("cursor") if paging.get("hasMore") else None
            if not following or following == cursor:
                return found
            cursor = following

    async def _page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        response, body = await self.get(query)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if response.status_code != 200 or not isinstance(answer, dict) or "page" not in answer:
            raise _NoLists
        return answer

    async def _listed(self, run: dict[str, Any]) -> list[Listed]:
        status = _STATUSES.get(str(run.get("status")))
        trigger = run.get("trigger") or {}
        events = trigger.get("eventIds") or []
        if status is None or not run.get("id"):
            raise _NoLists
        ended = bool(run.get("endedAt"))
        if ended and status in ("Scheduled", "Running"):
            return []  # it was skipped, or overflowed: an answer about its event says which
        job_id = str(run["id"])
        if trigger.get("isBatch"):
            if job_id not in self._batches:
                self._batches[job_id] = await self.batch(job_id)
            events = self._batches[job_id] or events
        failed = ended and status != "Completed"
        job = Job(
            id=job_id,
            function=str((run.get("function") or {}).get("id", "")),
            status=status,
            ended=ended,
            message=message_of(run.get("output"), self.target) if failed else None,
            url=self.target.job_url(job_id),
        )
        return [Listed(str(event), job) for event in events]


def _fetched_at(page: Mapping[str, Any], otherwise: float) -> float:
    """The server's time; a page that does not tell it is taken to have ours."""
    try:
        return datetime.fromisoformat(page["metadata"]["fetchedAt"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return otherwise
