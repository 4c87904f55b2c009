"""A case of a plan's tests, planned from the rows that it gives. Nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from runner.errors import InvalidPlan, UsageError
from runner.model import (
    BackfillPlan,
    Data,
    ExecutionPlan,
    Json,
    Query,
    QueryRefused,
    Question,
    Selectors,
    Table,
    frozen,
)
from runner.planning.answers import Facts, NotRecorded
from runner.planning.build import build_execution_plan
from runner.planning.expectations import Came
from runner.planning.facts import gather
from runner.planning.lines import line_of
from runner.planning.parts import select
from runner.spec.document import did_you_mean, ranked
from runner.spec.plan_test import Case, PlanTest
from runner.spec.rows import Concatenated, SelectedRows
from runner.spec.units import counted

_OWN_ROWS = "rows of "
_OF_WORKSPACES = "workspace_repos"
_CALLED = {"repo": "repos", "workspace": "workspaces"}


class Misfit(InvalidPlan):
    """The test does not fit its plan."""


def came_of(
    test: PlanTest, case: Case, loaded: BackfillPlan, facts: Facts | None, now: datetime
) -> Came:
    """What a run of the plan would send, from the rows of the case or from the facts that it names.

    Raises `Misfit`, and `InvalidPlan` as the plan's own fault.
    """
    if facts:
        now = datetime.fromisoformat(facts.recorded_at)
    known = gather(loaded, facts or _Given.of(test, case, loaded), now)
    plan = _part(test, case, known, build_execution_plan(known))
    return Came(
        [line_of(stage, event) for stage in plan.stages for event in stage.planned()],
        list(map(asdict, plan.skipped)),
        list(map(asdict, plan.warnings)),
    )


def now_of(test: PlanTest, case: Case, now: datetime) -> datetime:
    """When the case is planned: `now`, where it does not say. Raises `InvalidPlan`."""
    if case.now is None:
        return now
    try:
        found = datetime.fromisoformat(case.now)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = "`now` is no time with a zone"
        hint = 'as in now: "2026-11-01T00:00:00Z"'
        problem = test.document.problem(message, case.where["now"], hint=hint)
        raise InvalidPlan((problem,))
    return found


def _part(test: PlanTest, case: Case, known: BackfillPlan, whole: ExecutionPlan) -> ExecutionPlan:
    selectors = Selectors(tuple(case.only), tuple(case.skip), tuple(case.items))
    if not selectors:
        return whole
    try:
        return select(known, whole, selectors)
    except UsageError as refused:
        written = {"only": case.only, "skip": case.skip, "item": case.items}
        place = case.where[next(key for key, names in written.items() if names)]
        problem = test.document.problem(str(refused), place, hint=refused.hint)
        raise Misfit((problem,)) from None


@frozen
class _Given:
    """The rows of a case, by the queries that ask for them. Meets `runner.model.Database`."""

    names: Mapping[int, Sequence[str]]  # of each query, by its identity: two may be equal
    rows: Mapping[str, Sequence[Data]]

    @classmethod
    def of(cls, test: PlanTest, case: Case, plan: BackfillPlan) -> _Given:
        """Raises `Misfit` for rows that no query asks for."""
        given = case.given if isinstance(case.given, Mapping) else {}
        names: dict[int, list[str]] = {}
        for name, question in _questions(plan):
            names.setdefault(id(question.query), []).append(name)
        known = [name for one in names.values() for name in one]
        problems = []
        for name in given:
            if known.count(name) == 1:
                continue
            several = [other for other in known if other.startswith(f"{name}[")]
            message = f"`{name}` is asked for by no query of the plan"
            hint = did_you_mean(name, known) or f"these are asked for: {', '.join(known) or 'none'}"
            if name in known:
                message, hint = f"several queries give `{name}`", f"name one: {', '.join(several)}"
            problems.append(
                test.document.problem(message, (*case.where["given"], name), key=True, hint=hint)
            )
        if problems:
            raise Misfit(ranked(problems))
        return cls(names, given)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        names = self.names.get(id(query), [])
        name = next((name for name in names if name in self.rows), None)
        if name is None:
            called = names[-1] if names else query.text
            hint = f"given: {{{called}: [...]}} in the test"
            raise NotRecorded(f"the test gives no rows for `{called}`", hint)
        rows = self.rows[name]
        if len(rows) > query.max_rows:
            raise QueryRefused(f"it gives more than {counted(query.max_rows, 'row')}")
        if name == _OF_WORKSPACES:
            rows = [row for row in rows if row.get("workspace") == parameters.get("workspace")]
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        return Table(columns, tuple(tuple(map(row.get, columns)) for row in rows))


def _questions(plan: BackfillPlan) -> Iterator[tuple[str, Question]]:
    """Every question of the plan with each of its names; the last one is its own."""
    for key, items in plan.collections.items():
        name = _CALLED.get(key, key.removeprefix(_OWN_ROWS))
        sources = items.rows.sources if isinstance(items.rows, Concatenated) else ()
        asked = [part for part in sources if isinstance(part, SelectedRows) and part.question]
        for part in asked:
            assert part.question  # noqa: S101 - chosen above
            yield name, part.question
            if key in _CALLED and len(part.path) > 1:
                yield f"{name}[{part.path[1]}]", part.question
    if plan.workspace_repos:
        yield _OF_WORKSPACES, plan.workspace_repos
    for lookup in plan.lookups:
        yield lookup.name, lookup.question
    for check in plan.checks:
        yield check.name, check.question
    for measure in plan.coverage:
        yield measure.name, measure.question
