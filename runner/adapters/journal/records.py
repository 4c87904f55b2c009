"""The table of runs: add a run, and find runs by id, plan, address or state."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from runner.adapters.journal import chains, leases, plans
from runner.adapters.journal.database import Connection, listed
from runner.errors import UsageError
from runner.model import OVER, Applied, ExecutionPlan, RunRecord, RunState, state_of
from runner.planning.ledger import PlanRun, inputs_digest
from runner.planning.serialize import dump_head, load_head
from runner.spec.document import did_you_mean
from runner.spec.json_limits import stored_fault

_STATUS = {"paused": "running", "dead": "running", "baseline": "completed"}  # by state
LATEST_OF = "latest:"  # before a plan's name: its last run
# Without `source`: the text of the plan file is only read where it is shown.
_COLUMNS = (
    *("id", "plan", "path", "digest", "target", "address", "variables", "planned", "follow"),
    *(
        "status",
        "started_at",
        "started_by",
        "ended_at",
        "head",
        "parent",
        "wanted",
        "batch_size",
        "delay",
    ),
    "max_in_flight",
    *("reason", "environment", "baseline", "partial"),
)
_RECORD = f"SELECT {', '.join(_COLUMNS)} FROM runs"
# Keys and variables belong to an environment, so runs in another environment do not count. Runs
# without an environment, and queries without one, go by the address alone.
_THERE = """runs.address = :address
AND (:environment = '' OR runs.environment IN ('', :environment))"""
# With the run's lease; its columns are NULL if there is none.
_STATE = f"""SELECT {", ".join(f"runs.{name}" for name in _COLUMNS)}, leases.token,
leases.holder, leases.machine, leases.pid, leases.taken_at, leases.expires_at, leases.workers,
{{now}} AS now FROM runs LEFT JOIN leases ON leases.run_id = runs.id"""


def begin(connection: Connection, run_id: str, plan: ExecutionPlan, **record: Any) -> None:
    """See `Store.start`; this also writes the plan's events."""
    values = {"parent": None, "source": None, "baseline": None, "environment": ""} | record
    values |= {
        "id": run_id,
        "plan": plan.name,
        "path": plan.path,
        "digest": plan.digest,
        "planned": plan.events,
        "status": "running",
        "variables": json.dumps(record["variables"]),
        "head": dump_head(plan),
        "partial": plan.partial.selectors.words if plan.partial else None,
    }
    names, given = ", ".join(values), ", ".join(f":{name}" for name in values)
    connection.change(f"INSERT INTO runs ({names}) VALUES ({given})", **values)
    plans.write_events(connection, run_id, plan)


def reopen(
    connection: Connection, record: RunRecord, plan: ExecutionPlan, now: float, *, follow: bool
) -> None:
    """Set a run to running again, with this plan, and end a pause."""
    connection.change(
        """UPDATE runs SET status = 'running', ended_at = NULL, reason = NULL, wanted = NULL,
        digest = :digest, planned = :planned, head = :head, follow = :follow WHERE id = :run""",
        run=record.id,
        digest=plan.digest,
        planned=plan.events,
        head=dump_head(plan),
        follow=follow,
    )
    if plan.digest != record.digest:
        plans.write_events(connection, record.id, plan)
    # A killed process recorded no end: its waits end when it was last alive.
    driven = leases.driven_until(connection, record.id, now, driven=False).intervals
    leases.end_waits(connection, record.id, driven[-1][1] if driven else 0.0)


def find(connection: Connection, run: str, where: str) -> RunState:
    """See `StateReader.find`; `where`: the place of the state, for the hint."""
    if not run or stored_fault(run):
        raise UsageError(f"there is no run {run!r}", hint="a run is its id, latest or latest:PLAN")
    if run == "latest":
        which, condition, value = "yet", "TRUE", ""
    elif run.startswith(LATEST_OF):
        value = run.removeprefix(LATEST_OF)
        which, condition = f"of the plan {value}", "runs.plan = :value"
    else:
        which, value = run, run.upper()
        condition = "substr(runs.id, 1, length(:value)) = :value"
    query = f"{_STATE} WHERE {condition} ORDER BY runs.started_at DESC LIMIT 2"
    found = connection.rows(query, value=value)
    if not found:
        near = did_you_mean(value, plan_names(connection)) if value else None
        hint = f"this state store is {where}; --state names another"
        hint = near.replace("`", f"`{LATEST_OF}", 1) if near else hint
        raise UsageError(f"there is no run {which}", hint=hint)
    if len(found) > 1 and not run.startswith("latest"):
        raise UsageError(f"more than one run begins with {run}", hint="give more of its id")
    return _state(found[0])


