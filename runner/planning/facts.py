"""Query the database for what a plan needs before it can be built; the database is passed in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import orjson

from runner.errors import InvalidPlan
from runner.model import (
    BUILT_IN,
    BackfillPlan,
    Collection,
    Data,
    Database,
    Fact,
    Found,
    Json,
    Lookup,
    Narrowing,
    Operation,
    Problem,
    Query,
    QueryRefused,
    Question,
    Skipped,
    Table,
)
from runner.planning.binding import ItemsOf, bound, items_of
from runner.planning.items import ProblemGroups, find_workspaces, workspace_collection
from runner.planning.rows import (
    Kept,
    LookedUp,
    as_queried,
    fits_age,
    fits_glob,
    fits_name,
    is_key,
    joined,
    key_of,
    unjoined,
)
from runner.spec.collections import check_items
from runner.spec.document import echo, ranked
from runner.spec.own import Product
from runner.spec.rendering import BUDGET
from runner.spec.rows import Concatenated, Fault, SelectedRows
from runner.spec.warnings import accepted, reasons_of

KEYS = 10_000  # keys of items bound to one query
_UNITED = ("repo", "workspace")  # the same item from several sources is one item


def asks(plan: BackfillPlan) -> bool:
    """Whether the plan needs the database before it can be built."""
    asked = any(items.rows.asked for items in plan.collections.values())
    return asked or bool(_used(plan, plan.operations))


def gather(plan: BackfillPlan, database: Database, now: datetime) -> BackfillPlan:
    """Return the plan with its items queried and filtered, and its lookups resolved.

    Raises `InvalidPlan` with all that the database refuses, and what `database` raises.
    """
    BUDGET.begin()
    asker = _Asker(plan, database)
    skipped: list[Skipped] = []
    for name in ["repo", "workspace", *_own(plan)]:
        kept, out = asker.named(asker.selected(name))
        asker.plan = plan = plan.having(**{name: kept})
        skipped += out
    attributes = asker.lookups(_used(plan, plan.operations))
    known = plan
    for name in ["repo", *_own(plan)]:
        items = asker.of_its_parts(plan.collections[name])
        of_age, old = asker.aged(items, _joined(items, plan.lookups, attributes), now)
        asker.plan = asker.plan.having(**{name: of_age})
        known = known.having(**{name: _joined(of_age, plan.lookups, attributes)})
        skipped += old
    known = known.having(**asker.own_rows(known, plan.operations))
    if asker.problems:
        raise InvalidPlan(ranked(asker.problems))
    found = Found(attributes, asker.ambiguous, tuple(asker.facts))
    warnings = accepted(asker.warnings, reasons_of(plan))
    return replace(
        known,
        skipped=(*plan.skipped, *skipped),
        warnings=(*plan.warnings, *warnings),
        found=found,
    )


def _own(plan: BackfillPlan) -> list[str]:
    """Return the plan's own collections, each product after its parts."""
    names = (name for name, items in plan.collections.items() if items.kind.for_each == name)
    return [name for name in names if name not in BUILT_IN]


def gather_again(
    plan: BackfillPlan, operation: Operation, database: Database, now: datetime
) -> BackfillPlan:
    """Query again what `operation` looks up and runs for, in a plan that was already gathered."""
    BUDGET.begin()
    asker = _Asker(plan, database)
    attributes = {**plan.found.attributes, **asker.lookups(_used(plan, [operation]))}
    ambiguous = {**plan.found.ambiguous, **asker.ambiguous}
    if operation.for_each in _own(plan):
        asker.again(operation.collection)
        attributes |= asker.lookups(_used(plan, [operation]))
    known = asker.plan
    for name in ["repo", *_own(plan)]:
        items = known.collections[name]
        found_out = _joined(items, plan.lookups, attributes)
        if name in asker.anew:
            items = asker.of_its_parts(items)
            items, _ = asker.aged(items, _joined(items, plan.lookups, attributes), now)
            asker.plan = asker.plan.having(**{name: items})
            found_out = _joined(items, plan.lookups, attributes)
        known = known.having(**{name: found_out})
    known = known.having(**asker.own_rows(known, [operation]))
    if asker.problems:
        raise InvalidPlan(ranked(asker.problems))
    found = Found(attributes, ambiguous, tuple(asker.facts))
    return replace(known, found=found)


def _joined(
    items: Collection, lookups: Sequence[Lookup], found: Mapping[str, Mapping[Json, Data]]
) -> Collection:
    return replace(items, rows=joined(items.rows, lookups, found, items.kind.for_each))


