"""Leases: which process may send for a plan to an address, one at a time; and when a run was
driven.

Only time in which a run is driven counts as work. A paused run counts as driven, and so does one
that is left to the workers, until they are due.
"""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runner.adapters.journal.database import Connection, Database
from runner.errors import LeaseLost, LockHeld
from runner.model import OVER, Driven, Submission, frozen
from runner.spec.units import format_duration

WORKERS = "the workers"  # the holder of a lease that waits for its next step
PARKED = "none"  # the machine of a lease that waits for its run to be continued: see `park`
LATE = 900.0  # seconds that workers may be late for a run that is left to them
_ACTORS = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN")
SECONDS = 60.0  # without a sign of life, after which anybody may take over a lease

HOLDS = """FROM holds WHERE holds.address = runs.address
  AND (holds.until IS NULL OR holds.until > {now})"""
_HELD = f"""
SELECT leases.*, {{now}} AS now, runs.status AS status, runs.wanted AS wanted,
(SELECT holds.target {HOLDS}) AS hold
FROM leases LEFT JOIN runs ON runs.id = leases.run_id WHERE leases.name = :name
"""
_RENEW = f"""
UPDATE leases SET expires_at = {{now}} + {SECONDS} WHERE name = :name AND token = :token
"""


@frozen
class Lease:
    """The right to send. Every write of a run renews it, and so notices if it is lost: a machine
    that slept through its lease cannot send in parallel with the one that took over."""

    database: Database
    name: str
    token: str

    def renew(self, connection: Connection) -> None:
        """Renew the lease. Raises `LeaseLost`."""
        if not connection.change(_RENEW, name=self.name, token=self.token):
            message = "another process has taken over this run's lock: nothing more was sent"
            raise LeaseLost(
                message,
                hint="this process did not renew it in time; `backfill status` shows the run",
            )

    def release(self) -> None:
        with self.database.write() as connection:
            connection.change(
                "DELETE FROM leases WHERE name = :name AND token = :token",
                name=self.name,
                token=self.token,
            )


def acquire(database: Database, name: str, run_id: str, who: str, *, worker: bool = False) -> Lease:
    """Take the lease, even from a dead holder. Raises `LockHeld`, which names the holder.

    `worker`: other workers continue the run if this process dies. If two processes try at once,
    only one gets the lease: the row's key, or the token it is taken from, decides.
    """
    lease = Lease(database, name, os.urandom(16).hex())
    with database.write() as connection:
        held = connection.row(_HELD, name=name)
        # A worker that died at the end of its run leaves nothing to continue.
        ours = held is not None and (held.run_id == run_id or held.status in OVER) and _waits(held)
        if held and not ours and not _is_free(held):
            raise _held(held)
        taken = connection.change(
            """INSERT INTO leases
            (name, token, run_id, holder, machine, pid, taken_at, expires_at, workers)
            VALUES (:name, :token, :run, :holder, :machine, :pid, {now}, {now} + :seconds, :workers)
            ON CONFLICT (name) DO UPDATE SET
            token = excluded.token, run_id = excluded.run_id, holder = excluded.holder,
            machine = excluded.machine, pid = excluded.pid, taken_at = excluded.taken_at,
            expires_at = excluded.expires_at, workers = excluded.workers
            WHERE leases.token = :before""",
            name=name,
            token=lease.token,
            run=run_id,
            holder=who,
            machine=_machine(),
            pid=os.getpid(),
            seconds=SECONDS,
            workers=worker,
            before=held.token if held else "",
        )
        if not taken:
            raise LockHeld("another run of this plan has just begun")
    return lease


def park(lease: Lease, until: float, holder: str) -> Lease:
    """Leave the lease to whoever continues the run at `until` (seconds since 1970); nobody else may
    send for its plan before, and `acquire` gives it to that process.

    Return the parked lease, which the caller no longer holds. Raises `LeaseLost`.
    """
    parked = Lease(lease.database, lease.name, os.urandom(16).hex())
    with lease.database.write() as connection:
        lease.renew(connection)
        connection.change(
            """UPDATE leases SET token = :parked, machine = :machine, pid = 0, holder = :holder,
            expires_at = :until, workers = TRUE WHERE name = :name AND token = :token""",
            parked=parked.token,
            machine=PARKED,
            holder=holder,
            until=until + SECONDS,
            name=lease.name,
            token=lease.token,
        )
        run_id = connection.value("SELECT run_id FROM leases WHERE name = :name", name=lease.name)
        keep_drive(connection, run_id, until)
    return parked


@contextmanager
def holding(lease: Lease) -> Iterator[Lease]:
    try:
        yield lease
    finally:
        with suppress(Exception):  # it expires by itself, and the first error is the one to show
            lease.release()


def standing_of(held: Any) -> tuple[str | None, Submission | None]:
    """Return who drives the run, for people, or None if anybody may; and the state of a run that is
    left to the workers. `held`: its lease, with `now` by the clock of the state."""
    submission = None
    if held.workers:
        submission = Submission(_waits(held), _is_silent(held), _in_brackets(held))
    return None if _is_free(held) else _described(held), submission


def silent_since(held: Any) -> float:
    """Return the latest sign of life of the lease's holder, since 1970."""
    return float(held.expires_at) - SECONDS


