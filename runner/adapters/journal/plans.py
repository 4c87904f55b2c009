"""An execution plan in the journal: its head in the run's row, its events in blocks."""

from __future__ import annotations

from runner.adapters.journal.database import Connection
from runner.model import Data, ExecutionPlan, Stage, StageSpec
from runner.planning.event_blocks import BLOCK, EventBlocks, parted
from runner.planning.serialize import load_plan


def write_events(connection: Connection, run_id: str, plan: ExecutionPlan) -> None:
    connection.change("DELETE FROM blocks WHERE run_id = :run", run=run_id)
    for stage in plan.stages:
        _write_stage(connection, run_id, stage)


def rewrite_stage(connection: Connection, run_id: str, stage: Stage) -> None:
    connection.change(
        "DELETE FROM blocks WHERE run_id = :run AND stage = :stage", run=run_id, stage=stage.number
    )
    _write_stage(connection, run_id, stage)


def _write_stage(connection: Connection, run_id: str, stage: Stage) -> None:
    if not isinstance(stage.items, EventBlocks):
        raise TypeError("only items in blocks can be written down")
    connection.change_each(
        "INSERT INTO blocks (run_id, stage, number, body) VALUES (:run, :stage, :number, :body)",
        [
            {"run": run_id, "stage": stage.number, "number": number, "body": body}
            for number, body in enumerate(stage.items.blocks)
        ],
    )


def read(connection: Connection, run_id: str, text: str) -> ExecutionPlan:
    """Read the plan of a run as it was when the run started."""
    query = "SELECT stage, body FROM blocks WHERE run_id = :run ORDER BY stage, number"
    bodies: dict[int, list[bytes]] = {}
    for stage, body in connection.rows(query, run=run_id):
        bodies.setdefault(stage, []).append(bytes(body))
    return load_plan(text, bodies)


def own_of(connection: Connection, run_id: str, stage: StageSpec, index: int) -> Data:
    """Return the own members of one event of a stage: see `EventBlocks`."""
    query = "SELECT body FROM blocks WHERE run_id = :run AND stage = :stage AND number = :number"
    number, within = divmod(index, BLOCK)
    body = connection.value(query, run=run_id, stage=stage.number, number=number)
    if body is None:
        return {}
    cells = EventBlocks(stage.event, BLOCK, (bytes(body),)).raw(within)
    return parted(next(cells)[1])
