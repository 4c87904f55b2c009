"""Runs as others see them, during a run or long after, with a few queries each: one in full, many
at a glance, all events of one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from runner.adapters.journal import answers, chains, control, leases
from runner.adapters.journal.database import Connection, listed
from runner.adapters.journal.figures import (
    FAILED,
    FAILED_ORDER,
    SENT,
    WITH_CHUNK,
    added,
    by_run,
    by_stage,
)
from runner.adapters.journal.leases import silent_since, standing_of
from runner.adapters.journal.requests import jobs_between, known_ids
from runner.execution.seeds import event_id
from runner.model import (
    FAILURES,
    MAX_NAMED,
    Bucket,
    Driven,
    EventFilter,
    EventRecord,
    ExecutionPlan,
    FailureGroup,
    Job,
    Note,
    Outcome,
    RunHead,
    RunLine,
    RunRecord,
    RunState,
    RunView,
    SentBatch,
    Stage,
    StageFigures,
    StageRecord,
    StageSpec,
    Waited,
    Waiting,
    of_item,
)
from runner.planning.estimate import measured
from runner.planning.event_blocks import parted
from runner.planning.serialize import load_head

MAX_GROUPS = 50
_ANEW = 15.0  # seconds after which a page of a run in progress is refreshed
_BUCKETS, _SHORTEST = 120, 0.05  # the most buckets, and the least seconds of one


def glance(connection: Connection, record: RunRecord, now: float) -> RunView:
    """Return where the run stands: stages, outcomes, failures, checks."""
    held = connection.row("SELECT *, {now} AS now FROM leases WHERE run_id = :run", run=record.id)
    holder, submission = standing_of(held) if held else (None, None)
    plan = load_head(record.head)
    goes_on = record.status == "running" and holder is not None
    driven = leases.driven_until(
        connection,
        record.id,
        now,
        driven=goes_on and not (submission and submission.waits),
    )
    stages = _stages(connection, record, plan, driven, now if goes_on else None)
    outcomes = added(stage.outcomes for stage in stages)
    later = chains.later(connection, record.id)
    return RunView(
        record=record,
        holder=holder,
        submission=submission,
        plan=plan,
        now=now,
        silent=silent_since(held) if held and not goes_on else None,
        target_held=any(one.address == record.address for one in control.holds(connection)),
        stages=stages,
        driven=driven,
        outcomes={name: number for name, number in outcomes.items() if name != "completed"},
        failures=_failures(connection, record.id),
        checks=tuple(answers.checks_of(connection, record.id)),
        made_good=later.made_good,
        going_on=later.going_on,
        retries=tuple(_retries(connection, [record.id]).get(record.id, ())),
    )


def mark(connection: Connection, record: RunRecord | None, now: float) -> str:
    """Return a value that changes whenever the display of a run, or of all, does; much cheaper than
    the display.

    During a run it also changes with time, since no table shows how long a wait lasts or that a
    process has died.
    """
    of_runs = (
        "run_id = :run" if record else "run_id IN (SELECT id FROM runs WHERE status = 'running')"
    )
    given = {"run": record.id} if record else {}
    values: list[Any] = [
        connection.row(
            f"""SELECT count(*) AS chunks, sum(completed) AS completed, sum(failed) AS failed,
            sum(CASE WHEN state = 'accepted' THEN 1 ELSE 0 END) AS accepted
            FROM chunks WHERE {of_runs}""",
            **given,
        ),
        connection.row(
            """SELECT count(*) AS runs, max(started_at) AS started, max(ended_at) AS ended,
            count(wanted) AS wanted, sum(CASE WHEN status = 'running' THEN 1 ELSE 0 END) AS running
            FROM runs"""
        ),
        connection.row(
            f"""SELECT max(number) AS waited, count(ended) AS waited_for, sum(tries) AS tries
            FROM waits WHERE {of_runs}""",
            **given,
        ),
    ]
    goes_on = record.status == "running" if record else values[1].running
    if record:
        values += connection.row(
            """SELECT (SELECT max(number) FROM notes WHERE run_id = :run) AS noted,
            (SELECT max(at) FROM answers WHERE run_id = :run) AS answered""",
            **given,
        )
        held = connection.row("SELECT *, {now} AS now FROM leases WHERE run_id = :run", **given)
        values += [record.status, record.wanted, held and standing_of(held)[0]]
    return repr([*values, now // _ANEW if goes_on else None])


def timeline(connection: Connection, run_id: str) -> dict[str, Any]:
    """Return the other fields of a `RunView` that a page shows: waits, rates, notes, source."""
    return {
        "waits": tuple(waits_of(connection, run_id)),
        "rates": _rates(connection, run_id),
        "notes": tuple(notes_of(connection, run_id)),
        "source": connection.value("SELECT source FROM runs WHERE id = :run", run=run_id),
    }


def notes_of(connection: Connection, run_id: str) -> list[Note]:
    query = "SELECT at, message, who FROM notes WHERE run_id = :run ORDER BY number"
    return [Note(*row) for row in connection.rows(query, run=run_id)]


def waits_of(connection: Connection, run_id: str) -> list[Waited]:
    query = """SELECT stage, kind, reason, began, ended FROM waits WHERE run_id = :run
    ORDER BY number"""
    return [Waited(*row) for row in connection.rows(query, run=run_id)]


# The requests of a run with their rounds: a batch of one may have the number of one before it. Both
# are sorted once, since a long drain has thousands.
_IN_ROUNDS = """(SELECT * FROM (
    SELECT sent.*, sum(begins) OVER (PARTITION BY stage ORDER BY sent_at) AS round FROM (
      SELECT stage, batch, sent_at, state, first, last, completed, failed, 0 AS begins
      FROM chunks WHERE run_id = :run
      UNION ALL SELECT stage, 0, at, '', 0, 0, 0, 0, 1 FROM rounds WHERE run_id = :run
    ) AS sent
  ) AS numbered WHERE begins = 0) AS chunks"""


def _stages(
    connection: Connection, record: RunRecord, plan: RunHead, driven: Driven, now: float | None
) -> tuple[StageRecord, ...]:
    query = f"""SELECT stage, count(*) AS batches FROM
    (SELECT DISTINCT stage, round, batch FROM {_IN_ROUNDS}) AS begun GROUP BY stage"""
    batches = dict(connection.rows(query, run=record.id))
    known = by_stage(connection, record.id)
    ended = _ended(connection, record.id, driven)
    waits = _waits(connection, [record.id]).get(record.id, {}) if now is not None else {}
    reached = answers.reached(connection, record.id)
    found: list[StageRecord] = []
    for stage in plan.stages:
        figures = known.get(stage.number, StageFigures())
        last, took = ended.get(stage.number, (None, None))
        rounds = answers.rounds_of(connection, record.id, stage.number) if stage.deferred else ()
        one = StageRecord(
            stage.number,
            stage.operation,
            stage.total,
            figures.sent,
            figures.outcomes,
            batches=int(batches.get(stage.number, 0)),
            began=figures.began,
            last_sent=figures.last_sent,
            ended=last,
            took=took,
            waiting=waits.get(stage.number),
            followed=record.follow,
            rounds=tuple(rounds),
        )
        through = _is_through(one, stage, reached=stage.number in reached)
        pacing = stage.pacing.tuned(record.batch_size, record.delay)
        drains, windows = stage.until is not None, plan.windows
        found.append(measured(one, pacing, windows, driven, now, through=through, drains=drains))
    return tuple(found)


def _waits(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[int, Waiting]]:
    """Return what the stages of each run wait for now; the wait that began last comes last."""
    within, given = listed("run", run_ids)
    query = f"""SELECT run_id, stage, reason, kind, item, since, again, until, tries FROM waits
    WHERE run_id IN ({within}) AND ended IS NULL ORDER BY number"""
    found: dict[str, dict[int, Waiting]] = {}
    for run_id, stage, *wait in connection.rows(query, **given):
        found.setdefault(run_id, {})[stage] = Waiting(*wait)
    return found


def _is_through(record: StageRecord, stage: StageSpec, *, reached: bool) -> bool:
    """Whether nothing of the stage is left to send. `reached`: its goal, if it has one; until then
    another round may follow."""
    all_sent = record.sent >= record.total and bool(record.rounds or not stage.deferred)
    return reached if stage.until else all_sent


def _ended(
    connection: Connection, run_id: str, driven: Driven
) -> dict[int, tuple[float | None, float | None]]:
    """Return when the last event of each stage ended, and how long one took on average; each sweep
    ends many at once."""
    query = """SELECT chunks.number, chunks.stage, chunks.sent_at, moments.*
    FROM chunks JOIN (
      SELECT chunk, min(at) AS first, max(at) AS last, avg(at) AS at, count(*) AS events
      FROM outcomes WHERE run_id = :run AND at IS NOT NULL GROUP BY chunk
    ) AS moments ON chunks.number = moments.chunk
    WHERE chunks.run_id = :run"""
    found: dict[int, tuple[float, float, int]] = {}
    for chunk in connection.rows(query, run=run_id):
        latest, sum_, count = found.get(chunk.stage, (chunk.last, 0.0, 0))
        ends = [(chunk.at, chunk.events)]
        if driven.between(chunk.first, chunk.last) < chunk.last - chunk.first:  # it paused
            ends = _ends(connection, run_id, chunk.number)
        took = sum(driven.between(chunk.sent_at, at) * events for at, events in ends)
        found[chunk.stage] = max(latest, chunk.last), sum_ + took, count + chunk.events
    return {stage: (last, sum_ / count) for stage, (last, sum_, count) in found.items()}


def _ends(connection: Connection, run_id: str, chunk: int) -> list[tuple[float, int]]:
    """Return when the events of a chunk ended, and how many at each time."""
    query = """SELECT outcomes.at, count(*) AS events FROM chunks JOIN outcomes
    ON outcomes.run_id = chunks.run_id AND outcomes.chunk = chunks.number
    AND outcomes.position BETWEEN chunks.first AND chunks.last
    WHERE chunks.run_id = :run AND chunks.number = :chunk AND outcomes.at IS NOT NULL
    GROUP BY outcomes.at"""
    return connection.rows(query, run=run_id, chunk=chunk)


def _failures(connection: Connection, run_id: str) -> tuple[FailureGroup, ...]:
    """Return groups of failures, the largest first."""
    query = f"""SELECT chunks.operation, outcomes.outcome, outcomes.kind, count(*) AS events,
    min(outcomes.position) AS first
    FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND {FAILED}
    GROUP BY chunks.operation, outcomes.outcome, outcomes.kind
    ORDER BY events DESC, first LIMIT :limit"""
    groups = connection.rows(query, run=run_id, limit=MAX_GROUPS)
    return tuple(_group(connection, run_id, *group) for group in groups)


def _group(
    connection: Connection,
    run_id: str,
    operation: str,
    outcome: Any,
    kind: str,
    events: int,
    first: int,
) -> FailureGroup:
    found = connection.rows(
        f"""SELECT outcomes.item, outcomes.message FROM {WITH_CHUNK}
        WHERE outcomes.run_id = :run AND {FAILED} AND outcomes.outcome = :outcome
          AND outcomes.kind = :kind
          AND chunks.operation = :operation AND outcomes.position >= :first
        ORDER BY {FAILED_ORDER} LIMIT :limit""",
        run=run_id,
        outcome=outcome,
        kind=kind,
        operation=operation,
        first=first,
        limit=MAX_NAMED,
    )
    job = connection.row(
        """SELECT job_id, url FROM jobs WHERE run_id = :run AND position = :first
        ORDER BY lower(status) = 'completed', job_id LIMIT 1""",
        run=run_id,
        first=first,
    )
    items, said = tuple(item for item, _ in found), found[0].message or outcome
    if events > 1:
        said = of_item(said, items[0])
    return FailureGroup(operation, outcome, said, events, items, *(job or (None, None)))


def batches_of(connection: Connection, run_id: str) -> tuple[SentBatch, ...]:
    """Return the batches that were sent, in order; one of several requests has the time of the
    last."""
    query = f"""SELECT stage, round, batch, max(sent_at) AS at, {SENT} AS sent,
    sum(completed) AS completed, sum(failed) AS failed FROM {_IN_ROUNDS}
    GROUP BY stage, round, batch HAVING {SENT} > 0 ORDER BY stage, round, batch"""
    return tuple(
        SentBatch(stage, number, batch, at, int(sent), int(good), int(bad))
        for stage, number, batch, at, sent, good, bad in connection.rows(query, run=run_id)
    )


def _rates(connection: Connection, run_id: str) -> tuple[Bucket, ...]:
    """Count events per bucket. A sweep ends all its events at one time, so there are few times to
    read."""
    sent = connection.rows(
        f"""SELECT sent_at, {SENT} AS events FROM chunks
        WHERE run_id = :run GROUP BY number, sent_at""",
        run=run_id,
    )
    ended = connection.rows(
        """SELECT at, count(*) AS events,
        sum(CASE WHEN outcome = 'completed' THEN 1 ELSE 0 END) AS completed
        FROM outcomes WHERE run_id = :run AND at IS NOT NULL GROUP BY at""",
        run=run_id,
    )
    moments = [row[0] for row in (*sent, *ended)]
    if not moments:
        return ()
    start, end = min(moments), max(moments)
    width = max(_SHORTEST, (end - start) / _BUCKETS)
    figures = [[0, 0, 0] for _ in range(int((end - start) / width) + 1)]
    for at, number in sent:
        figures[int((at - start) / width)][0] += int(number)
    for at, number, completed in ended:
        bucket = figures[int((at - start) / width)]
        bucket[1] += int(completed)
        bucket[2] += int(number) - int(completed)
    return tuple(Bucket(start + index * width, *counts) for index, counts in enumerate(figures))


def lines(connection: Connection, states: Sequence[RunState], now: float) -> list[RunLine]:
    """Return each run with its progress and what it waits for."""
    stages = by_run(connection, [state.record.id for state in states])
    retries = _retries(connection, [state.record.id for state in states])
    waits = _waits(connection, [state.record.id for state in states if state.goes_on])
    figures: dict[str, tuple[int, dict[Outcome, int]]] = {
        run_id: (
            sum(stage.sent for stage in found.values()),
            added(stage.outcomes for stage in found.values()),
        )
        for run_id, found in stages.items()
    }
    return [
        RunLine(
            state.record,
            state.holder if state.record.status == "running" else None,
            *figures.get(state.record.id, (0, {})),
            tuple(retries.get(state.record.id, ())),
            next(reversed(waits.get(state.record.id, {}).values()), None),
            state.submission,
            state.silent,
            now,
        )
        for state in states
    ]


def _retries(connection: Connection, run_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the retries of each run."""
    within, given = listed("run", run_ids)
    query = f"SELECT parent, id FROM runs WHERE parent IN ({within}) ORDER BY started_at"
    found: dict[str, list[str]] = {}
    for parent, run_id in connection.rows(query, **given):
        found.setdefault(parent, []).append(run_id)
    return found


