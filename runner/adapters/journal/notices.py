"""The outbox: the notices that hooks are to receive about a run.

A notice is written in the same transaction as what it reports, and stays until a driver of the run
has delivered it. So a crash at any moment may deliver it twice, but never loses it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from runner.adapters.journal import figures
from runner.adapters.journal.database import Connection, listed
from runner.model import Hook, Notice, Occasion

_CLAIM = 30.0  # seconds for which one driver tries and no other does
_OLDEST = 24 * 3600.0  # seconds after which a notice is outdated
_HELD = ("held", "away")
_NOTICE = """SELECT notices.number, notices.hook, notices.body, notices.tries, runs.notify
FROM notices JOIN runs ON runs.id = notices.run_id"""
_OPEN = "AND NOT notices.done ORDER BY notices.number"


def dump(hooks: Sequence[Hook], link: str | None) -> str:
    """Serialize the hooks of a run and its link; empty without hooks."""
    return json.dumps({"link": link, "hooks": list(map(asdict, hooks))}) if hooks else ""


def add(
    connection: Connection, run_id: str, event: Occasion, occasion: str, now: float, **facts: Any
) -> None:
    """Write a notice for each hook of the run that subscribes to the event, unless it exists."""
    link, hooks = _of(connection, run_id)
    wanted = [number for number, hook in enumerate(hooks) if event in hook.on]
    _write(connection, run_id, event, occasion, wanted, now, {"link": link, **facts})


def add_failed(connection: Connection, run_id: str, now: float) -> None:
    """Report the first event that did not take effect; once a run."""
    add(connection, run_id, "failed", "", now, **_failure(connection, run_id))


def add_ended(connection: Connection, run_id: str, now: float) -> None:
    """Report an end of the run; a resumed run has several."""
    add(connection, run_id, "ended", str(now), now, **_failure(connection, run_id))


def _failure(connection: Connection, run_id: str) -> dict[str, Any]:
    failed = figures.first_failed(connection, run_id)
    if failed is None:
        return {}
    failure = {
        "operation": failed.operation,
        "item": failed.item,
        "outcome": failed.outcome,
        "message": failed.message or failed.outcome,
    }
    return {"failure": failure, **({"link": failed.url} if failed.url else {})}


def late(connection: Connection, run_id: str, now: float) -> tuple[Any, list[int]] | None:
    """Return what has held the run for too long, with the hooks for which that is so and which have
    not been notified."""
    _, hooks = _of(connection, run_id)
    hold = _hold(connection, run_id) if hooks else None
    if hold is None:
        return None
    query = "SELECT hook FROM notices WHERE run_id = :run AND event = 'held' AND occasion = :it"
    known = connection.values(query, run=run_id, it=str(hold.number))
    wanted = [
        number
        for number, hook in enumerate(hooks)
        if "held" in hook.on and number not in known and now - hold.began >= hook.held_after
    ]
    return (hold, wanted) if wanted else None


def _hold(connection: Connection, run_id: str) -> Any:
    """Return why the run is held, with the number and the begin of the first of the waits that hold
    it without a break, since a reason may change at each look; None if nothing holds it."""
    kinds, given = listed("kind", _HELD)
    reason = connection.value(
        f"SELECT reason FROM waits WHERE run_id = :run AND ended IS NULL AND kind IN ({kinds})",
        run=run_id,
        **given,
    )
    query = f"""SELECT number, began, :reason AS reason FROM (
      SELECT number, began, lag(ended) OVER (ORDER BY number) AS before
      FROM waits WHERE run_id = :run AND kind IN ({kinds})
    ) AS held WHERE before IS NULL OR before <> began ORDER BY number DESC LIMIT 1"""
    return reason and connection.row(query, run=run_id, reason=reason, **given)


def add_held(connection: Connection, run_id: str, now: float, found: tuple[Any, list[int]]) -> None:
    """Write the notices for the result of `late`."""
    (hold, hooks), (link, _) = found, _of(connection, run_id)
    facts = {"link": link, "reason": hold.reason, "since": _time(hold.began)}
    _write(connection, run_id, "held", str(hold.number), hooks, now, facts)


def due(connection: Connection, run_id: str) -> list[Notice]:
    """Return the due notices of the run, and of other runs of its plan on its target."""
    query = f"""{_NOTICE} JOIN runs AS own ON runs.plan = own.plan AND runs.address = own.address
    WHERE own.id = :run AND notices.due <= {{now}} AND notices.at > {{now}} - :oldest {_OPEN}"""
    return _read(connection.rows(query, run=run_id, oldest=_OLDEST))


def left(connection: Connection, run_id: str) -> list[Notice]:
    """Return the undelivered notices of the run, whether due or not."""
    return _read(connection.rows(f"{_NOTICE} WHERE runs.id = :run {_OPEN}", run=run_id))


def _read(rows: Sequence[Any]) -> list[Notice]:
    return [
        Notice(row.number, _load(row.notify)[1][row.hook], json.loads(row.body), row.tries)
        for row in rows
    ]


def claim(connection: Connection, notice: Notice) -> bool:
    """Claim a notice for delivery; False if another driver has it."""
    taken = connection.change(
        """UPDATE notices SET due = {now} + :claim, tries = tries + 1
        WHERE number = :number AND tries = :tries AND NOT done""",
        number=notice.number,
        tries=notice.tries,
        claim=_CLAIM,
    )
    return taken == 1


def settle(connection: Connection, notice: Notice, again: float | None) -> None:
    """Mark a notice as delivered, or (`again`) to be tried again after so many seconds."""
    connection.change(
        "UPDATE notices SET done = :done, due = {now} + :again WHERE number = :number",
        number=notice.number,
        done=again is None,
        again=again or 0.0,
    )


def _write(
    connection: Connection,
    run_id: str,
    event: Occasion,
    occasion: str,
    hooks: Sequence[int],
    now: float,
    facts: dict[str, Any],
) -> None:
    if not hooks:
        return
    id_ = ":".join(filter(None, (run_id, event, occasion)))
    body = json.dumps(_body(connection, run_id, event, now, {"id": id_, **facts}))
    connection.change_each(
        """INSERT INTO notices (run_id, event, occasion, hook, body, at, due)
        VALUES (:run, :event, :occasion, :hook, :body, {now}, {now})
        ON CONFLICT (run_id, event, occasion, hook) DO NOTHING""",
        [
            {
                "run": run_id,
                "event": event,
                "occasion": occasion,
                "hook": hook,
                "body": body,
            }
            for hook in hooks
        ],
    )


def _body(
    connection: Connection, run_id: str, event: Occasion, now: float, facts: dict[str, Any]
) -> dict[str, Any]:
    """Build the document of schemas/notification.v1: the state of the run at that moment."""
    run = connection.row(
        "SELECT plan, status, target, environment, reason FROM runs WHERE id = :run", run=run_id
    )
    return {
        "apiVersion": "backfill/v1",
        "kind": "Notification",
        "event": event,
        "at": _time(now),
        "plan": run.plan,
        "run_id": run_id,
        "status": run.status,
        "target": run.target,
        "environment": run.environment or None,
        "totals": asdict(figures.totals(connection, run_id)),
        "reason": run.reason,
        "since": None,
        "failure": None,
        **facts,
    }


def hooks_of(connection: Connection, run_id: str) -> list[Hook]:
    return _of(connection, run_id)[1]


def _of(connection: Connection, run_id: str) -> tuple[str | None, list[Hook]]:
    return _load(connection.value("SELECT notify FROM runs WHERE id = :run", run=run_id))


def _load(kept: str | None) -> tuple[str | None, list[Hook]]:
    if not kept:
        return None, []
    found = json.loads(kept)
    hooks = [Hook(**{**hook, "on": tuple(hook["on"])}) for hook in found["hooks"]]
    return found["link"], hooks


def _time(at: float) -> str:
    found = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return found.replace("+00:00", "Z")
