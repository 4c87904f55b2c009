"""A worker's part of a run, as the engine asks for it: from JSON and to JSON, and into the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.cli.portions import Portions, Request, Turn, read_turn
from runner.errors import BackfillError

_LOG = logging.getLogger("backfill.worker")


@dataclass(frozen=True, slots=True)
class Carried:
    """Meets `runner.adapters.worker.function.Carrier`."""

    portions: Portions

    def carry(
        self, request: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        asked = _request(request)
        try:
            turn = self.portions.carry(asked, read_turn(before))
        except BackfillError as error:
            _LOG.warning("%s; it is tried again", error, extra={"run": asked.run})
            raise
        _LOG.info("%s", _told(turn), extra={"run": asked.run})
        return turn.written()

    def give_up(self, request: Mapping[str, Any], why: str) -> None:
        asked = _request(request)
        _LOG.error("incomplete: %s", why, extra={"run": asked.run})
        self.portions.give_up(asked, why)


def _told(turn: Turn) -> str:
    if turn.status != "running":
        return turn.status + (f": {turn.why}" if turn.why else "")
    if not turn.until:
        return "goes on at once"
    at = datetime.fromtimestamp(turn.until, UTC).strftime("%H:%M:%S UTC")
    return f"goes on at {at}: {turn.why}"


def _request(data: Mapping[str, Any]) -> Request:
    """What the event says; what it has for others is passed over."""
    return Request(**{name: data[name] for name in Request.__slots__ if name in data})
