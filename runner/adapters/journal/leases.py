"""Who may send for a plan to an address: one process at a time, as long as it is alive."""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from runner.adapters.journal.reach import reachable
from runner.adapters.journal.tables import leases
from runner.errors import LeaseLost, LockHeld
from runner.model import Handed
from runner.spec.units import format_duration

WORKERS = "the workers"  # the holder of a lease that waits for its next portion
PARKED = "none"  # the machine of a lease that waits for its run to be carried on: see parking.py
LATE = 900.0  # seconds that workers may be late for a run that is left to them
SECONDS = 60.0  # without a sign of life, after which anybody may take a lease over


# Made once: they go with every request, and building one costs more than carrying it out.
_OURS = update(leases).where(leases.c.name == bindparam("held"), leases.c.token == bindparam("by"))
_RENEW = _OURS.values(expires_at=bindparam("at"))
_RENEW_THERE = _OURS.values(expires_at=func.extract("epoch", text("now()")) + SECONDS)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send. Every write of a run renews it, and so finds out that it is lost: a
    machine that slept through its lease cannot send beside the one that took over."""

    engine: Engine
    name: str
    token: str

    def renew(self, connection: Connection) -> None:
        """Raises `LeaseLost`."""
        held: dict[str, Any] = {"held": self.name, "by": self.token}
        if connection.dialect.name == "sqlite":
            renewed = connection.execute(_RENEW, held | {"at": time.time() + SECONDS})
        else:
            renewed = connection.execute(_RENEW_THERE, held)
        if not renewed.rowcount:
            message = "another process has taken this run's lock: nothing more was sent"
            raise LeaseLost(message, hint="this one was silent for too long; see `backfill resume`")

    def release(self) -> None:
        with reachable(self.engine.url), self.engine.begin() as connection:
            connection.execute(
                delete(leases).where(leases.c.name == self.name, leases.c.token == self.token)
            )


def acquire(engine: Engine, name: str, run_id: str, *, worker: bool = False) -> Lease:
    """Take the lease, also from a holder that is dead. Raises `LockHeld`, which names the holder.

    `worker`: others go on with the run where this process dies.

    Two that try at once cannot both get it: the row's key, or the token it is taken from, decides.
    """
    lease = Lease(engine, name, str(ULID()))
    with reachable(engine.url):
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                held = connection.execute(select(leases).where(leases.c.name == name)).first()
                now = _now(connection)
                ours = held is not None and held.run_id == run_id and _waits(held, now)
                if held and not ours and not _is_free(held, now):
                    raise _held(held, now)
                _write(connection, lease, run_id, held, workers=worker)
        except IntegrityError:
            raise LockHeld("another run of this plan has just begun") from None
    return lease


@contextmanager
def holding(lease: Lease) -> Iterator[Lease]:
    try:
        yield lease
    finally:
        with suppress(Exception):  # it runs out by itself, and the first error is the one to show
            lease.release()


def holder_of(connection: Connection, run_id: str) -> str | None:
    """Who is carrying the run out just now, for people; None where anybody may."""
    return standing_of(connection, run_id)[0]


def standing_of(connection: Connection, run_id: str) -> tuple[str | None, Handed | None]:
    """The same, and how it is with a run that is left to the workers."""
    held = connection.execute(select(leases).where(leases.c.run_id == run_id)).first()
    if held is None:
        return None, None
    now = _now(connection)
    handed = None
    if held.workers:
        handed = Handed(_waits(held, now), _is_silent(held, now), _in_brackets(held, now))
    return None if _is_free(held, now) else _described(held, now), handed


def _waits(held: Row[Any], now: float) -> bool:
    """Is it left to the workers, and none of them at it just now?"""
    return held.workers and (held.machine == PARKED or _is_silent(held, now))


def who() -> str:
    """This process, for people."""
    return f"{_user()}@{platform.node()} (process {os.getpid()})"


def _write(
    connection: Connection, lease: Lease, run_id: str, held: Row[Any] | None, *, workers: bool
) -> None:
    now = _now(connection)
    values = {
        "token": lease.token,
        "run_id": run_id,
        "holder": who(),
        "machine": _machine(),
        "pid": os.getpid(),
        "taken_at": now,
        "expires_at": now + SECONDS,
        "workers": workers,
    }
    if held is None:
        connection.execute(insert(leases).values(name=lease.name, **values))
        return
    taken = connection.execute(
        update(leases)
        .where(leases.c.name == lease.name, leases.c.token == held.token)
        .values(**values)
    )
    if not taken.rowcount:
        raise LockHeld("another run of this plan has just begun")


def _held(held: Row[Any], now: float) -> LockHeld:
    wait = f"wait for it with --wait-lock 10m, or `backfill cancel {held.run_id}`"
    if _waits(held, now):
        left = f"run {held.run_id} of this plan is left to the workers ({_in_brackets(held, now)})"
        return LockHeld(left, hint=wait)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held.taken_at))
    message = f"run {held.run_id} of this plan is under way: {held.holder} holds it since {since}"
    quiet = SECONDS - (held.expires_at - now)
    alive = f"its last sign of life was {format_duration(max(0, round(quiet)))} ago"
    return LockHeld(message, hint=f"{alive}; {wait}")


def _described(held: Row[Any], now: float) -> str:
    """Who carries the run out, or is to."""
    if held.machine == PARKED:
        none_came = "; none has come yet" if _is_silent(held, now) else ""
        return f"{held.holder}{_due(held, now)}{none_came}"
    if not (held.workers and _is_silent(held, now)):
        return str(held.holder)
    return f"nobody just now, since its worker, {held.holder}, has gone: the engine asks another"


def _in_brackets(held: Row[Any], now: float) -> str:
    """The same, after a word of the workers."""
    return _described(held, now).removeprefix(f"{WORKERS}, ")


def _due(held: Row[Any], now: float) -> str:
    """When the next portion is, or was; the same text until it is, and until somebody comes."""
    if held.holder != WORKERS:
        return ""
    due = held.expires_at - SECONDS
    at = time.strftime("%H:%M:%S UTC", time.gmtime(due))
    return f", next at {at}" if now < due else f", due since {at}"


def _is_free(held: Row[Any], now: float) -> bool:
    """May anybody take it? The engine asks one worker after the other, for a while."""
    return held.expires_at + LATE < now if held.workers else _is_silent(held, now)


def _is_silent(held: Row[Any], now: float) -> bool:
    """Its process has died, or has given no sign of life for too long."""
    if held.expires_at < now:
        return True
    if held.machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(held.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _now(connection: Connection) -> float:
    """The clock of the server that all holders share; on SQLite they share a machine."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(select(func.extract("epoch", text("now()")))).scalar_one())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "somebody"


def _machine() -> str:
    """Where process numbers mean the same: a boot of a machine, and a container on it."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
