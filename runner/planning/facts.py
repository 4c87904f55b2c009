"""What a plan has to ask the database before it can be built; the database is handed in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import orjson

from runner.errors import InvalidPlan
from runner.model import (
    BackfillPlan,
    Data,
    Database,
    Fact,
    Found,
    Json,
    Lookup,
    Operation,
    Problem,
    Query,
    QueryRefused,
    Question,
    Repositories,
    Skipped,
    Table,
)
from runner.planning.answers import NotRecorded
from runner.planning.binding import bound, items_of
from runner.planning.items import find_workspaces
from runner.planning.repositories import (
    Kept,
    Remembered,
    fits_age,
    fits_name,
    joined,
    unjoined,
    without_nulls,
)
from runner.spec.document import ranked
from runner.spec.rendering import BUDGET
from runner.spec.rows import Concatenated, SelectedRows, complete

KEYS = 10_000  # of items, bound to one query
_NAMED = 20


def asks(plan: BackfillPlan) -> bool:
    """Does the plan need the database before it can be built?"""
    rows = any(operation.rows for operation in plan.operations)
    workspaces = any(isinstance(entry, Question) for entry in plan.workspaces)
    return plan.repositories.asked or workspaces or rows or bool(_used(plan, plan.operations))


def gather(plan: BackfillPlan, database: Database, now: datetime) -> BackfillPlan:
    """The plan with its repositories selected and narrowed, and everything it looks up found.

    Raises `InvalidPlan` with all that the database refuses, and what `database` raises.
    """
    BUDGET.begin()
    asker = _Asker(plan, database)
    repositories, skipped = asker.repositories()
    workspaces = plan.found.workspaces or asker.workspaces()
    asker.plan = plan = replace(plan, repositories=repositories, found=Found(workspaces=workspaces))
    attributes = asker.lookups(_used(plan, plan.operations), repositories)
    of_age, old = asker.aged(repositories, joined(repositories, plan.lookups, attributes), now)
    known = replace(plan, repositories=joined(of_age, plan.lookups, attributes))
    rows = asker.rows(known, plan.operations)
    if asker.problems:
        raise InvalidPlan(ranked(asker.problems))
    found = Found(attributes, asker.ambiguous, rows, workspaces, tuple(asker.facts))
    return replace(known, skipped=(*plan.skipped, *skipped, *old), found=found)


def remembered(plan: BackfillPlan, items: Data) -> BackfillPlan:
    """The plan for the items that a run of it began with, as `to_remember` gave them."""
    plan = replace(plan, found=Found(workspaces=items["workspaces"]))
    if items["repositories"] is None:
        return plan
    rows = Remembered(items["repositories"], plan.path)
    return replace(plan, repositories=rows, narrowing=None)


def to_remember(plan: BackfillPlan) -> Data:
    """The items of a gathered plan, where another gathering might not give them again."""
    asked = any(fact.name.startswith("repositories") for fact in plan.found.facts)
    aged = plan.narrowing and (plan.narrowing.newer_than, plan.narrowing.older_than) != (None, None)
    rows = list(unjoined(plan.repositories)) if asked or aged else None
    return {"repositories": rows, "workspaces": dict(plan.found.workspaces)}


def gather_again(plan: BackfillPlan, operation: Operation, database: Database) -> BackfillPlan:
    """A plan that was gathered, with what `operation` looks up and runs for as it is now."""
    BUDGET.begin()
    asker = _Asker(plan, database)
    wanted = _used(plan, [operation])
    rows = plan.repositories
    attributes = {**plan.found.attributes, **asker.lookups(wanted, rows)}
    ambiguous = {**plan.found.ambiguous, **asker.ambiguous}
    known = replace(plan, repositories=joined(rows, plan.lookups, attributes))
    made = {**plan.found.rows, **asker.rows(known, [operation])}
    if asker.problems:
        raise InvalidPlan(ranked(asker.problems))
    found = Found(attributes, ambiguous, made, plan.found.workspaces, tuple(asker.facts))
    return replace(known, found=found)


def _used(plan: BackfillPlan, operations: Sequence[Operation]) -> list[Lookup]:
    names = {name for operation in operations for name in operation.lookups}
    return [lookup for lookup in plan.lookups if lookup.name in names]


@dataclass(slots=True)
class _Asker:
    plan: BackfillPlan
    database: Database
    problems: list[Problem] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    ambiguous: dict[str, frozenset[Json]] = field(default_factory=dict)

    def repositories(self) -> tuple[Repositories, list[Skipped]]:
        rows, narrowing = self.plan.repositories, self.plan.narrowing
        if isinstance(rows, Concatenated) and rows.asked:
            seen = {
                row["repo"]
                for part in rows.parts
                for row in map(part.__getitem__, range(len(part)))
            }
            rows = rows.answered(lambda part: self._select(part, seen))
        if narrowing is None or not narrowing.globs:
            return rows, []
        kept = [i for i, row in enumerate(rows) if fits_name(narrowing, row["repo"])]
        return self._kept(rows, kept)

    def aged(
        self, rows: Repositories, known: Repositories, now: datetime
    ) -> tuple[Repositories, list[Skipped]]:
        """`known`: the rows with what lookups have found."""
        narrowing = self.plan.narrowing
        if narrowing is None or (narrowing.newer_than, narrowing.older_than) == (None, None):
            return rows, []
        kept = []
        for index, row in enumerate(known):
            try:
                kept += [index] if fits_age(narrowing, row, now) else []
            except ValueError as error:
                place = rows.place(index)
                self.problems.append(replace(place, message=str(error)))
        return self._kept(rows, kept)

    def workspaces(self) -> dict[str, Data]:
        """Those that the plan lists beside those of its repositories, in written order."""
        found: dict[str, Data] = {}
        for entry in self.plan.workspaces:
            if isinstance(entry, str):
                found.setdefault(entry, {})
                continue
            table = self._ask("workspaces", entry, self._bound(entry, {}))
            for row in map(without_nulls, table.dicts()) if table else ():
                if "workspace" not in row:
                    message = "the query gives a row without `workspace`"
                    hint = "name the column that has its id: `select id as workspace`"
                    self.problems.append(replace(entry.place, message=message, hint=hint))
                    break
                found.setdefault(str(row["workspace"]), row)
            if table and not table.rows:
                self._nothing(entry)
        return found

    def lookups(
        self, wanted: Sequence[Lookup], rows: Repositories
    ) -> dict[str, Mapping[Json, Data]]:
        return {lookup.name: self._look_up(lookup, rows) for lookup in wanted}

    def rows(self, plan: BackfillPlan, operations: Sequence[Operation]) -> dict[str, Table]:
        found = {}
        for operation in operations:
            if operation.rows:
                name = f"rows of {operation.name}"
                question = operation.rows.question
                items = items_of(plan, operation)
                if lacking := items.lacking(question):
                    self.problems.append(lacking)
                parameters = self._bound(question, items.parameters)
                table = self._ask(name, question, parameters, deferred=operation.deferred)
                found[operation.name] = table or Table((), ())
        return found

    def _select(self, part: SelectedRows, seen: set[str]) -> SelectedRows:
        question, given = part.question, {}
        if question is None:
            question, given = self.plan.workspace_repos, {"workspace": part.workspace}
        if question is None:
            message = "how to find the repositories of a workspace is said nowhere"
            hint = "add `workspace_repos: {query: ...}` to the catalog"
            self.problems.append(replace(part.place(0), message=message, hint=hint))
            return replace(part, answered=True)
        name = f"repositories of {part.workspace}" if part.question is None else "repositories"
        table = self._ask(name, question, self._bound(question, given))
        rows: list[Data] = []
        for row in table.dicts() if table else ():
            attributes = complete(without_nulls(row), part.workspace)
            wrong = [*part.faults(attributes)]
            if wrong:
                message = f"the query gives a row that is no repository: {wrong[0].message}"
                hint = "name the column that has owner/name: `select full_name as repo`"
                place = question.place
                self.problems.append(replace(place, message=message, hint=wrong[0].hint or hint))
                break
            if attributes["repo"] not in seen:  # what is written, or came earlier, goes over it
                seen.add(attributes["repo"])
                rows.append(attributes)
        if table and not table.rows:
            self._nothing(question)
        return replace(part, rows=rows, answered=True)

    def _nothing(self, question: Question) -> None:
        message = f"the query gives no rows: {question.query.text}"
        hint = "is there nothing to do, or may this role not read the table?"
        self.problems.append(replace(question.place, message=message, hint=hint))

    def _look_up(self, lookup: Lookup, rows: Repositories) -> Mapping[Json, Data]:
        keys = list(dict.fromkeys(self._keys(lookup, rows)))
        found: dict[Json, Data] = {}
        twice: set[Json] = set()
        for first in range(0, len(keys), KEYS):
            some = keys[first : first + KEYS]
            parameters = self._bound(lookup.question, {"keys": some})
            table = self._ask(f"lookup {lookup.name}", lookup.question, parameters)
            if table is None:
                break
            if lookup.key not in table.columns:
                message = f"the lookup gives no column `{lookup.key}`, by which rows are found"
                hint = f"it gives: {', '.join(table.columns)}"
                place = lookup.question.place
                self.problems.append(replace(place, message=message, hint=hint))
                break
            place_of_key = table.columns.index(lookup.key)
            for key, row in zip((r[place_of_key] for r in table.rows), table.dicts(), strict=True):
                if key in found:
                    twice.add(key)
                found[key] = row
        self.ambiguous[lookup.name] = frozenset(twice)
        return found

    def _keys(self, lookup: Lookup, rows: Repositories) -> Iterator[Json]:
        if lookup.scope == "workspace":
            return iter(find_workspaces(self.plan, range(len(rows))).names)
        return (row[lookup.key] for row in rows if row.get(lookup.key) is not None)

    def _bound(self, question: Question, given: Mapping[str, Json]) -> dict[str, Json] | None:
        try:
            return bound(question, self.plan, given)
        except ValueError:
            context = {"vars": self.plan.variables, "plan": self.plan.metadata, **given}
            self.problems += question.parameters.explain(context, "the query")
            return None

    def _ask(
        self,
        name: str,
        question: Question,
        parameters: Mapping[str, Json] | None,
        *,
        deferred: bool = False,
    ) -> Table | None:
        """None where the database refuses the question, which is said."""
        if parameters is None:
            return None
        try:
            table = self.database.ask(question.query, parameters)
        except QueryRefused as error:
            wrong = name if isinstance(error, NotRecorded) else "the database refuses the query"
            message = f"{wrong}: {error}"
            self.problems.append(replace(question.place, message=message, hint=error.hint))
            return None
        self._remember(name, question.query, table, deferred=deferred)
        return table

    def _remember(self, name: str, query: Query, table: Table, *, deferred: bool) -> None:
        sha256 = hashlib.sha256(orjson.dumps(list(table))).hexdigest()
        self.facts.append(Fact(name, query.text, len(table.rows), sha256, deferred))

    def _kept(self, rows: Repositories, kept: Sequence[int]) -> tuple[Repositories, list[Skipped]]:
        staying = set(kept)
        operations = [o.name for o in self.plan.operations if o.for_each == "repo"]
        out = [
            Skipped(operation, row["repo"], "left out by `filter`")
            for index, row in enumerate(rows)
            if index not in staying
            for operation in operations
        ]
        return Kept(rows, kept), out
