"""An execution plan in the journal: its head beside the run, its events in blocks."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from runner.adapters.journal.tables import blocks
from runner.model import ExecutionPlan, Stage
from runner.planning.sealed import SealedItems
from runner.planning.written import plan_of


def write_events(connection: Connection, run_id: str, plan: ExecutionPlan) -> None:
    connection.execute(delete(blocks).where(blocks.c.run_id == run_id))
    for stage in plan.stages:
        _write_stage(connection, run_id, stage)


def rewrite_stage(connection: Connection, run_id: str, stage: Stage) -> None:
    mine = (blocks.c.run_id == run_id) & (blocks.c.stage == stage.number)
    connection.execute(delete(blocks).where(mine))
    _write_stage(connection, run_id, stage)


def _write_stage(connection: Connection, run_id: str, stage: Stage) -> None:
    if not isinstance(stage.items, SealedItems):
        raise TypeError("only sealed items can be written down")
    rows = [
        {"run_id": run_id, "stage": stage.number, "number": number, "body": body}
        for number, body in enumerate(stage.items.blocks)
    ]
    if rows:
        connection.execute(insert(blocks), rows)


def read(connection: Connection, run_id: str, text: str) -> ExecutionPlan:
    """The plan of a run, as it was when the run was started."""
    query = (
        select(blocks.c.stage, blocks.c.body)
        .where(blocks.c.run_id == run_id)
        .order_by(blocks.c.stage, blocks.c.number)
    )
    bodies: dict[int, list[bytes]] = {}
    for stage, body in connection.execute(query):
        bodies.setdefault(stage, []).append(bytes(body))
    return plan_of(text, bodies)
