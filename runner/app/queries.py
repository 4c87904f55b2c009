"""Read-only queries about runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from runner.adapters.journal import DEFAULT_STATE
from runner.adapters.journal.state import StateReader
from runner.app.build import build
from runner.app.session import Session
from runner.errors import PreflightRefused, RunFailed, UsageError
from runner.execution.judge import AFTER, BEFORE, coverage_key, covered
from runner.model import (
    FAILURES,
    LOST,
    BoundQuestion,
    Covered,
    EventFilter,
    EventPage,
    EventRecord,
    ExecutionPlan,
    Json,
    QueryRefused,
    RunLine,
    RunRecord,
    RunView,
    Selectors,
    Table,
    TargetHold,
)
from runner.planning.limits import resume_command, what_is_left
from runner.planning.rehearsal import Rehearsal, rehearsal
from runner.spec.given import refuse_count, refuse_empty
from runner.spec.globs import fits

PAGE = 50  # events
NONE: Mapping[str, Table] = {}


def view_of(store: StateReader, record: RunRecord) -> RunView:
    """Return the view of a run, with coverage before and after once the run has measured both."""
    view = replace(store.view(record), applied=store.applied_before(record))
    if not view.plan.coverage or record.status == "running":  # resumed: after its earlier end
        return view
    return replace(view, coverage=_coverage(view, store.answers(record)))


def how_to_go_on(store: StateReader, record: RunRecord, does: str) -> str:
    """Return the command that continues an unfinished run and what it `does`, or the one that ends
    a run whose cancelling was requested."""
    if record.wanted == "cancel":
        return f"`backfill cancel {record.id}` completes the cancellation that was requested"
    return f"`{resume_command(store.glance(record))}` {does}"


def how_to_make_good(store: StateReader, record: RunRecord) -> list[str]:
    """Return the commands for what a failed or completed run did not do."""
    ways = what_is_left(store.glance(record))
    return [f"{what}: `{command}`{more}" for what, command, more in ways]


def events_page(store: StateReader, view: RunView, wanted: EventFilter, number: int) -> EventPage:
    """Return a page of up to `PAGE` events."""
    before = (number - 1) * PAGE
    found = store.find_events(view.record, wanted, PAGE + 1, before)
    return EventPage(found[:PAGE], wanted, number, before + 1, len(found) > PAGE)


def events_to_send_round(store: StateReader, view: RunView, most: int) -> list[EventRecord]:
    """Return the first events, with those that did not take effect before all others."""
    found = store.find_events(view.record, EventFilter(outcome=LOST), most) if view.outcomes else []
    others = (one for one in store.events(view.record) if one.outcome not in FAILURES)
    return [*found, *islice(others, most - len(found))]


def _coverage(view: RunView, answers: Mapping[str, Any]) -> Mapping[str, tuple[Covered, ...]]:
    found = {}
    for measure in view.plan.coverage:
        before, after = (
            _table(answers.get(coverage_key(measure.name, when))) for when in (BEFORE, AFTER)
        )
        if after is None:
            continue
        with suppress(ValueError):  # the run has a note that says what is wrong
            found[measure.name] = tuple(covered(measure, after, before))
    return found


def _table(kept: Any) -> Table | None:
    return kept and Table(tuple(kept[0]), tuple(map(tuple, kept[1])))


def list_runs(
    store: StateReader,
    *,
    plan: str | None = None,
    target: str | None = None,
    states: Collection[str] = (),
    since: float = 0.0,
    limit: int | None,
) -> list[RunLine]:
    """List the latest runs first: of plans like the pattern `plan`, on a target, in one of the
    `states`. Raises `UsageError` for an invalid `limit`."""
    refuse_count("limit", limit)
    refuse_empty(plan=plan, target=target)
    return store.runs(plan=plan, target=target, states=states, since=since, limit=limit)


class Listed(NamedTuple):
    """Runs and holds. `more`: there are further runs."""

    runs: Sequence[RunLine] = ()
    more: bool = False
    holds: Sequence[TargetHold] = ()


def runs_and_holds(session: Session, *, limit: int, **chosen: Any) -> Listed:
    """Return the runs of `list_runs` and the held targets; empty if nothing was run yet."""
    if session.state == DEFAULT_STATE and not session.has_state:
        return Listed()  # a first use is no error
    store = session.reader
    found = list_runs(store, **chosen, limit=limit + 1)
    return Listed(found[:limit], len(found) > limit, store.holds())


def coverage(
    session: Session,
    path: str,
    *,
    variables: dict[str, Json] | None = None,
    strict: bool = False,
    run: str | None = None,
    selectors: Selectors | None = None,
) -> Mapping[str, Sequence[Covered]]:
    """Ask a plan's coverage questions: how much of the data is there, by name.

    With a `run` of the plan, return its figures from before and after; without those after, compare
    before with now. Raises `PreflightRefused` if a database refuses a question, or if the run is of
    another plan.
    """
    given = variables or {}
    plan = build(session, path, given, strict=strict, selectors=selectors).execution_plan
    if not plan.coverage:
        hint = "add `coverage: {name: {query: ...}}` to the catalog or the plan"
        raise UsageError(f"{path} has no coverage to ask for", hint=hint)
    before, after = NONE, NONE
    if run:
        plan, before, after = _measured(session, run, plan)
    for note in of_all_items(plan):
        session.reporter.note(note)
    return covered_now(session, path, plan, before, after)


def of_all_items(plan: ExecutionPlan) -> list[str]:
    """Return notes on coverage queries without items, which selectors of items do not narrow."""
    if plan.partial is None or not plan.partial.selectors.of_items:
        return []
    words = plan.partial.selectors.words
    return [
        f"the query of the coverage `{measure.name}` does not go by items: {words} does "
        "not limit it"
        for measure in plan.coverage
        if measure.question.key is None
    ]


def rehearsed(session: Session, run: str, path: str) -> Rehearsal:
    """Project what the run shows onto a run of the whole plan, with the run's variables.

    Raises `PreflightRefused` if the run is of another plan.
    """
    record = session.reader.find(run)
    plan = build(session, path, dict(record.variables)).execution_plan
    _refuse_another(record, plan)
    view = view_of(session.reader, record)
    return rehearsal(view, session.reader.events(record), plan)


def _refuse_another(record: RunRecord, plan: ExecutionPlan) -> None:
    if plan.name != record.plan:
        message = f"run {record.id} is of the plan {record.plan}, not of {plan.name}"
        raise PreflightRefused(message, hint="`backfill runs` lists the runs")


def covered_now(
    session: Session,
    path: str,
    plan: ExecutionPlan,
    before: Mapping[str, Table] = NONE,
    after: Mapping[str, Table] = NONE,
) -> Mapping[str, Sequence[Covered]]:
    """Return the figures of `after`, or of now if unknown, beside those of `before`."""
    database, found = session.databases(path), {}
    for measure in plan.coverage:
        name, question = measure
        try:
            now = (
                after[name] if name in after else database.ask(question.query, question.parameters)
            )
            found[name] = covered(measure, now, before.get(name))
        except QueryRefused as error:
            message = f"the database refuses the coverage `{name}`: {error}"
            raise PreflightRefused(message, hint=error.hint) from None
        except ValueError as error:
            raise RunFailed(str(error)) from None
    return found


def _measured(
    session: Session, run: str, plan: ExecutionPlan
) -> tuple[ExecutionPlan, Mapping[str, Table], Mapping[str, Table]]:
    """Return the plan with the questions about the run's items, or about the selected ones, and
    the journal's figures from before and after the run."""
    record = session.reader.find(run)
    _refuse_another(record, plan)
    journal = session.reader.reading(record)
    if plan.partial is None:  # today, a query may give others than those of the run
        of_run = {measure.name: measure for measure in session.reader.glance(record).plan.coverage}
        measures = tuple(of_run.get(measure.name, measure) for measure in plan.coverage)
        plan = replace(plan, coverage=measures)
    before, after = (
        {
            measure.name: _selected(plan, measure.question, table)
            for measure in plan.coverage
            if (table := _table(journal.remembered(coverage_key(measure.name, when)))) is not None
        }
        for when in (BEFORE, AFTER)
    )
    if not before:
        raise UsageError(f"run {record.id} has no record of the coverage before it")
    return plan, before, after


