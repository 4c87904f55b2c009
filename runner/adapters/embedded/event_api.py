"""``POST /e/{key}``: taking events (protocol page, section 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from runner.adapters.embedded.engine import Engine
from runner.adapters.embedded.ingest import (
    MAX_EVENT_SIZE,
    MAX_EVENTS,
    Refused,
    Seed,
    check_size,
    read_event,
    read_items,
)
from runner.model import frozen


@frozen
class EventApi:
    engine: Engine
    key: str | None
    clock: Callable[[], float]

    async def receive(self, request: Request) -> Response:
        if self.key is not None and request.path_params["key"] != self.key:
            refusal = {"status": 401, "message": "", "error": "Event key not found"}
            return _answer(refusal, "application/json")
        seed = Seed.from_header(request.headers.get("x-inngest-event-id-seed", ""))
        ids, error = self._publish(await request.body(), seed)
        # An answer without ids has one empty id, to an empty request as to a refused one.
        answer: dict[str, Any] = {"ids": ids or [""], "status": 200}
        if error is not None:
            answer |= {"status": 400, "error": error}
        return _answer(answer, "text/plain")

    def _publish(self, body: bytes, seed: Seed | None) -> tuple[list[str], str | None]:
        """Not atomic: in order, up to the first event that is refused."""
        now = self.clock()
        seed = seed or Seed.fresh(now)
        ids: list[str] = []
        try:
            for index, item in enumerate(read_items(body)):
                if index == MAX_EVENTS:
                    raise Refused(f"Cannot have more than {MAX_EVENTS} events in a batch")
                if len(body) > MAX_EVENT_SIZE:
                    check_size(item)
                event = read_event(item, seed.ulid(index), now)
                self.engine.publish(event)
                ids.append(event.internal_id)
        except Refused as refused:
            return ids, str(refused)
        return ids, None


def _answer(answer: dict[str, Any], media_type: str) -> Response:
    body = orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, answer["status"], media_type=media_type)
