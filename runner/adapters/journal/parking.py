"""A run's lease while no process holds it: before its first portion, and between two of them.

Nobody else may send for its plan meanwhile; `leases.acquire` gives it to who carries the run on. A
worker that is killed leaves it as one that parks it does.
"""

from __future__ import annotations

from sqlalchemy import update
from ulid import ULID

from runner.adapters.journal.leases import PARKED, SECONDS, Lease
from runner.adapters.journal.reach import reachable
from runner.adapters.journal.tables import leases


def park(lease: Lease, until: float, holder: str) -> Lease:
    """Leave the lease to whoever carries the run on, at `until` (seconds since 1970).

    As it is then: whoever parks it has lost it. Raises `LeaseLost`.
    """
    parked = Lease(lease.engine, lease.name, str(ULID()))
    with reachable(lease.engine.url), lease.engine.begin() as connection:
        lease.renew(connection)
        connection.execute(
            update(leases)
            .where(leases.c.name == lease.name, leases.c.token == lease.token)
            .values(
                token=parked.token,
                machine=PARKED,
                pid=0,
                holder=holder,
                expires_at=until + SECONDS,
                workers=True,
            )
        )
    return parked
