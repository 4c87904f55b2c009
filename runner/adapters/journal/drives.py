"""When somebody drove a run: only that time counts as work.

A run that is paused is driven, and so is one that is left to the workers, until they are due.
"""

from __future__ import annotations

from runner.adapters.journal.database import Connection
from runner.model import Driven


def begin(connection: Connection, run_id: str, now: float) -> None:
    end(connection, run_id, now)  # what was left to the workers until later
    connection.change(
        "INSERT INTO drives (run_id, since, until) VALUES (:run, :now, :now)", run=run_id, now=now
    )


def keep(connection: Connection, run_id: str, until: float) -> None:
    """The latest drive has gone on until then, or will."""
    connection.change(
        """UPDATE drives SET until = :until WHERE number = (
          SELECT max(number) FROM drives WHERE run_id = :run
        )""",
        run=run_id,
        until=until,
    )


def end(connection: Connection, run_id: str, now: float) -> None:
    """Nobody waits for the workers any more."""
    connection.change(
        "UPDATE drives SET until = :now WHERE run_id = :run AND until > :now", run=run_id, now=now
    )


def of(connection: Connection, run_id: str, now: float, *, driven: bool) -> Driven:
    """Up to now; `driven`: somebody is at it, and has kept the journal a moment ago."""
    found = connection.rows(
        "SELECT since, until FROM drives WHERE run_id = :run ORDER BY number", run=run_id
    )
    intervals = [(since, min(until, now)) for since, until in found]
    if driven and intervals:
        intervals[-1] = intervals[-1][0], now
    return Driven(tuple(intervals))