def _used(plan: BackfillPlan, operations: Sequence[Operation]) -> list[Lookup]:
    names = {name for operation in operations for name in operation.lookups}
    return [lookup for lookup in plan.lookups if lookup.name in names]


@dataclass(slots=True)
class _Asker:
    plan: BackfillPlan
    database: Database
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    ambiguous: dict[str, frozenset[Json]] = field(default_factory=dict)
    anew: list[str] = field(default_factory=list)  # collections that were queried again

    def answered(
        self, items: Collection, about: ItemsOf | None = None, *, deferred: bool = False
    ) -> Collection:
        """Return the items with their query results; `about`: the items that the queries are
        about."""
        rows = items.rows
        if not isinstance(rows, Concatenated) or not any(
            isinstance(part, SelectedRows) for part in rows.sources
        ):
            return items
        seen: dict[str, Data | None] = {}  # what is queried, by name; None: written
        if items.kind.for_each in _UNITED:
            seen.update((items.kind.same(items.kind.name_of(row)), None) for row in rows)
        return replace(
            items, rows=rows.answered(lambda part: self._select(part, seen, about, deferred))
        )

    def selected(self, name: str) -> Collection:
        """Query a collection; a product is built from its parts."""
        items = self.plan.collections[name]
        if isinstance(items.rows, Product):
            return self._checked(self._product(items, items.rows))
        before = len(self.problems)
        found = self.answered(items)
        # Problems with these rows are already recorded.
        return found if found is items or len(self.problems) > before else self._checked(found)

    def _product(self, items: Collection, product: Product) -> Collection:
        """Build a product of its parts without what lookups add, which nothing has at first."""
        bare = replace(self.plan, found=Found())
        order = range(len(bare.repositories))
        known = {**bare.collections, "workspace": workspace_collection(bare, order)}
        parts = {name: replace(one, rows=unjoined(one.rows)) for name, one in known.items()}
        return replace(items, rows=product.of(parts))

    def of_its_parts(self, items: Collection) -> Collection:
        """Build a product again once its parts are filtered by age."""
        product = as_queried(items.rows)
        if not isinstance(product, Product):
            return items
        return self.named(self._product(items, product))[0]

    def again(self, name: str) -> None:
        """Query a collection again, and of a product its parts, for an operation that is resolved
        when its stage starts."""
        items = self.plan.collections[name]
        items = replace(items, rows=as_queried(items.rows))
        parts = items.rows.wanted.values() if isinstance(items.rows, Product) else ()
        for part in dict.fromkeys(parts):
            if part in _own(self.plan) and part not in self.anew:
                self.again(part)
        before, self.plan = self.plan, self.plan.having(**{name: items})
        found = self.selected(name)
        if found is items or (parts and not {*parts} & {*self.anew}):  # nothing of it is queried
            self.plan = before
            return
        kept, _ = self.named(found)
        self.plan = self.plan.having(**{name: kept})
        self.anew.append(name)

    def _checked(self, items: Collection) -> Collection:
        """Check items that were unknown when the plan was read."""
        self.problems += check_items(items)
        return items

    def named(self, items: Collection) -> tuple[Collection, list[Skipped]]:
        """Filter the items by name."""
        kind = items.kind
        narrowing = self.plan.narrowing.get(kind.for_each)
        if narrowing is None or not narrowing.globs:
            return items, []
        self._idle(items, narrowing)
        kept = [i for i, row in enumerate(items.rows) if fits_name(narrowing, kind.name_of(row))]
        return self._kept(items, kept)

    def aged(
        self, items: Collection, known: Collection, now: datetime
    ) -> tuple[Collection, list[Skipped]]:
        """Filter the items by age; `known`: the items with the results of lookups."""
        kind = items.kind
        narrowing = self.plan.narrowing.get(kind.for_each)
        if narrowing is None or (narrowing.newer_than, narrowing.older_than) == (None, None):
            return items, []
        kept = []
        for index, row in enumerate(known.rows):
            try:
                kept += [index] if fits_age(narrowing, kind.name_of(row), row, now) else []
            except ValueError as error:
                place = items.rows.place(index)
                self.problems.append(replace(place, message=str(error)))
        return self._kept(items, kept)

    def own_rows(
        self, plan: BackfillPlan, operations: Sequence[Operation]
    ) -> dict[str, Collection]:
        """Query the items of operations that run for the rows of their own query."""
        found = {}
        for operation in operations:
            if operation.for_each == "row":
                items = plan.collections[operation.collection]
                # `:ids` are the repositories', for the operation's own items are what is queried.
                about = replace(items_of(plan, operation), kind="repo")
                deferred = operation.deferred
                found[operation.collection] = self.answered(items, about, deferred=deferred)
        return found

    def lookups(self, wanted: Sequence[Lookup]) -> dict[str, Mapping[Json, Data]]:
        return {lookup.name: self._look_up(lookup) for lookup in wanted}

    def _select(
        self,
        part: SelectedRows,
        seen: dict[str, Data | None],
        about: ItemsOf | None,
        deferred: bool,
    ) -> SelectedRows:
        question, given = part.question, about.parameters if about else Data()
        if question is None:
            question, given = self.plan.workspace_repos, {"workspace": part.workspace}
        if question is None:
            message = "no catalog says how to find the repositories of a workspace"
            hint = "add `workspace_repos: {query: ...}` to the catalog"
            self.problems.append(replace(part.place(0), message=message, hint=hint))
            return replace(part, answered=True)
        if about and (lacking := about.lacking(question)):
            self.problems.append(lacking)
            return replace(part, answered=True)
        parameters = self._bound(question, given)
        table = self._ask(part.asked_as, question, parameters, deferred=deferred)
        rows = self._selected(part, question, table, seen) if table else []
        if table and not table.rows and part.kind.selects_some:
            self._nothing(question)
        columns = table.columns if table else ()
        found = replace(part, rows=rows, answered=True, columns=columns)
        self.problems += () if part.kind.for_each in _UNITED else faults_of(found)
        return found

    def _selected(
        self, part: SelectedRows, question: Question, table: Table, seen: dict[str, Data | None]
    ) -> list[Data]:
        """Return the items that the query's rows are, without those that are there already."""
        rows: list[Data] = []
        own: dict[str, Data] = {}
        for_workspaces = any(one.for_each == "workspace" for one in self.plan.operations)
        for row in table.dicts():
            attributes, wrong = part.kind.selected(row, question)
            if wrong:
                self.problems.append(wrong)
                break
            if part.kind.for_each not in _UNITED:
                rows.append(attributes)
                continue
            name = part.kind.same(part.kind.name_of(attributes))
            if _but_home(own.setdefault(name, attributes)) != _but_home(attributes):
                self.problems.append(_of_several_rows(part, question, attributes))
                break
            first = seen.setdefault(name, attributes)  # earlier sources take precedence
            if first is attributes:
                rows.append(attributes)
            elif first and for_workspaces and len(homes := _homes(first, attributes)) > 1:
                self.problems.append(_of_several_workspaces(part, attributes, homes))
                break
        return rows

    def _nothing(self, question: Question) -> None:
        message = f"the query gives no rows: {question.query.text}"
        hint = "is the table empty, or may this role not read it?"
        warning = replace(question.place, message=message, hint=hint)
        self.warnings.append(replace(warning, severity="warning", rule="no-rows"))

    def _look_up(self, lookup: Lookup) -> Mapping[Json, Data]:
        keys = list(dict.fromkeys(self._keys(lookup)))
        found = LookedUp()
        twice: set[Json] = set()
        for first in range(0, len(keys), KEYS):
            some = keys[first : first + KEYS]
            parameters = self._bound(lookup.question, {"keys": some})
            table = self._ask(f"lookup {lookup.name}", lookup.question, parameters)
            if table is None:
                break
            if not (table.columns or table.rows):  # of a test, for a query that names no columns
                break
            if lookup.key not in table.columns:
                message = f"the lookup's query gives no column `{lookup.key}`, its key"
                hint = f"it gives: {', '.join(table.columns)}"
                place = lookup.question.place
                self.problems.append(replace(place, message=message, hint=hint))
                break
            found.columns = table.columns
            place_of_key = table.columns.index(lookup.key)
            for key, row in zip((r[place_of_key] for r in table.rows), table.dicts(), strict=True):
                if not is_key(key):
                    message = f"the lookup's key `{lookup.key}` is {echo(key)} in a row"
                    hint = "a key must be one value: text or a number"
                    place = lookup.question.place
                    self.problems.append(replace(place, message=message, hint=hint))
                    return found
                if (name := key_of(key)) is None:
                    continue
                if name in found:
                    twice.add(name)
                found[name] = row
        for name in twice:
            del found[name]
        self.ambiguous[lookup.name] = frozenset(twice)
        return found

    def _keys(self, lookup: Lookup) -> Iterator[Json]:
        rows = self.plan.collections[lookup.scope].rows
        if lookup.scope == "workspace":
            return iter(find_workspaces(self.plan, range(len(self.plan.repositories))).names)
        found = (row.get(lookup.key) for row in rows)
        return (key for key in found if key is not None and is_key(key))

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
        """Ask the question; record a problem and return None if the database refuses it."""
        if parameters is None:
            return None
        try:
            table = self.database.ask(question.query, parameters)
        except QueryRefused as error:
            from runner.planning.answers import NOT_RECORDED, NotRecorded

            message, rule = f"the database refuses the query: {error}", question.place.rule
            if isinstance(error, NotRecorded):
                message, rule = f"{name}: {error}", NOT_RECORDED
            problem = replace(question.place, message=message, hint=error.hint, rule=rule)
            self.problems.append(problem)
            return None
        self._remember(name, question.query, table, deferred=deferred)
        return table

    def _idle(self, items: Collection, narrowing: Narrowing) -> None:
        """Warn of globs that change nothing. Only names written in the plan are judged: query
        results and ages change from day to day."""
        rows, kind = items.rows, items.kind
        if isinstance(rows, Concatenated):
            queried = any(isinstance(part, SelectedRows) for part in rows.sources)
        else:
            queried = True
        names = [] if queried else [kind.name_of(row) for row in rows]
        if not names:
            return
        several = {"repo": "repositories"}.get(kind.for_each, "items")
        idle = [g for g in narrowing.globs if not any(fits_glob(n, g) for n in names)]
        if idle:
            which = ", ".join(map(echo, idle))
            message = f"`filter`: {which} matches none of the {several}"
        elif all(fits_name(narrowing, name) for name in names):
            message = f"`filter` keeps all of the {several}"
        else:
            return
        hint = "take it out"
        self.warnings.append(replace(narrowing.place, message=message, hint=hint))

    def _remember(self, name: str, query: Query, table: Table, *, deferred: bool) -> None:
        sha256 = hashlib.sha256(orjson.dumps(list(table))).hexdigest()
        self.facts.append(Fact(name, query.text, len(table.rows), sha256, deferred))

    def _kept(self, items: Collection, kept: Sequence[int]) -> tuple[Collection, list[Skipped]]:
        staying, kind = set(kept), items.kind
        operations = [o.name for o in self.plan.operations if o.for_each == kind.for_each]
        out = [
            Skipped(operation, kind.name_of(row), "skipped by `filter`")
            for index, row in enumerate(items.rows)
            if index not in staying
            for operation in operations
        ]
        return replace(items, rows=Kept(items.rows, kept)), out


