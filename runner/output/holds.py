"""Targets that are held, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from runner.model import TargetHold
from runner.output.text import visible
from runner.spec.opening import shown


def hold_words(hold: TargetHold) -> str:
    until = "until it is let go" if hold.until is None else f"until {shown(hold.until)}"
    return (
        f"{hold.target} is held by {hold.holder} since {shown(hold.since)}, {until}: {hold.reason}"
    )


def write_holds(holds: Iterable[TargetHold], out: TextIO) -> None:
    out.writelines(f"{visible(hold_words(hold))}\n" for hold in holds)


def holds_json(holds: Iterable[TargetHold]) -> list[dict[str, Any]]:
    return [
        {
            "target": hold.target,
            "reason": hold.reason,
            "holder": hold.holder,
            "since": _time(hold.since),
            "until": None if hold.until is None else _time(hold.until),
        }
        for hold in holds
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