def events(
    connection: Connection,
    record: RunRecord,
    plan: ExecutionPlan,
    *,
    stages: Collection[int],
    outcome: Collection[str],
    text: str = "",
    skip: int = 0,
) -> Iterator[EventRecord]:
    """Yield the events of the plan's `stages` (all, if empty) in sending order, read in pieces,
    without the first `skip`.

    `outcome`: only events with one of these (all, if empty); see `EventRecord`. `text`: see
    `EventFilter`.
    """
    is_all = not outcome and not text
    said = _saying(connection, record.id, text) if text else frozenset[int]()
    held = connection.row("SELECT *, {now} AS now FROM leases WHERE run_id = :run", run=record.id)
    state = RunState(record, *(standing_of(held) if held else (None, None)))
    open_ = "running" if record.follow and state.goes_on else "unfollowed"
    first = 0
    for stage in plan.stages:
        if not stages or stage.number in stages:
            begin = min(skip, stage.total) if is_all else 0
            skip -= begin
            wanted = _Wanted(outcome, text.lower(), said, open_)
            found = _of_stage(connection, record, stage, first, begin, wanted)
            if not is_all:
                dropped = sum(1 for _ in islice(found, skip))
                skip -= dropped
            yield from found
        first += stage.total


def lost(
    connection: Connection,
    run_id: str,
    limit: int,
    *,
    wanted: EventFilter = EventFilter(),  # noqa: B008 - frozen
    skip: int = 0,
) -> list[EventRecord]:
    """Return the first events that did not take effect, from the outcomes alone; without the ids
    that only their plan gives."""
    query = f"""SELECT outcomes.*, chunks.stage, chunks.operation, chunks.batch, chunks.event,
    chunks.sent_at FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND {FAILED}"""
    given: dict[str, Any] = {"run": run_id, "limit": limit, "skip": skip}
    if wanted.outcome in FAILURES:
        query, given["outcome"] = f"{query} AND outcomes.outcome = :outcome", wanted.outcome
    if wanted.stage is not None:
        query, given["stage"] = f"{query} AND chunks.stage = :stage", wanted.stage
    if wanted.text:
        query, given["like"] = f"{query} AND ({_LIKE} OR {_SAYS})", _like(wanted.text)
    return [
        EventRecord(
            position=row.position,
            stage=row.stage,
            operation=row.operation,
            batch=row.batch,
            item=row.item,
            event=row.event,
            event_id=None,
            internal_id=None,
            sent_at=row.sent_at,
            ended_at=row.at,
            outcome=row.outcome,
            message=row.message,
            jobs=tuple(
                job for _, job in jobs_between(connection, run_id, row.position, row.position)
            ),
        )
        for row in connection.rows(
            f"{query} ORDER BY {FAILED_ORDER} LIMIT :limit OFFSET :skip", **given
        )
    ]


