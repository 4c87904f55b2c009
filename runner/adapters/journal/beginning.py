"""A request, written down before it is made."""

from __future__ import annotations

import time

from sqlalchemy import Connection, bindparam, insert, select

from runner.adapters.journal.leases import Lease
from runner.adapters.journal.tables import chunks, leases, runs
from runner.execution.ports import Chunk, Orders

# Made once: it goes with every request. One statement, as each costs a round trip to a server: it
# asks whether the lease is held and the orders are those that were seen, and keeps the lease from
# being taken over until the request is written.
_ROW = [column for column in chunks.c if column.name not in ("ids", "completed", "failed")]
ORDERS = [runs.c[name] for name in Orders._fields]
_BEGUN = (
    insert(chunks)
    .from_select(
        [column.name for column in _ROW],
        select(*(bindparam(f"new_{column.name}", type_=column.type) for column in _ROW))
        .select_from(leases.join(runs, leases.c.run_id == runs.c.id))
        .where(leases.c.name == bindparam("held"), leases.c.token == bindparam("by"))
        .where(*(order.is_not_distinct_from(bindparam(order.name)) for order in ORDERS))
        .with_for_update(of=leases),
    )
    .execution_options(preserve_rowcount=True)
)


def begin(connection: Connection, run_id: str, lease: Lease, chunk: Chunk, seen: Orders) -> bool:
    """False where the orders are others than those `seen`. Raises `LeaseLost`."""
    values = {
        "new_run_id": run_id,
        "new_number": chunk.number,
        "new_stage": chunk.stage,
        "new_batch": chunk.batch,
        "new_operation": chunk.operation,
        "new_event": chunk.event,
        "new_first": chunk.positions[0],
        "new_last": chunk.positions[-1],
        "new_seed": chunk.seed,
        "new_state": "sending",
        "new_resent": False,
        "new_sent_at": time.time(),
        "held": lease.name,
        "by": lease.token,
        **seen._asdict(),
    }
    if connection.execute(_BEGUN, values).rowcount == 1:
        return True
    lease.renew(connection)
    return False
