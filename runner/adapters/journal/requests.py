"""Requests: recorded before they are made, answered, and what a resumed run finds open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from runner.adapters.journal.database import Connection, listed
from runner.adapters.journal.leases import HOLDS, Lease
from runner.execution.ports import Answer, Chunk, Control, Latest, Unanswered, Unsettled
from runner.execution.seeds import internal_ids
from runner.model import ENDED, UNDECIDED, Job, kind_of_failure

CONTROL = f"""SELECT wanted, batch_size, delay, max_in_flight,
(SELECT holds.target || ' is held: ' || holds.reason {HOLDS}) AS hold FROM runs WHERE id = :run"""

# A single statement, since each costs a round trip to a server. It checks that the lease is held,
# that control requests are unchanged and that the target is not held, and locks the lease until the
# commit.
_BEGIN = f"""
INSERT INTO chunks
  (run_id, number, stage, batch, operation, event, first, last, seed, state, sent_at, base)
SELECT :run, :number, :stage, :batch, :operation, :event, :first, :last, :seed, 'sending', :sent_at,
  :base
FROM leases JOIN runs ON runs.id = leases.run_id
WHERE leases.name = :name AND leases.token = :token
  AND coalesce(runs.wanted, '') = :wanted
  AND coalesce(runs.batch_size, -1) = :batch_size
  AND coalesce(runs.delay, -1) = :delay
  AND coalesce(runs.max_in_flight, -1) = :max_in_flight
  AND NOT EXISTS (SELECT 1 {HOLDS})
{{lock}}
"""

_ACCEPT = """
UPDATE chunks SET state = 'accepted', resent = :resent, ids = :ids, sent_at = :sent_at
WHERE run_id = :run AND number = :number AND state = 'sending'
"""

# Only chunks with open events are examined; all others are just counted.
_OPEN = """
SELECT * FROM chunks
WHERE run_id = :run AND state = 'accepted' AND completed + failed < last - first + 1
ORDER BY number
"""


def begin(
    connection: Connection, run_id: str, lease: Lease, chunk: Chunk, control: Control
) -> bool:
    """Record a request; False if control requests differ from `control`. Raises `LeaseLost`."""
    written = connection.change(
        _BEGIN,
        run=run_id,
        number=chunk.number,
        stage=chunk.stage,
        batch=chunk.batch,
        operation=chunk.operation,
        event=chunk.event,
        first=chunk.positions[0],
        last=chunk.positions[-1],
        seed=chunk.seed,
        sent_at=chunk.sent_at,
        base=chunk.base,
        name=lease.name,
        token=lease.token,
        wanted=control.wanted or "",
        batch_size=-1 if control.batch_size is None else control.batch_size,
        delay=-1.0 if control.delay is None else control.delay,
        max_in_flight=-1 if control.max_in_flight is None else control.max_in_flight,
    )
    if written == 1:
        return True
    lease.renew(connection)
    return False


def accept(connection: Connection, run_id: str, chunk: Chunk, answer: Answer, now: float) -> None:
    """Record what the server accepted of a request, and what it rejected."""
    this = {"run": run_id, "number": chunk.number}
    sent_at = chunk.sent_at
    if answer.refused is None:
        ids = _odd_ids(chunk, answer, derived=True)
        if connection.change(_ACCEPT, **this, resent=answer.resent, ids=ids, sent_at=sent_at):
            return
    of_this = "FROM chunks WHERE run_id = :run AND number = :number"
    before = connection.value(f"SELECT state {of_this}", **this)
    again, taken = before == "requeued", len(answer.ids)
    state, last, failed = "accepted", chunk.positions[-1], 0
    if answer.refused is not None:
        connection.change(
            """INSERT INTO outcomes (run_id, position, chunk, item, outcome, message, kind, at)
            VALUES (:run, :position, :number, :item, 'rejected', :message, :kind, :at)""",
            **this,
            position=chunk.positions[taken],
            item=chunk.items[taken],
            message=answer.refused,
            kind=kind_of_failure(answer.refused, chunk.items[taken]),
            at=now,
        )
        failed = 1
        # If the chunk has gaps, the events after the rejected one are still to be sent again.
        state, last = (before, last) if again else (state, chunk.positions[taken])
    connection.change(
        """UPDATE chunks SET state = :state, resent = :resent, ids = :ids, sent_at = :sent_at,
        failed = failed + :failed, last = CASE WHEN :again THEN last ELSE :last END
        WHERE run_id = :run AND number = :number""",
        **this,
        state=state,
        resent=answer.resent and not again,
        ids=_odd_ids(chunk, answer, derived=not again),
        sent_at=sent_at,
        failed=failed,
        again=again,
        last=last,
    )


def withdraw(connection: Connection, run_id: str, chunk: Chunk) -> None:
    connection.change(
        "DELETE FROM chunks WHERE run_id = :run AND number = :number",
        run=run_id,
        number=chunk.number,
    )


def latest(connection: Connection, run_id: str) -> Latest | None:
    found = connection.row(
        "SELECT stage, sent_at, base FROM chunks WHERE run_id = :run ORDER BY number DESC LIMIT 1",
        run=run_id,
    )
    return found and Latest(*found)


def unanswered(connection: Connection, run_id: str) -> list[Unanswered]:
    query = """SELECT * FROM chunks WHERE run_id = :run AND state IN ('sending', 'requeued')
    ORDER BY number"""
    return [
        Unanswered(
            chunk.number,
            chunk.stage,
            chunk.batch,
            chunk.seed,
            _open_positions(connection, chunk),
            chunk.sent_at,
            chunk.base,
            started_again=chunk.state == "requeued",
        )
        for chunk in connection.rows(query, run=run_id)
    ]


def unsettled(connection: Connection, run_id: str) -> list[Unsettled]:
    found: list[Unsettled] = []
    for chunk in connection.rows(_OPEN, run=run_id):
        known = known_ids(chunk)
        found += [
            Unsettled(position, chunk.number, known[position], chunk.sent_at)
            for position in _open_positions(connection, chunk)
            if position in known
        ]
    return found


def going_on(connection: Connection, run_id: str) -> dict[int, tuple[Job, ...]]:
    """Return the known jobs of events without an outcome, by position. Like `unsettled`, it skips
    ended chunks, so that they cost nothing."""
    found: dict[int, tuple[Job, ...]] = {}
    for chunk in connection.rows(_OPEN, run=run_id):
        still = set(_open_positions(connection, chunk))
        for position, job in jobs_between(connection, run_id, chunk.first, chunk.last):
            if position in still:
                found[position] = (*found.get(position, ()), job)
    return found


def reopen_undecided(connection: Connection, run_id: str) -> None:
    """Reopen events whose outcome was not final, so that a resumed run looks at their jobs
    again."""
    within, given = listed("kind", UNDECIDED)
    connection.change(
        f"""UPDATE chunks SET failed = failed - (
          SELECT count(*) FROM outcomes
          WHERE outcomes.run_id = :run AND outcomes.outcome IN ({within})
            AND outcomes.outcome <> 'completed' AND outcomes.chunk = chunks.number
        ) WHERE run_id = :run AND failed > 0""",
        run=run_id,
        **given,
    )
    connection.change(
        f"""DELETE FROM outcomes
        WHERE run_id = :run AND outcome IN ({within}) AND outcome <> 'completed'""",
        run=run_id,
        **given,
    )


def requeue(connection: Connection, run_id: str, make_seed: Callable[[], str]) -> None:
    """Turn accepted events without an outcome into unanswered ones, to be sent again.

    For a target that does not outlive the process (the embedded one): the jobs died with it.
    """
    for chunk in connection.rows(_OPEN, run=run_id):
        connection.change(
            """UPDATE chunks SET state = 'requeued', seed = :seed, ids = NULL
            WHERE run_id = :run AND number = :number""",
            run=run_id,
            number=chunk.number,
            seed=make_seed(),
        )
        connection.change(
            """DELETE FROM jobs WHERE run_id = :run AND position BETWEEN :first AND :last
            AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.run_id = jobs.run_id
                            AND outcomes.position = jobs.position)""",
            run=run_id,
            first=chunk.first,
            last=chunk.last,
        )


def jobs_between(
    connection: Connection, run_id: str, first: int, last: int
) -> list[tuple[int, Job]]:
    """Return the jobs of the events at these positions."""
    found = connection.rows(
        """SELECT position, job_id, function, status, message, url, since FROM jobs
        WHERE run_id = :run AND position BETWEEN :first AND :last ORDER BY job_id""",
        run=run_id,
        first=first,
        last=last,
    )
    return [
        (position, Job(id_, function, status, status.lower() in ENDED, message, url, since=since))
        for position, id_, function, status, message, url, since in found
    ]


def known_ids(chunk: Any) -> dict[int, str]:
    """Return the internal id of each position of an accepted chunk."""
    if chunk.ids:
        return {int(position): id_ for position, id_ in orjson.loads(chunk.ids).items()}
    positions = range(chunk.first, chunk.last + 1)
    return dict(zip(positions, internal_ids(chunk.seed, range(len(positions))), strict=True))


def _open_positions(connection: Connection, chunk: Any) -> list[int]:
    ended = connection.values(
        "SELECT position FROM outcomes WHERE run_id = :run AND position BETWEEN :first AND :last",
        run=chunk.run_id,
        first=chunk.first,
        last=chunk.last,
    )
    return sorted(set(range(chunk.first, chunk.last + 1)).difference(ended))


def _odd_ids(chunk: Chunk, answer: Answer, *, derived: bool) -> str | None:
    """Return the ids if the seed does not give them; the server's answer counts.

    The server either counts up from the seed or does not use it: if the first and the last id are
    the seed's, all are.
    """
    ids = answer.ids
    ends = [range(at, at + 1) for at in (0, len(ids) - 1)] if ids else []
    if derived and all([ids[end[0]]] == internal_ids(chunk.seed, end) for end in ends):
        return None
    known = zip(map(str, chunk.positions), answer.ids, strict=False)
    return orjson.dumps(dict(known)).decode()