_LIKE = "{lower}(outcomes.item) LIKE {lower}(:like) ESCAPE '!'"
_SAYS = "{lower}(outcomes.message) LIKE {lower}(:like) ESCAPE '!'"


def _like(text: str) -> str:
    escaped = re.sub("([!%_])", r"!\1", text)
    return f"%{escaped}%"


def _saying(connection: Connection, run_id: str, text: str) -> frozenset[int]:
    """Return the positions of failed events whose messages contain the text."""
    query = f"SELECT position FROM outcomes WHERE run_id = :run AND {FAILED} AND {_SAYS}"
    return frozenset(connection.values(query, run=run_id, like=_like(text)))


class _Wanted(NamedTuple):
    outcome: Collection[str]
    text: str
    said: frozenset[int]
    open: str  # the outcome of events that have none

    def by_name(self, position: int, item: str) -> bool:
        return not self.text or self.text in item.lower() or position in self.said

    def may_be_in(self, chunk: Any) -> bool:
        """Whether the chunk may have a wanted event, judging by its counts alone."""
        if not self.outcome:
            return True
        if chunk is None:
            return "unsent" in self.outcome
        is_open = chunk.completed + chunk.failed <= chunk.last - chunk.first
        return (
            (chunk.completed and "completed" in self.outcome)
            or (chunk.failed and not FAILURES.isdisjoint(self.outcome))
            or (is_open and not {self.open, "sending"}.isdisjoint(self.outcome))
        )


