"""The answers of the user's database in a run, and the rounds that followed from them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import orjson

from runner.adapters.journal import plans
from runner.adapters.journal.database import Connection
from runner.model import CheckResult, ExecutionPlan, Json, Round
from runner.planning.serialize import dump_head
from runner.spec.secrets import redact

_CHECK, _GOAL = "check ", "goal "


def remember(connection: Connection, run_id: str, name: str, value: Json) -> None:
    connection.change(
        """INSERT INTO answers (run_id, name, value, at) VALUES (:run, :name, :value, :at)
        ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value, at = excluded.at""",
        run=run_id,
        name=name,
        value=orjson.dumps(value).decode(),
        at=time.time(),
    )


def remembered(connection: Connection, run_id: str, name: str) -> Json:
    found = connection.value(
        "SELECT value FROM answers WHERE run_id = :run AND name = :name", run=run_id, name=name
    )
    return None if found is None else orjson.loads(found)


def all_of(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """Return every answer by name."""
    query = "SELECT name, value FROM answers WHERE run_id = :run ORDER BY at"
    return {name: orjson.loads(value) for name, value in connection.rows(query, run=run_id)}


def keep_check(connection: Connection, run_id: str, result: CheckResult) -> None:
    clean = replace(
        result,
        seen=redact(result.seen),
        message=result.message and redact(result.message),
        note=result.note and redact(result.note),
    )
    remember(connection, run_id, _CHECK + result.name, asdict(clean))


def checks_of(connection: Connection, run_id: str) -> list[CheckResult]:
    query = """SELECT value FROM answers
    WHERE run_id = :run AND substr(name, 1, 6) = :check ORDER BY at"""
    found = connection.values(query, run=run_id, check=_CHECK)
    return [CheckResult(**orjson.loads(value)) for value in found]


def reach(connection: Connection, run_id: str, stage: int, left: float | None) -> None:
    """Record that a stage has reached its goal, with its backlog."""
    remember(connection, run_id, f"{_GOAL}{stage}", left)


def reached(connection: Connection, run_id: str) -> frozenset[int]:
    """Return the stages that have reached their goal."""
    query = "SELECT name FROM answers WHERE run_id = :run AND substr(name, 1, 5) = :goal"
    found = connection.values(query, run=run_id, goal=_GOAL)
    return frozenset(int(name.removeprefix(_GOAL)) for name in found)


def rounds_of(connection: Connection, run_id: str, stage: int) -> list[Round]:
    query = """SELECT stage, number, first, events, backlog, at FROM rounds
    WHERE run_id = :run AND stage = :stage ORDER BY number"""
    return [Round(*row) for row in connection.rows(query, run=run_id, stage=stage)]


def begin_round(
    connection: Connection,
    run_id: str,
    plan: ExecutionPlan,
    begun: Round,
    origins: Mapping[int, int],
) -> None:
    """Record a round, together with its events, which are already part of `plan`."""
    connection.change(
        """INSERT INTO rounds (run_id, stage, number, first, events, backlog, at)
        VALUES (:run, :stage, :number, :first, :events, :left, :at)""",
        run=run_id,
        **asdict(begun),
    )
    plans.rewrite_stage(connection, run_id, plan.stages[begun.stage - 1])
    connection.change(
        "UPDATE runs SET head = :head, planned = :planned WHERE id = :run",
        run=run_id,
        head=dump_head(plan),
        planned=plan.events,
    )
    keep_origins(connection, run_id, origins)


def keep_origins(connection: Connection, run_id: str, origins: Mapping[int, int]) -> None:
    """Record events that are not the first attempt at their work, by position: see `chains`."""
    connection.change_each(
        "INSERT INTO origins (run_id, position, origin) VALUES (:run, :position, :origin)",
        [
            {"run": run_id, "position": position, "origin": origin}
            for position, origin in origins.items()
        ],
    )
