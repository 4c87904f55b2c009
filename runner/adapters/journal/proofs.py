"""What the user's database has answered in a run, and the rounds that followed from it."""

from __future__ import annotations

import time
from dataclasses import asdict

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from runner.adapters.journal import plans
from runner.adapters.journal.tables import answers, rounds, runs
from runner.model import CheckResult, ExecutionPlan, Json, Round
from runner.planning.written import head_of

_CHECK = "check "


def remember(connection: Connection, run_id: str, name: str, value: Json) -> None:
    mine = (answers.c.run_id == run_id) & (answers.c.name == name)
    connection.execute(delete(answers).where(mine))
    text = orjson.dumps(value).decode()
    connection.execute(insert(answers).values(run_id=run_id, name=name, value=text, at=time.time()))


def remembered(connection: Connection, run_id: str, name: str) -> Json:
    query = select(answers.c.value).where(answers.c.run_id == run_id, answers.c.name == name)
    found = connection.execute(query).scalar()
    return None if found is None else orjson.loads(found)


def all_of(connection: Connection, run_id: str) -> list[tuple[str, str]]:
    """Every answer, as JSON, by its name."""
    query = select(answers.c.name, answers.c.value).where(answers.c.run_id == run_id)
    return [(name, value) for name, value in connection.execute(query.order_by(answers.c.at))]


def keep_check(connection: Connection, run_id: str, result: CheckResult) -> None:
    remember(connection, run_id, _CHECK + result.name, asdict(result))


def checks_of(connection: Connection, run_id: str) -> list[CheckResult]:
    query = (
        select(answers.c.value)
        .where(answers.c.run_id == run_id, answers.c.name.startswith(_CHECK))
        .order_by(answers.c.at)
    )
    return [CheckResult(**orjson.loads(text)) for text in connection.execute(query).scalars()]


def rounds_of(connection: Connection, run_id: str, stage: int) -> list[Round]:
    query = (
        select(*rounds.c)
        .where(rounds.c.run_id == run_id, rounds.c.stage == stage)
        .order_by(rounds.c.number)
    )
    return [Round(*row[1:]) for row in connection.execute(query)]


def begin_round(connection: Connection, run_id: str, plan: ExecutionPlan, begun: Round) -> None:
    """The round's events are part of `plan` already; both are written down together."""
    connection.execute(insert(rounds).values(run_id=run_id, **asdict(begun)))
    plans.rewrite_stage(connection, run_id, plan.stages[begun.stage - 1])
    values = {"head": head_of(plan), "planned": plan.events}
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))