def _of_stage(
    connection: Connection,
    record: RunRecord,
    stage: Stage,
    first: int,
    begin: int,
    wanted: _Wanted,
) -> Iterator[EventRecord]:
    """Yield the stage's events from number `begin` on."""
    query = "SELECT * FROM chunks WHERE run_id = :run AND stage = :stage ORDER BY first"
    sent = iter(connection.rows(query, run=record.id, stage=stage.number))
    chunk: Any = next(sent, None)
    known: _Known | None = None
    for index, (item, cell) in enumerate(stage.items.raw(begin), begin):
        position = first + index
        while chunk is not None and chunk.last < position:
            chunk, known = next(sent, None), None
        its = chunk if chunk is not None and chunk.first <= position else None
        if not (wanted.may_be_in(its) and wanted.by_name(position, item)):
            continue
        if its is not None and known is None:
            known = _Known(connection, record.id, its)
        own = parted(cell) if stage.own else {}
        operation, name = own.get("operation", stage.operation), own.get("name", stage.event)
        batch = stage.batch_of(index) if its is None else its.batch
        base = (position, stage.number, operation, batch, item, name)
        id_ = own.get("id") or event_id(record.id, stage, item, index, own.get("operation"))
        if known:
            event = EventRecord(*base, id_, *known.of(position, wanted.open))
        else:
            event = EventRecord(*base, id_, None, None, None, "unsent", None, ())
        if not wanted.outcome or event.outcome in wanted.outcome:
            yield event


class _Known:
    """What is known about the events of one chunk."""

    def __init__(self, connection: Connection, run_id: str, chunk: Any) -> None:
        self._chunk = chunk
        self._ids = known_ids(chunk) if chunk.state == "accepted" else {}
        query = "SELECT * FROM outcomes WHERE run_id = :run AND position BETWEEN :first AND :last"
        found = connection.rows(query, run=run_id, first=chunk.first, last=chunk.last)
        self._outcomes = {row.position: row for row in found}
        self._jobs: dict[int, list[Job]] = {}
        for position, job in jobs_between(connection, run_id, chunk.first, chunk.last):
            self._jobs.setdefault(position, []).append(job)

    def of(self, position: int, open_: str) -> tuple[Any, ...]:
        """Return internal id, sent at, ended at, outcome, message, jobs; `open_`: the outcome of
        accepted events that have not ended."""
        ended = self._outcomes.get(position)
        refused = ended is not None and ended.outcome == "rejected"
        running = open_ if self._chunk.state == "accepted" else "sending"
        return (
            None if refused else self._ids.get(position),
            self._chunk.sent_at,
            ended.at if ended else None,
            ended.outcome if ended else running,
            ended.message if ended else None,
            tuple(self._jobs.get(position, ())),
        )
