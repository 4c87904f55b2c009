"""A run and its retries: the outcome of each unit of work, whichever attempt it took.

A unit of work is identified by the position of its first event in the first run. Each later attempt
at it, in a later round or a retry, has that position in `origins`. The last attempt counts: a
retry's after those of its run, a later position after an earlier one (the clocks of different
machines are not compared). If a stage has reached its goal, all its work is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from runner.adapters.journal import answers, figures, requests
from runner.adapters.journal.database import Connection, listed
from runner.adapters.journal.figures import FAILED, FAILED_ORDER, WITH_CHUNK
from runner.model import OUTCOMES, Chain, Outcome, RunHead, RunRecord, Totals, frozen
from runner.planning.serialize import load_head, load_plan
from runner.spec.globs import fits

_NEXT = "SELECT coalesce(max(last) + 1, 0) FROM chunks WHERE run_id = :run"


class _Attempt(NamedTuple):
    """An attempt at a unit of work; `outcome` is None while it is open: in progress, or still to be
    sent."""

    rank: float  # of its run in the family
    position: int
    run: str
    unit: int
    outcome: Outcome | None


@frozen
class _Family:
    """A run and its retries. `latest`: the last attempt at each unit of work, except those that
    completed at the first attempt; `own`: the last attempts within one run."""

    members: Sequence[str]
    head: RunHead
    reached: frozenset[int]
    latest: Mapping[int, _Attempt]
    own: Mapping[int, _Attempt]

    def is_good(self, unit: int) -> bool:
        attempt = self.latest.get(unit)
        return attempt is None or attempt.outcome == "completed" or self.is_reached(unit)

    def is_reached(self, unit: int) -> bool:
        """Whether it belongs to a stage that has reached its goal."""
        if not self.reached:
            return False
        first = 0
        for stage in self.head.stages:
            if unit < first + stage.total:
                return stage.number in self.reached
            first += stage.total
        return False


def retriable(
    connection: Connection, run_id: str, kinds: Collection[Outcome], patterns: Collection[str]
) -> dict[int, int]:
    """Return the failed events of a run that may be retried, with their units of work: one for each
    unit that no other attempt has made good or still has to do."""
    family = _family(connection, run_id)
    found: dict[int, int] = {}
    query = f"""SELECT outcomes.position, outcomes.item, origins.origin FROM outcomes
    LEFT JOIN origins ON origins.run_id = outcomes.run_id AND origins.position = outcomes.position
    WHERE outcomes.run_id = :run AND {FAILED} ORDER BY {FAILED_ORDER}"""
    for position, item, origin in connection.rows(query, run=run_id):
        unit = position if origin is None else origin
        own, latest = family.own[unit], family.latest[unit]
        if (
            own.position == position
            and own.outcome in kinds
            and latest.outcome is not None
            and not family.is_good(unit)
            and fits(patterns, item)
        ):
            found[position] = unit
    return found


class Later(NamedTuple):
    """The failed events of a run whose work a later attempt has done, or (`going_on`, with that
    run) still has to do, or may have done before it was cancelled."""

    made_good: dict[int, Outcome]
    going_on: dict[int, tuple[Outcome, str]]


def later(connection: Connection, run_id: str) -> Later:
    if not _may_be_good(connection, run_id):
        return Later({}, {})
    family = _family(connection, run_id)
    query = f"""SELECT outcomes.position, origins.origin, outcomes.outcome FROM outcomes
    LEFT JOIN origins ON origins.run_id = outcomes.run_id AND origins.position = outcomes.position
    WHERE outcomes.run_id = :run AND {FAILED}"""
    found = Later({}, {})
    for position, origin, outcome in connection.rows(query, run=run_id):
        unit = position if origin is None else origin
        if family.is_good(unit):
            found.made_good[position] = outcome
        elif (latest := family.latest[unit]).outcome is None:
            found.going_on[position] = outcome, latest.run
    return found


def made_good(connection: Connection, run_id: str) -> Mapping[int, Outcome]:
    """Return the failed events of a run whose work a later attempt has done."""
    return later(connection, run_id).made_good


def made_good_in(connection: Connection, run_id: str) -> dict[int, int]:
    """Return the number of events that were made good, by stage."""
    good = made_good(connection, run_id)
    if not good:
        return {}
    query = f"""SELECT outcomes.position, chunks.stage FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND {FAILED}"""
    return Counter(
        stage for position, stage in connection.rows(query, run=run_id) if position in good
    )


def chain_of(connection: Connection, run_id: str) -> Chain | None:
    """Sum up a run and its retries, with the last outcome of each unit of work; None if there are
    no retries."""
    members = _members(connection, run_id)
    if len(members) == 1:
        return None
    family = _family(connection, run_id)
    root, each = members[0], [figures.totals(connection, member) for member in members]
    again = sum(not family.is_reached(unit) for unit in _again(connection, root))
    stages = figures.by_stage(connection, root)
    counted = [stage for stage in family.head.stages if stage.number not in family.reached]
    numbers = {stage.number for stage in counted}
    units = sum(stage.total for stage in counted) - again
    sent = sum(stages[number].sent for number in numbers & stages.keys()) - again
    ended = Counter[Outcome](
        attempt.outcome
        for unit, attempt in family.latest.items()
        if attempt.outcome and not family.is_reached(unit)
    )
    ended["completed"] += _at_once(connection, root, family)
    done = sum(stage.total for stage in family.head.stages if stage.number in family.reached)
    done -= sum(family.is_reached(unit) for unit in _again(connection, root))
    outcomes = {name: ended[name] for name in OUTCOMES if name != "completed"}
    totals = Totals(
        planned=units + done,
        accepted=sent + done - outcomes["rejected"],
        deduplicated=sum(one.deduplicated for one in each),
        jobs=sum(one.jobs for one in each),
        completed=ended["completed"] + done,
        **outcomes,
    )
    return Chain(tuple(members), totals, outstanding=units - ended["completed"])


def is_done(connection: Connection, record: RunRecord) -> bool:
    """Whether all work of the run has been done and proved, by itself or by its retries."""
    if record.status == "completed":
        return True
    if record.status in ("running", "sent"):
        return False
    chain = chain_of(connection, record.id)
    if chain is None or chain.outstanding:
        return False
    reached = answers.reached(connection, record.id)
    for stage in load_head(record.head).stages:
        if stage.until and stage.number not in reached:
            return False
        if stage.deferred and not answers.rounds_of(connection, record.id, stage.number):
            return False
    return not unproved(connection, record.id)


def unproved(connection: Connection, run_id: str) -> dict[str, bool]:
    """Return the checks of the first run that do not hold by the last answer in its family, or were
    never asked: by name, whether one was asked."""
    members = _members(connection, run_id)
    head = connection.value("SELECT head FROM runs WHERE id = :run", run=members[0])
    held = {
        check.name: check.ok
        for member in members
        for check in answers.checks_of(connection, member)
    }
    names = [check.name for check in load_plan(head, {}).checks]
    return {name: name in held for name in names if not held.get(name)}


def _may_be_good(connection: Connection, run_id: str) -> bool:
    """Whether its work may have other attempts or goals; most runs have none."""
    if len(_members(connection, run_id)) > 1 or answers.reached(connection, run_id):
        return True
    query = "SELECT 1 FROM origins WHERE run_id = :run LIMIT 1"
    return connection.value(query, run=run_id) is not None


def _family(connection: Connection, run_id: str) -> _Family:
    members = _members(connection, run_id)
    root = members[0]
    latest: dict[int, _Attempt] = {}
    own: dict[int, _Attempt] = {}
    for attempt in sorted(_attempts(connection, members)):
        latest[attempt.unit] = attempt
        if attempt.run == run_id:
            own[attempt.unit] = attempt
    for going_on in requests.unsettled(connection, root):
        if going_on.position in latest:  # a resumed run has taken it up again
            latest[going_on.position] = _Attempt(
                inf, going_on.position, root, going_on.position, None
            )
    head = load_head(connection.value("SELECT head FROM runs WHERE id = :run", run=root))
    return _Family(members, head, answers.reached(connection, root), latest, own)


def _attempts(connection: Connection, members: Sequence[str]) -> Iterator[_Attempt]:
    """Yield failed attempts and later attempts; all others have completed or are in progress."""
    within, given = listed("member", members)
    ranks = {member: rank for rank, member in enumerate(members)}
    failed = f"""SELECT outcomes.run_id, outcomes.position, outcomes.outcome, origins.origin
    FROM {WITH_CHUNK}
    LEFT JOIN origins ON origins.run_id = outcomes.run_id AND origins.position = outcomes.position
    WHERE outcomes.run_id IN ({within}) AND {FAILED}"""
    for run, position, outcome, origin in connection.rows(failed, **given):
        unit = position if origin is None else origin
        yield _Attempt(ranks[run], position, run, unit, outcome)
    query = f"""SELECT origins.run_id, origins.position, origins.origin, outcomes.outcome
    FROM origins
    LEFT JOIN outcomes ON outcomes.run_id = origins.run_id AND outcomes.position = origins.position
    WHERE origins.run_id IN ({within})
      AND (outcomes.outcome IS NULL OR outcomes.outcome = 'completed')"""
    query_ended = f"SELECT id, target FROM runs WHERE id IN ({within}) AND status = 'cancelled'"
    # A cancelled run sends no more; with the embedded target, its open jobs have ended as well.
    never_sent = {
        run: 0 if target == "embedded" else connection.value(_NEXT, run=run)
        for run, target in connection.rows(query_ended, **given)
    }
    for run, position, origin, outcome in connection.rows(query, **given):
        if outcome:
            yield _Attempt(ranks[run], position, run, origin, outcome)
        elif position < never_sent.get(run, inf):
            yield _Attempt(inf, position, run, origin, None)


def _at_once(connection: Connection, root: str, family: _Family) -> int:
    """Count the units of work that completed at the first attempt."""
    skipped, stages = listed("stage", family.reached or {0})  # stages count from 1
    query = f"""SELECT sum(completed) FROM chunks
    WHERE run_id = :run AND stage NOT IN ({skipped})"""
    completed = int(connection.value(query, run=root, **stages) or 0)
    within, given = listed("member", family.members)
    query = f"""SELECT count(*) FROM {WITH_CHUNK}
    WHERE outcomes.run_id = :run AND outcomes.outcome = 'completed'
      AND chunks.stage NOT IN ({skipped})
      AND (EXISTS (SELECT 1 FROM origins
                   WHERE origins.run_id = :run AND origins.position = outcomes.position)
        OR outcomes.position IN (SELECT origin FROM origins WHERE run_id IN ({within})))"""
    return completed - int(connection.value(query, run=root, **stages, **given))


def _again(connection: Connection, root: str) -> list[int]:
    """Return the units of work that the first run itself attempted again."""
    return connection.values("SELECT origin FROM origins WHERE run_id = :run", run=root)


def _members(connection: Connection, run_id: str) -> list[str]:
    """Return the first run, then all its retries in the order in which they started."""
    parents: dict[str, str | None] = dict(
        map(tuple, connection.rows("SELECT id, parent FROM runs ORDER BY started_at"))
    )
    root = run_id
    while parent := parents.get(root):
        root = parent
    return [root, *_descendants(root, parents)]


def _descendants(run_id: str, parents: Mapping[str, str | None]) -> Iterable[str]:
    """Yield retries after the runs they retry, whatever the clocks of their machines say."""
    family, before = {run_id}, 0
    while len(family) > before:
        before = len(family)
        for id_, parent in parents.items():
            if parent in family and id_ not in family:
                family.add(id_)
                yield id_