def _of_several_rows(part: SelectedRows, question: Question, row: Data) -> Problem:
    name = part.kind.name_of(row)
    message = f"the query gives several rows for {echo(name)}, with different values"
    hint = f"make the query give one row for each {part.kind.called}"
    return replace(question.place, message=message, hint=hint)


def _but_home(row: Data) -> Data:
    return {key: value for key, value in row.items() if key != "workspace"}


def _homes(*rows: Data) -> list[str]:
    found = (row.get("workspace") for row in rows)
    return list(dict.fromkeys(str(one) for one in found if one is not None))


def _of_several_workspaces(part: SelectedRows, row: Data, homes: Sequence[str]) -> Problem:
    name = part.kind.name_of(row)
    message = (
        f"{echo(name)} is in the workspaces {' and '.join(map(echo, homes))}; where an operation "
        "runs for workspaces, it can have only one"
    )
    hint = "make a plan for each workspace, or write it in the plan: {repo: NAME, workspace: ID}"
    return replace(part.place(0), message=message, hint=hint)


def faults_of(part: SelectedRows) -> list[Problem]:
    """Report the faults in a query's rows, which have no place of their own in a file."""
    groups = ProblemGroups(part.asked_as)
    for number, row in enumerate(part.rows, 1):
        which = f"row {number:,}"
        for fault in part.kind.faults(row):
            groups.add(which, partial(_named_fault, part, fault, which))
    return groups.problems()


def _named_fault(part: SelectedRows, fault: Fault, which: str) -> Iterable[Problem]:
    place = fault.origin or part.place(0)
    return (replace(place, message=fault.message.replace("the row", which), hint=fault.hint),)
