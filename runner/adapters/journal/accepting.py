"""What the server made of a request: what it took, and what it refused."""

from __future__ import annotations

import time
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, select, update

from runner.adapters.journal.tables import chunks, outcomes
from runner.execution.ports import Answer, Chunk
from runner.execution.seeds import internal_ids

# Made once: it goes with every request, and building it costs more than carrying it out.
_TAKEN_WHOLE = (
    update(chunks)
    .where(
        chunks.c.run_id == bindparam("run"),
        chunks.c.number == bindparam("this"),
        chunks.c.state == "sending",
    )
    .values(state="accepted", resent=bindparam("again"), ids=bindparam("odd"))
)


def accept(connection: Connection, run_id: str, chunk: Chunk, answer: Answer) -> None:
    if answer.refused is None:
        taken_whole = {
            "run": run_id,
            "this": chunk.number,
            "again": answer.resent,
            "odd": _odd_ids(chunk, answer, derived=True),
        }
        if connection.execute(_TAKEN_WHOLE, taken_whole).rowcount:
            return
    taken, this = len(answer.ids), (chunks.c.run_id == run_id) & (chunks.c.number == chunk.number)
    before = connection.execute(select(chunks.c.state).where(this)).scalar_one()
    again = before == "requeued"
    values: dict[str, Any] = {
        "state": "accepted",
        "resent": answer.resent and not again,
        "ids": _odd_ids(chunk, answer, derived=not again),
    }
    if answer.refused is not None:
        connection.execute(
            insert(outcomes).values(
                run_id=run_id,
                position=chunk.positions[taken],
                chunk=chunk.number,
                item=chunk.items[taken],
                outcome="rejected",
                message=answer.refused,
                at=time.time(),
            )
        )
        values["failed"] = chunks.c.failed + 1
        # Of a chunk with gaps the events after the refused one stay to be sent again.
        values |= {"state": before} if again else {"last": chunk.positions[taken]}
    connection.execute(update(chunks).where(this).values(**values))


def _odd_ids(chunk: Chunk, answer: Answer, *, derived: bool) -> str | None:
    """The ids that the seed does not give; the server's word counts where it differs.

    It counts up from the seed or does not use it at all: where the first and the last are the
    seed's, all are.
    """
    ids, last = answer.ids, len(answer.ids) - 1
    if derived and (not ids or [ids[0], ids[-1]] == [_id(chunk, 0), _id(chunk, last)]):
        return None
    known = zip(map(str, chunk.positions), answer.ids, strict=False)
    return orjson.dumps(dict(known)).decode()


def _id(chunk: Chunk, index: int) -> str:
    return next(internal_ids(chunk.seed, 1, index))
