"""The rest of the state, for people and for machines: held targets, and followed branches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from runner.model import Health, SyncRecord, TargetHold
from runner.output.text import styled, visible
from runner.output.words import machine_time
from runner.spec.opening import shown
from runner.spec.units import format_duration

_COLORS: dict[Health, str] = {
    "healthy": "green",
    "failed": "red",
    "refused": "red",
    "unreachable": "yellow",
    "silent": "red",
    "ended": "white",
}
_TIMES = ("checked_at", "applied_at", "ended_at")


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
            "since": machine_time(hold.since),
            "until": None if hold.until is None else machine_time(hold.until),
        }
        for hold in holds
    ]


def write_syncs(syncs: Sequence[SyncRecord], now: float, out: TextIO, *, color: bool) -> None:
    for sync in syncs:
        health = sync.health(now)
        shown = styled(health, _COLORS[health]) if color else health
        where = f"{sync.repository} {sync.branch} {sync.path}"
        if sync.target:  # unknown until its files could be read once
            where += f" → {sync.target}"
        out.write(f"sync {visible(where)}: {shown}\n")
        applied = f"{sync.applied[:12]} is applied" if sync.applied else "nothing is applied yet"
        if sync.seen and sync.seen != sync.applied:
            applied += f", {sync.seen[:12]} is not"
        ago = format_duration(max(0, round(now - sync.checked_at)))
        again = f", every {format_duration(sync.every)}" if sync.ended_at is None else ""
        out.write(f"  {applied}; looked {ago} ago{again}\n")
        if sync.message:
            out.write(f"  {visible(sync.message)}\n")


def syncs_json(syncs: Sequence[SyncRecord], now: float) -> list[dict[str, Any]]:
    return [_sync_json(sync, now) for sync in syncs]


def _sync_json(sync: SyncRecord, now: float) -> dict[str, Any]:
    found = asdict(sync) | {"health": sync.health(now)}
    for name in _TIMES:
        if found[name] is not None:
            found[name] = datetime.fromtimestamp(found[name], UTC).isoformat(timespec="seconds")
    return found
