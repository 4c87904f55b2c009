"""Bind parameters to questions, so that they are ready to ask; values are never interpolated."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from runner.model import (
    BUILT_IN,
    RUN_STARTED,
    BackfillPlan,
    BoundQuestion,
    Check,
    CheckSpec,
    Collection,
    Coverage,
    Data,
    Draining,
    Expect,
    ItemKind,
    Json,
    Measure,
    Operation,
    Problem,
    Question,
    Skipped,
    Until,
    frozen,
)
from runner.planning.items import workspace_collection
from runner.spec.document import echo
from runner.spec.kinds import name_of_part
from runner.spec.questions import OF_RUNS, names_of, nothing_meets
from runner.spec.rows import skipped_by
from runner.spec.units import BOUNDS, is_time, unmet

_NAMED = 5
Keeps: TypeAlias = Callable[[str, str], bool]  # takes `for_each` and the item's name


def keep_all(_for_each: str, _name: str) -> bool:
    return True


@frozen
class ItemsOf:
    """The items that a question is about.

    These are the items of an operation, and the repositories and workspaces they belong to; without
    an operation, the items of all operations. By kind: their names and their ids, None for an item
    without an id.
    """

    names: Mapping[ItemKind, Sequence[str]]
    ids: Mapping[ItemKind, Sequence[Json]]
    called: Mapping[ItemKind, str]  # the query parameter with the names of each kind
    kind: ItemKind = "repo"  # the kind that `:ids` refers to

    @property
    def parameters(self) -> Data:
        given: Data = {self.called[kind]: list(names) for kind, names in self.names.items()}
        return {**given, "ids": list(self.ids[self.kind])}  # if an id is None: see `lacking`

    def ids_of(self, kind: ItemKind) -> Sequence[Json]:
        """The ids that go with the names; empty if some item has none."""
        found = self.ids.get(kind, ())
        return [] if None in found else found

    def lacking(self, question: Question) -> Problem | None:
        """Refuse a question that uses `:ids` if an item has no id."""
        pairs = zip(self.names.get(self.kind, ()), self.ids[self.kind], strict=True)
        without = [name for name, id_ in pairs if id_ is None]
        if not without or "ids" not in names_of(question.query):
            return None
        more = f" and {len(without) - _NAMED:,} more" if len(without) > _NAMED else ""
        which = f"{', '.join(map(echo, without[:_NAMED]))}{more}"
        message = f"the query goes by :ids, but there is no `id` of {which}"
        by = self.called[self.kind]
        hint = f"read it with `lookups` and `required: [id]`; or let the query go by :{by}"
        return replace(question.place, message=message, hint=hint)


NO_ITEMS = ItemsOf({}, {"repo": ()}, {})


def bound(question: Question, plan: BackfillPlan, given: Mapping[str, Json]) -> Data:
    """Return the parameters that the query uses: the plan's variables, `given`, and its own
    `params`.

    Raises ValueError if a template cannot be rendered.
    """
    own = question.parameters({"vars": plan.variables, "plan": plan.metadata, **given})
    known = {**plan.variables, **given, **own}
    return {name: known[name] for name in names_of(question.query) if name in known}


def items_of(
    plan: BackfillPlan,
    operation: Operation | None,
    skipped: Container[str] = (),
    keeps: Keeps = keep_all,
    also: Sequence[ItemKind] = (),
) -> ItemsOf:
    """Return the items that an operation runs for, or all operations.

    `skipped`: items that the operation skips for a reason other than the plan's own flags; `keeps`:
    which items count at all; `also`: collections of the plan's own to include, whatever the
    operation runs for; of the parts of products that it runs for, those that occur in them.
    """
    rows = list(plan.repositories)
    known = workspace_collection(plan, range(len(rows)))
    if operation is None:
        kept, workspaces, own = _of_any(plan, known, keeps)
    else:
        kept, workspaces, own = _of_one(plan, known, operation, skipped, keeps)
    kind = operation.for_each if operation and operation.for_each in own else "repo"
    names = [operation.name] if operation else [one.name for one in plan.operations]
    parts = _parts_in(plan, own)
    for of in also:
        if of in plan.collections and of not in (*BUILT_IN, *own):
            items = plan.collections[of]
            named = {items.kind.name_of(row): row for row in _kept(items, names)}
            among = parts.get(of, named)
            own[of] = [row for one, row in named.items() if one in among and keeps(of, one)]
    kinds = {items.kind.for_each: items.kind for items in plan.collections.values()}
    return ItemsOf(
        {
            "repo": [row["repo"] for row in kept],
            "workspace": workspaces,
            **{of: [kinds[of].name_of(row) for row in rows] for of, rows in own.items()},
        },
        {of: [row.get("id") for row in rows] for of, rows in {"repo": kept, **own}.items()},
        {of: one.parameter for of, one in kinds.items()},
        kind,
    )


def _parts_in(plan: BackfillPlan, own: Mapping[ItemKind, list[Data]]) -> dict[ItemKind, set[str]]:
    """Return the names of the parts that occur in these items of products."""
    found: dict[ItemKind, set[str]] = {}
    for of in own.keys() & plan.collections.keys():
        for name, kind in plan.collections[of].kind.parts.items():
            names = (name_of_part(kind, row[name]) for row in own[of])
            found.setdefault(kind.for_each, set()).update(names)
    return found


_Found: TypeAlias = tuple[list[Data], list[str], dict[ItemKind, list[Data]]]


def _of_any(plan: BackfillPlan, known: Collection, keeps: Keeps) -> _Found:
    """Return the repositories, workspaces and own items that any operation runs for.

    If none runs for repositories, they are those of the workspaces, and the other way round.
    """
    every = [one.name for one in plan.operations]
    of_repos, of_workspaces = (
        [one.name for one in plan.operations if one.for_each == kind]
        for kind in ("repo", "workspace")
    )
    repos, scoped = plan.collections["repo"], of_repos or of_workspaces or every
    kept = [row for row in _kept(repos, scoped) if keeps("repo", row["repo"])]
    scoped = of_workspaces or of_repos or every
    workspaces = [one for one in _names(known, scoped) if keeps("workspace", one)]
    own: dict[ItemKind, list[Data]] = {}
    for kind in {one.for_each: None for one in plan.operations}:
        if kind not in (*BUILT_IN, "row"):
            alike = [one.name for one in plan.operations if one.for_each == kind]
            items = plan.collections[kind]
            name_of = items.kind.name_of
            own[kind] = [row for row in _kept(items, alike) if keeps(kind, name_of(row))]
    return kept, workspaces, own


def _of_one(
    plan: BackfillPlan,
    known: Collection,
    operation: Operation,
    skipped: Container[str],
    keeps: Keeps,
) -> _Found:
    name, kind = operation.name, operation.for_each
    kept = _kept(plan.collections["repo"], [name])
    workspaces = _names(known, [name])
    own: dict[ItemKind, list[Data]] = {}
    if kind == "repo":
        kept = [r for r in kept if r["repo"] not in skipped and keeps("repo", r["repo"])]
        theirs = {row.get("workspace") for row in kept}
        workspaces = [one for one in workspaces if one in theirs]
    elif kind == "workspace":
        workspaces = [w for w in workspaces if w not in skipped and keeps("workspace", w)]
        among = set(workspaces)
        kept = [row for row in kept if row.get("workspace") in among]
    elif kind != "once":
        items = plan.collections[operation.collection]
        named = {items.kind.name_of(row): row for row in _kept(items, [name])}
        own[kind] = [row for one, row in named.items() if one not in skipped and keeps(kind, one)]
    return kept, workspaces, own


def _kept(items: Collection, operations: Sequence[str]) -> list[Data]:
    """Return the items that run at least one of the operations."""
    kind = items.kind
    return [r for r in items.rows if not all(skipped_by(kind, r, one) for one in operations)]


def _names(items: Collection, operations: Sequence[str]) -> list[str]:
    return [items.kind.name_of(row) for row in _kept(items, operations)]


@dataclass(slots=True)
class Binder:
    """Binds a plan's questions; resolves the items they are about on first use. `idle`: kinds of
    items for which no selected operation runs."""

    plan: BackfillPlan
    keeps: Keeps = keep_all
    idle: Container[ItemKind] = frozenset()
    problems: list[Problem] = field(default_factory=list)
    _skipped: dict[str, Sequence[Skipped]] = field(default_factory=dict)
    _items: dict[tuple[str | None, bool, Sequence[ItemKind]], ItemsOf] = field(default_factory=dict)

    def runs(self, operation: Operation, skipped: Sequence[Skipped]) -> None:
        """Record what an operation skips. A deferred one may still run for what it skips today, if
        it looks its items up, or queries them, when its stage starts."""
        changing = operation.lookups or operation.for_each not in BUILT_IN
        later = changing and (operation.deferred or operation.until)
        self._skipped[operation.name] = () if later else skipped

    def checks(self, specs: Sequence[CheckSpec]) -> tuple[Check, ...]:
        return tuple(self._check(spec) for spec in specs)

    def until(self, spec: Draining, operation: str) -> Until:
        return Until(
            self._bound(spec.question, operation),
            self._expect(spec),
            spec.stalled_after,
            spec.max_rounds,
            spec.max_time,
        )

    def coverage(self, ones: Sequence[Coverage]) -> tuple[Measure, ...]:
        return tuple(
            Measure(one.name, self._bound(one.question, None, covers=True)) for one in ones
        )

    def _check(self, spec: CheckSpec) -> Check:
        return Check(
            spec.name,
            self._bound(spec.question, spec.operation),
            self._expect(spec),
            spec.moment,
            spec.operation,
            spec.timeout,
            spec.every,
            spec.unchanged,
            spec.migration,
        )

    def _expect(self, spec: CheckSpec | Draining) -> Expect:
        """Render the templates. What gives no value is a problem: nothing would be expected."""
        context = {"vars": self.plan.variables, "plan": self.plan.metadata}
        try:
            found = spec.bounds(context)
        except ValueError:
            self.problems += spec.bounds.explain(context, "the check")
            return spec.expect
        for key, value in found.items():
            if wrong := _unfit(key, value):
                message = f"`{key}` gives {echo(value)}, which is not {wrong}"
                self.problems.append(spec.bounds.problem(message))
        expect = replace(spec.expect, **found)
        bounds = {key: getattr(expect, key) for key in BOUNDS}
        if found and (crossed := unmet(bounds)):
            self.problems.append(spec.bounds.problem(nothing_meets(bounds, crossed)))
        return expect

    def _bound(
        self, question: Question, operation: str | None, *, covers: bool = False
    ) -> BoundQuestion:
        """Bind all but the parameters of the run, which are bound when the run has started.

        What a question of the plan must find for each item, it asks of those that are sent;
        what it `covers`, and figures, are of all.
        """
        named = [name for name in names_of(question.query) if name in self.plan.collections]
        also = [*named, *([question.of] if question.of else ())]
        sent = not (operation or covers) and question.key is not None
        items = self._items_of(operation, also, sent=sent) if question.of else NO_ITEMS
        given = {**items.parameters, **dict.fromkeys(OF_RUNS)}
        try:
            found = bound(question, self.plan, given)
        except ValueError:
            context = {"vars": self.plan.variables, "plan": self.plan.metadata, **given}
            self.problems += question.parameters.explain(context, "the query")
            return BoundQuestion(question.query, {})
        if lacking := items.lacking(question):
            self.problems.append(lacking)
        kind = question.of
        return BoundQuestion(
            question.query,
            {name: value for name, value in found.items() if name not in OF_RUNS},
            kind,
            question.key,
            tuple(items.names.get(kind, ())) if kind else (),
            tuple(items.ids_of(kind)) if kind and question.key else (),
        )

    def _items_of(self, operation: str | None, also: Sequence[ItemKind], *, sent: bool) -> ItemsOf:
        found = next((one for one in self.plan.operations if one.name == operation), None)
        own = (*BUILT_IN, found.for_each if found else None)
        key = operation, sent, tuple(sorted({of for of in also if of not in own}))
        if key not in self._items:
            keeps = self._keeps_sent() if sent else self.keeps
            left_out = self._left_out_by(operation or "")
            self._items[key] = items_of(self.plan, found, left_out, keeps, key[2])
        return self._items[key]

    def _left_out_by(self, operation: str) -> set[Json]:
        return {one.item for one in self._skipped.get(operation, ()) if one.item is not None}

    def _keeps_sent(self) -> Keeps:
        """Keep only the items that some operation of their kind runs for; if none is of
        repositories, those of such workspaces, and the other way round."""
        idle: dict[str, set[Json]] = {}
        for one in self.plan.operations:
            here = self._left_out_by(one.name)
            idle[one.for_each] = idle.get(one.for_each, here) & here
        homes = [(row["repo"], row.get("workspace")) for row in self.plan.repositories]
        if "repo" not in idle:
            idle["repo"] = {repo for repo, home in homes if home in idle.get("workspace", ())}
        if "workspace" not in idle:
            working = {home for repo, home in homes if repo not in idle["repo"]}
            idle["workspace"] = {home for _, home in homes} - working

        def keeps(of: str, name: str) -> bool:
            return of not in self.idle and name not in idle.get(of, ()) and self.keeps(of, name)

        return keeps


def _unfit(key: str, value: Json) -> str | None:
    """Say what the value of an expectation must be, if it is something else."""
    if key in ("at_least", "at_most"):
        return None if type(value) in (int, float) else "a number"
    if key == "newer_than":
        return None if value == RUN_STARTED or is_time(value) else "a time in ISO 8601"
    if key == "column":
        return None if isinstance(value, str) else "a column's name"
    return None if isinstance(value, str | int | float) else "text, a number, true or false"
