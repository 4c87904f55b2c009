"""Writes by processes that do not drive a run, and so without a lease: control requests, which the
driving process obeys, notes, holds, and syncs from git."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Literal

from runner.adapters.journal import leases
from runner.adapters.journal.database import Connection
from runner.model import SyncRecord, TargetHold
from runner.spec.units import format_duration


def request(
    connection: Connection, run_id: str, wanted: Literal["pause", "cancel"], who: str
) -> bool:
    """Request a pause or a cancel; False if the run is to be cancelled and so cannot be paused."""
    taken = connection.change(
        """UPDATE runs SET wanted = :wanted
        WHERE id = :run AND (:wanted = 'cancel' OR coalesce(wanted, '') <> 'cancel')""",
        run=run_id,
        wanted=wanted,
    )
    if taken:
        note(connection, run_id, f"{wanted} requested", who)
    return bool(taken)


def withdraw_pause(connection: Connection, run_id: str, who: str) -> None:
    """Withdraw a pause; a parked run then waits for nothing until its next step says so."""
    if connection.change(
        "UPDATE runs SET wanted = NULL WHERE id = :run AND wanted = 'pause'", run=run_id
    ):
        note(connection, run_id, "end of the pause requested", who)
    held = connection.row("SELECT *, {now} AS now FROM leases WHERE run_id = :run", run=run_id)
    submission = leases.standing_of(held)[1] if held else None
    if submission and submission.waits:
        leases.end_waits(connection, run_id, time.time())


def set_pace(
    connection: Connection,
    run_id: str,
    batch_size: int | None,
    delay: float | None,
    max_in_flight: int | None,
    who: str,
) -> None:
    """Request another pace; what is not given stays as it is."""
    connection.change(
        """UPDATE runs SET batch_size = coalesce(:batch_size, batch_size),
        delay = coalesce(:delay, delay), max_in_flight = coalesce(:max_in_flight, max_in_flight)
        WHERE id = :run""",
        run=run_id,
        batch_size=batch_size,
        delay=delay,
        max_in_flight=max_in_flight,
    )
    given = {
        "batch size": batch_size and f"{batch_size:,}",
        "delay": None if delay is None else format_duration(delay),
        "at most in flight": max_in_flight and f"{max_in_flight:,}",
    }
    pace = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    note(connection, run_id, f"another pace requested: {pace}", who)


def note(connection: Connection, run_id: str, what: str, who: str) -> None:
    """Note what somebody has done to the run or requested of it."""
    connection.change(
        "INSERT INTO notes (run_id, at, message, who) VALUES (:run, :now, :message, :who)",
        run=run_id,
        now=time.time(),
        message=what,
        who=who,
    )


def hold(
    connection: Connection,
    address: str,
    target: str,
    reason: str,
    seconds: float | None,
    who: str,
) -> None:
    """Hold a target, for `seconds` or until it is let go; a later hold replaces this one."""
    connection.change(
        """INSERT INTO holds (address, target, reason, holder, since, until)
        VALUES (:address, :target, :reason, :holder, {now}, {now} + :seconds)
        ON CONFLICT (address) DO UPDATE SET target = excluded.target, reason = excluded.reason,
        holder = excluded.holder, since = excluded.since, until = excluded.until""",
        address=address,
        target=target,
        reason=reason,
        holder=who,
        seconds=seconds,
    )


def let_go(connection: Connection, address: str) -> bool:
    """End a hold; return whether the target was held."""
    held = any(hold.address == address for hold in holds(connection))
    connection.change("DELETE FROM holds WHERE address = :address", address=address)
    return held


def holds(connection: Connection) -> list[TargetHold]:
    """Return the holds that are in force."""
    query = f"""SELECT {", ".join(TargetHold._fields)} FROM holds
    WHERE until IS NULL OR until > {{now}} ORDER BY since, target"""
    return [TargetHold(*row) for row in connection.rows(query)]


def syncs(connection: Connection) -> list[SyncRecord]:
    """Return all syncs, the one that looked last first."""
    found = connection.rows("SELECT * FROM syncs ORDER BY checked_at DESC")
    return [SyncRecord(**row._asdict()) for row in found]


def keep_sync(connection: Connection, record: SyncRecord) -> None:
    values = asdict(record)
    connection.change("DELETE FROM syncs WHERE id = :id", id=record.id)
    names = ", ".join(values)
    given = ", ".join(f":{name}" for name in values)
    connection.change(f"INSERT INTO syncs ({names}) VALUES ({given})", **values)
