"""The rows that a test of a plan gives, in place of a database's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runner.errors import InvalidPlan
from runner.model import (
    BackfillPlan,
    Data,
    Json,
    Query,
    QueryRefused,
    Question,
    Table,
    frozen,
)
from runner.planning.answers import NotRecorded
from runner.spec.document import did_you_mean, ranked
from runner.spec.plan_test import Case, PlanTest
from runner.spec.questions import answered_by
from runner.spec.rows import Concatenated, SelectedRows
from runner.spec.units import counted

_OWN_ROWS = "rows of "
_OF_WORKSPACES = "workspace_repos"
_CALLED = {"repo": "repos", "workspace": "workspaces"}


class Misfit(InvalidPlan):
    """The test does not fit its plan."""


@frozen
class GivenRows:
    """The rows of a case by query. Implements `runner.model.Database`."""

    names: Mapping[int, Sequence[str]]  # of each query, by identity: two may be equal
    rows: Mapping[str, Sequence[Data]]

    @classmethod
    def of(cls, test: PlanTest, case: Case, plan: BackfillPlan) -> GivenRows:
        """Raise `Misfit` for rows that no query asks for."""
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
            message = f"no query of the plan asks for `{name}`"
            hint = did_you_mean(name, known) or f"its queries ask for: {', '.join(known) or 'none'}"
            if name in known:
                message = f"several queries give `{name}`"
                one = f"name one: {', '.join(several)}"
                hint = one if several else "rename one of them in the plan"
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
            key = f'"{called}"' if "[" in called else called  # as YAML reads it
            hint = f"add given: {{{key}: [...]}} to the test"
            raise NotRecorded(f"the test gives no rows for `{called}`", hint)
        rows = self.rows[name]
        if len(rows) > query.max_rows:
            raise QueryRefused(f"it gives more than {counted(query.max_rows, 'row')}")
        if name == _OF_WORKSPACES:
            rows = [row for row in rows if row.get("workspace") == parameters.get("workspace")]
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        if not rows:  # an answer without rows has columns, too
            columns = tuple(answered_by(query) or ())
        return Table(columns, tuple(tuple(map(row.get, columns)) for row in rows))


def _questions(plan: BackfillPlan) -> Iterator[tuple[str, Question]]:
    """Yield every question of the plan with each of its names, the most specific last. Checks and
    coverage, which no test asks, give way to what has the same name."""
    named = list(_asked(plan))
    yield from named
    taken = {name for name, _ in named}
    others = {one.name: one.question for one in plan.checks}
    others |= {one.name: one.question for one in plan.coverage}
    yield from ((name, question) for name, question in others.items() if name not in taken)


def _asked(plan: BackfillPlan) -> Iterator[tuple[str, Question]]:
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