def _selected(plan: ExecutionPlan, question: BoundQuestion, table: Table) -> Table:
    """Keep the rows of the selected items: the run asked about all of its own."""
    if plan.partial is None or question.key not in table.columns:
        return table
    at, called = table.columns.index(question.key), question.by_key()
    return Table(table.columns, tuple(row for row in table.rows if str(row[at]) in called))


def events_of(
    session: Session,
    run: str,
    operations: Collection[str] = (),
    patterns: Collection[str] = (),
    outcomes: Collection[str] = (),
    *,
    failed: bool = False,
) -> tuple[RunRecord, Iterator[EventRecord]]:
    """Return the events of a run in sending order: of these operations, of items like these
    patterns, with these outcomes, or that did not take effect (`failed`). By default, all."""
    if failed and outcomes:
        message = "`failed` and `outcome` exclude each other"
        raise UsageError(message, hint="use one of them; several outcomes may be given")
    wanted_outcomes = FAILURES if failed else set(outcomes)
    store = session.reader
    record = store.find(run)
    view = store.glance(record)
    shared = {stage.operation: stage.operations for stage in view.plan.stages}
    known = {name: (name,) for names in shared.values() for name in names} | shared
    for name in operations:
        if name not in known:
            hint = f"it has {', '.join(sorted(known))}"
            raise UsageError(f"run {record.id} has no operation `{name}`", hint=hint)
    wanted = {one for name in operations for one in known[name]}
    stages = {stage.number for stage in view.plan.stages if wanted & {*stage.operations}}
    chosen = (
        event
        for event in store.events(record, stages, wanted_outcomes)
        if fits(patterns, event.item) and (not wanted or event.operation in wanted)
    )
    return record, chosen