def _waits(held: Any) -> bool:
    """Whether it is left to the workers and none of them drives it right now."""
    return held.workers and (held.machine == PARKED or _is_silent(held))


def who(environ: Mapping[str, str], *, agent: bool = False) -> str:
    """Name the user of this process, for people; in CI, the user that the job runs for."""
    user = next(filter(None, map(environ.get, _ACTORS)), None) or _user()
    of_agent = ", by an agent" if agent else ""
    who = f"{user}@{platform.node()} (process {os.getpid()}{of_agent})"
    return who.encode(errors="replace").decode()  # a state takes only UTF-8


def _held(held: Any) -> LockHeld:
    wait = "`run`, `resume` and `retry` wait for it with --wait-lock 10m"
    wait = f"{wait}; `backfill cancel {held.run_id}` ends it"
    if held.hold:
        wait = f"{held.hold} is held: `backfill resume --target {held.hold}` releases it"
    if held.wanted == "pause":
        wait = f"it is paused: `backfill resume {held.run_id}` lets it go on"
    if _waits(held):
        left = f"run {held.run_id} of this plan is left to the workers ({_in_brackets(held)})"
        return LockHeld(left, hint=wait)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held.taken_at))
    message = f"run {held.run_id} of this plan is under way: {held.holder} holds it since {since}"
    quiet = SECONDS - (held.expires_at - held.now)
    alive = f"its last sign of life was {format_duration(max(0, round(quiet)))} ago"
    return LockHeld(message, hint=f"{alive}; {wait}")


def _described(held: Any) -> str:
    """Describe who drives the run, or will."""
    if held.machine == PARKED:
        none_came = "; none has come yet" if _is_silent(held) else ""
        return f"{held.holder}{_due(held)}{none_came}"
    if not (held.workers and _is_silent(held)):
        return str(held.holder)
    return f"nobody just now, since its worker, {held.holder}, has gone: the engine asks another"


def _in_brackets(held: Any) -> str:
    """The same, to follow a mention of the workers."""
    return _described(held).removeprefix(f"{WORKERS}, ")


def _due(held: Any) -> str:
    """Say when the next step is or was due; the text stays the same until then, and from then
    on."""
    if held.holder != WORKERS:
        return ""
    due = held.expires_at - SECONDS
    at = time.strftime("%H:%M:%S UTC", time.gmtime(due))
    return f", next at {at}" if held.now < due else f", due since {at}"


def _is_free(held: Any) -> bool:
    """Whether anybody may take it. For a while, the engine asks one worker after the other."""
    return held.expires_at + LATE < held.now if held.workers else _is_silent(held)


def _is_silent(held: Any) -> bool:
    """Whether its process has died, or given no sign of life for too long."""
    if held.expires_at < held.now:
        return True
    return held.machine == _machine() and os.name == "posix" and _has_ended(held.pid)


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        return False
    with suppress(OSError):  # there is no /proc on macOS
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
        return state.split()[:1] == ["Z"]  # it has ended, and its parent has not asked how
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "somebody"


def _machine() -> str:
    """Identify where process ids are valid: a boot of a machine, and a container on it."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def begin_drive(connection: Connection, run_id: str, now: float) -> None:
    end_drive(connection, run_id, now)  # ends what was left to the workers until later
    connection.change(
        "INSERT INTO drives (run_id, since, until) VALUES (:run, :now, :now)", run=run_id, now=now
    )


def keep_drive(connection: Connection, run_id: str, until: float) -> None:
    """Extend the latest drive to `until`, which may be in the future; begin another if the clock
    was put back to before its start."""
    kept = connection.change(
        """UPDATE drives SET until = :until WHERE since <= :until AND number = (
          SELECT max(number) FROM drives WHERE run_id = :run
        )""",
        run=run_id,
        until=until,
    )
    if not kept:
        connection.change(
            """INSERT INTO drives (run_id, since, until) SELECT run_id, :until, :until
            FROM drives WHERE run_id = :run ORDER BY number DESC LIMIT 1""",
            run=run_id,
            until=until,
        )


def end_drive(connection: Connection, run_id: str, now: float) -> None:
    """Cut drives that extend into the future: nobody waits for the workers any more."""
    connection.change(
        """UPDATE drives SET until = :now
        WHERE run_id = :run AND until > :now AND since <= :now""",
        run=run_id,
        now=now,
    )


def end_waits(connection: Connection, run_id: str, now: float) -> None:
    """End all waits of the run. One that began later, because the clock was put back, gets no
    duration."""
    connection.change(
        """UPDATE waits SET ended = CASE WHEN began > :now THEN began ELSE :now END
        WHERE run_id = :run AND ended IS NULL""",
        run=run_id,
        now=now,
    )


def driven_until(connection: Connection, run_id: str, now: float, *, driven: bool) -> Driven:
    """Return when the run was driven, up to now; `driven`: a process drives it and wrote to the
    journal recently."""
    found = connection.rows(
        "SELECT since, until FROM drives WHERE run_id = :run ORDER BY number", run=run_id
    )
    intervals = Driven(tuple(map(tuple, found)))
    last = found[-1].until if found and not driven else now
    return intervals.until(min(last, now))