def plan_names(connection: Connection) -> list[str]:
    return sorted(connection.values("SELECT DISTINCT plan FROM runs"))


def latest(
    connection: Connection,
    *,
    plan: str | None = None,
    target: str | None = None,
    states: Collection[str] = (),
    since: float = 0.0,
) -> Iterator[RunState]:
    """See `StateReader.runs`."""
    query, given = f"{_STATE} WHERE runs.started_at >= :since", dict[str, Any](since=since)
    if target:
        query, given["target"] = f"{query} AND runs.target = :target", target
    if states:
        written = {_STATUS.get(state, state) for state in states}
        within, statuses = listed("status", sorted(written))
        query, given = f"{query} AND runs.status IN ({within})", given | statuses
    for row in connection.rows(f"{query} ORDER BY runs.started_at DESC", **given):
        if plan is None or fnmatchcase(row.plan, plan):
            found = _state(row)
            if not states or state_of(found.record, found.holder) in states:
                yield found


def known(connection: Connection, run_id: str) -> RunRecord | None:
    found = connection.row(f"{_RECORD} WHERE id = :run", run=run_id)
    return _record(found) if found else None


def applied_before(connection: Connection, record: RunRecord) -> Applied | None:
    query = f"""{_RECORD} WHERE plan = :plan AND {_THERE} AND parent IS NULL
    AND started_at < :before ORDER BY started_at DESC"""
    there = {"address": record.address, "environment": record.environment}
    rows = connection.rows(query, plan=record.plan, before=record.started_at, **there)
    for one in map(_record, rows):
        if not one.partial and chains.is_done(connection, one):
            source = "SELECT source FROM runs WHERE id = :run"
            return Applied(one.id, one.planned, connection.value(source, run=one.id))
    return None


def ledger(
    connection: Connection, plan: str, address: str | None, environment: str
) -> list[PlanRun]:
    there = "runs.environment = :environment" if address is None else _THERE
    query = f"""{_RECORD} WHERE plan = :plan AND {there} AND parent IS NULL
    ORDER BY started_at DESC"""
    where = {"environment": environment, **({} if address is None else {"address": address})}
    found = map(_record, connection.rows(query, plan=plan, **where))
    return [_in_ledger(connection, record) for record in found]


def _in_ledger(connection: Connection, record: RunRecord) -> PlanRun:
    head = load_head(record.head)
    return PlanRun(
        record.id,
        record.status,
        inputs_digest(head.inputs, record.variables),
        chains.is_done(connection, record) and not record.partial,
        record.started_at,
        record.baseline,
        record.partial,
        head.variables,
    )


def unfinished(
    connection: Connection, plan: str, address: str, environment: str
) -> RunState | None:
    query = f"""{_STATE} WHERE runs.plan = :plan AND {_THERE}
    ORDER BY runs.started_at DESC LIMIT 1"""
    found = connection.row(query, plan=plan, address=address, environment=environment)
    state = _state(found) if found else None
    return None if state is None or state.record.status in OVER else state


def last_seen(connection: Connection, event: str, address: str) -> tuple[str, bool] | None:
    found = connection.row(
        """SELECT runs.id, EXISTS (
          SELECT 1 FROM jobs WHERE jobs.run_id = chunks.run_id
          AND jobs.position BETWEEN chunks.first AND chunks.last
        ) AS started
        FROM runs JOIN chunks ON chunks.run_id = runs.id
        WHERE runs.address = :address AND runs.follow AND chunks.event = :event
        ORDER BY runs.started_at DESC, started DESC LIMIT 1""",
        address=address,
        event=event,
    )
    return None if found is None else (found.id, bool(found.started))


def _record(row: Any) -> RunRecord:
    values = row._asdict()
    found = {name: values[name] for name in _COLUMNS}
    found |= {"variables": json.loads(row.variables), "follow": bool(row.follow)}
    return RunRecord(**found)


def _state(row: Any) -> RunState:
    if row.token is None:
        return RunState(_record(row), None, None)
    state = RunState(_record(row), *leases.standing_of(row))
    return state if state.goes_on else replace(state, silent=leases.silent_since(row))
