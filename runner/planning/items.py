"""The items of operations in order, with their template contexts; their problems by kind; and the
items that a run must remember for a resume."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.model import (
    BUILT_IN,
    BackfillPlan,
    Collection,
    Data,
    Json,
    Lookup,
    Narrowing,
    Operation,
    Problem,
    Rows,
    frozen,
)
from runner.planning.rows import (
    Listed,
    as_queried,
    attributes_of,
    is_key,
    key_of,
    ordered,
    part_of,
    unjoined,
)
from runner.spec.collections import with_others
from runner.spec.kinds import WORKSPACE
from runner.spec.rows import (
    Concatenated,
    SelectedRows,
    SharedRow,
    leaves_out,
    skipped_by,
    without_nulls,
)
from runner.spec.units import counted

MAX_EXPLAINED = 100  # items whose problems are explained; the others are only counted


@dataclass(slots=True)
class Source:
    """Everything an operation could run for, in order, before anything is skipped."""

    items: Collection
    order: Sequence[int]
    attributes: dict[str, frozenset[str]] = field(default_factory=dict)  # computed on first use

    def __len__(self) -> int:
        return len(self.order)

    def contexts(self, base: Data) -> Iterator[tuple[str, Data, Data]]:
        """Yield name, row and rendering context of each item; the context is reused."""
        rows, kind, context = self.items.rows, self.items.kind, dict(base)
        for index in self.order:
            row = rows[index]
            kind.show(row, context)
            yield kind.name_of(row), row, context

    def knows(self, root: str, name: str) -> bool:
        """Whether some item has this attribute, or could have it; `root` may be ``row.PART``, for
        a part of a product."""
        shown: Data = {}
        for row in self.items.rows:
            self.items.kind.show(row, shown)
            break
        word, _, part = root.partition(".")
        if word not in shown:
            return False
        if part not in self.attributes:
            rows = part_of(self.items.rows, part) if part else self.items.rows
            self.attributes[part] = frozenset() if rows is None else attributes_of(rows)
        return name in self.attributes[part]

    def skips(self, row: Data, operation: str) -> str | None:
        """Say why the item skips the operation, or return None."""
        return skipped_by(self.items.kind, row, operation)


class Sources:
    """The items of a plan's collections in sending order, resolved on first use."""

    def __init__(self, plan: BackfillPlan) -> None:
        self._plan = plan
        self._order, self.unknown = ordered(plan.repositories, plan.order_by)
        self._orders = {"repo": self._order}
        # The order of the built-in ones follows from that of the repositories.
        own = (one.collection for one in plan.operations if one.for_each not in BUILT_IN)
        for name in dict.fromkeys(own):
            self._orders[name], unknown = ordered(plan.collections[name].rows, plan.order_by)
            self.unknown = [one for one in self.unknown if one in unknown]
        self._found: dict[str, Source] = {}
        self.homeless = 0  # repositories without a workspace, if any operation runs for workspaces
        self.outvoted: dict[str, tuple[int, Problem]] = {}  # by operation: how many repositories
        # skip it though their workspace does not, and the place of the first
        for operation in plan.operations:
            if operation.for_each == "workspace":
                self.of(operation)  # whose attributes are ordered by, too

    def of(self, operation: Operation) -> Source:
        name = operation.collection
        if name not in self._found:
            self._found[name] = self._source(name)
        return self._found[name]

    def _source(self, name: str) -> Source:
        items = self._plan.collections[name]
        if name in self._orders:
            return Source(items, self._orders[name])
        if name == "workspace":
            workspaces = find_workspaces(self._plan, self._order)
            self.homeless = workspaces.homeless
            self.outvoted = _outvoted(self._plan, workspaces)
            items = Collection(items.kind, workspaces)
            first = sum(1 for members in workspaces.members.values() if members)
            later = [workspaces[index] for index in range(first, len(workspaces))]
            order, unknown = ordered(Listed(later, self._plan.path), self._plan.order_by)
            self.unknown = [one for one in self.unknown if one in unknown]
            return Source(items, [*range(first), *(first + index for index in order)])
        return Source(items, range(len(items.rows)))


def _outvoted(plan: BackfillPlan, workspaces: Workspaces) -> dict[str, tuple[int, Problem]]:
    found: dict[str, tuple[int, Problem]] = {}
    rows = plan.repositories
    theirs = [one.name for one in plan.operations if one.for_each == "workspace"]
    for workspace, skipping in workspaces.skipping.items():
        members = workspaces.members[workspace]
        itself = _Workspace(workspace, workspaces)
        for name in theirs:
            count = skipping.get(name, 0)
            if 0 < count < len(members) and not leaves_out(itself, name):
                first = next(index for index in members if leaves_out(rows[index], name))
                before, place = found.get(name, (0, rows.place(first)))
                found[name] = before + count, place
    return found


@frozen
class Workspaces:
    """The workspaces in the order of their first repositories, then those that the plan lists.
    Implements `runner.model.Rows`."""

    repositories: Rows
    members: Mapping[str, array[int]]
    skipping: Mapping[str, Mapping[str, int]]  # workspace -> operation -> repositories that skip it
    homeless: int  # repositories without a workspace
    names: tuple[str, ...]
    found: Sequence[Mapping[Json, Data]] = ()  # results of lookups, by workspace
    asked: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Data:
        return _Workspace(self.names[index], self)

    def __iter__(self) -> Iterator[Data]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Problem:
        first = self.members[self.names[index]]
        return self.repositories.place(first[0]) if first else Problem("", "")


class _Workspace(SharedRow):
    """`workspace` in templates: `id`, and `repos`, its repositories in order, made on access.
    It skips what all of its repositories skip."""

    def __init__(self, name: str, workspaces: Workspaces) -> None:
        for found in workspaces.found:
            self.update(without_nulls(found.get(name, {})))
        self["id"] = name
        self._workspaces = workspaces
        self._repos: list[str] | None = None
        every, skipping = len(workspaces.members[name]), workspaces.skipping.get(name)
        if skipping:
            self.skipped_by_all = [one for one, count in skipping.items() if count == every]

    def __missing__(self, key: str) -> Json:
        if key != "repos":
            raise KeyError(key)
        if self._repos is None:
            members = self._workspaces.members.get(self["id"], ())
            rows = self._workspaces.repositories
            self._repos = [rows[index]["repo"] for index in members]
        return self._repos


def find_workspaces(plan: BackfillPlan, order: Iterable[int]) -> Workspaces:
    """Find the workspaces: of the repositories, and those that the plan lists."""
    rows = plan.repositories
    members: dict[str, array[int]] = {}
    skipping: dict[str, dict[str, int]] = {}
    homeless, every = 0, [operation.name for operation in plan.operations]
    for index in order:
        row = rows[index]
        workspace = row.get("workspace")
        if workspace is None:
            homeless += 1
            continue
        members.setdefault(workspace, array("I")).append(index)
        for operation in every if "skip" in row or "only" in row else ():
            if leaves_out(row, operation):
                counts = skipping.setdefault(workspace, {})
                counts[operation] = counts.get(operation, 0) + 1
    named = {row["id"]: row for row in plan.collections["workspace"].rows}
    for workspace in named:
        members.setdefault(workspace, array("I"))
    if not members and plan.workspace is not None:
        members[plan.workspace] = array("I")
    found: list[Mapping[Json, Data]] = [
        plan.found.attributes[lookup.name]
        for lookup in plan.lookups
        if lookup.scope == "workspace" and lookup.name in plan.found.attributes
    ]
    found.append(named)
    return Workspaces(rows, members, skipping, homeless, tuple(members), found)


def workspace_collection(plan: BackfillPlan, order: Iterable[int]) -> Collection:
    return Collection(WORKSPACE, find_workspaces(plan, order))


@dataclass(slots=True)
class ProblemGroups:
    """Groups problems, so that ten thousand items with the same fault give one problem."""

    operation: str
    _first: dict[Problem, tuple[Problem, int]] = field(default_factory=dict)
    _explained: int = 0
    _unexplained: int = 0

    def add(self, item: str, explain: Callable[[], Iterable[Problem]]) -> None:
        if self._explained == MAX_EXPLAINED:
            self._unexplained += 1
            return
        self._explained += 1
        for problem in explain():
            alike = re.sub(rf"(?<!\w){re.escape(item)}(?!\w)", "", problem.message)
            kind = replace(problem, message=alike)
            first, count = self._first.get(kind, (problem, 0))
            self._first[kind] = (first, count + 1)

    def problems(self) -> list[Problem]:
        problems = [with_others(first, count - 1) for first, count in self._first.values()]
        if self._unexplained:
            last = problems[-1]
            others = counted(self._unexplained, "more item", "have")
            message = f"`{self.operation}`: {others} such problems"
            problems.append(Problem(message, last.path, last.line, last.column, rule=last.rule))
        return problems


_NAMED = 1_000  # items listed by name


_HINTS = {
    "finds more than one row for": "make the query give one row for each key",
    "finds nothing for": "names are compared exactly: add them there, or skip them here",
}


_NULL_HINT = "fill in the data, or name the columns that must not be NULL: `required: [id]`"


_NO_COLUMN = "gives no column"
_BLIND = (
    "it finds nothing at all: may this role read the table? Row-level security hides "
    "rows without an error"
)


@dataclass(slots=True)
class LookupErrors:
    lookup: Lookup
    found: Mapping[Json, Data]
    ambiguous: frozenset[Json]
    items: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self, item: str, context: Data) -> bool:
        """Whether the lookup lacks something that the item needs; if so, record it."""
        of = self.lookup.scope
        scope = context.get(of if of in ("repo", "workspace") else "row")
        by = "id" if of == "workspace" else self.lookup.key
        why = self._why(scope.get(by)) if scope is not None else None
        if why:
            self.items.setdefault(why, []).append(item)
        return why is not None

    def problems(self, operation: str) -> Iterator[Problem]:
        for why, items in self.items.items():
            more = len(items) - _NAMED
            named = ", ".join(items[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            message = f"the lookup `{self.lookup.name}` {why} {named}: `{operation}` needs it"
            hint = _HINTS.get(why, _NULL_HINT) if self.found or self.ambiguous else _BLIND
            if why.startswith(_NO_COLUMN):
                hint = "add it to the query, or leave it out of `required`"
            elif why.startswith("goes by"):
                hint = "`key` must be an attribute of the items and a column of the query"
            yield replace(self.lookup.question.place, message=message, hint=hint, rule="lookup")

    def _why(self, key: Json) -> str | None:
        if not is_key(key):
            return f"goes by `{self.lookup.key}`, which is a list or a mapping of"
        if key_of(key) in self.ambiguous:
            return "finds more than one row for"
        if self.lookup.required is None:
            return None
        if key is None:
            return f"goes by `{self.lookup.key}`, which is missing for"
        row = self.found.get(key_of(key))
        if row is None:
            return "finds nothing for"
        columns = self.lookup.required or tuple(row)
        null = next((name for name in columns if row.get(name) is None), None)
        if null is None:
            return None
        return (
            f"finds no `{null}` (it is NULL) for" if null in row else f"{_NO_COLUMN} `{null}` for"
        )


def remembered(plan: BackfillPlan, items: Data) -> BackfillPlan:
    """Restore the items that a run began with, from the result of `to_remember`."""
    workspaces = [{**row, "id": name} for name, row in items["workspaces"].items()]
    plan = plan.having(workspace=Collection(WORKSPACE, Listed(workspaces, plan.path)))
    rows = {**items.get("collections", {}), "repo": items["repositories"]}
    known = {name: Listed(own, plan.path) for name, own in rows.items() if own is not None}
    collections = {name: replace(plan.collections[name], rows=own) for name, own in known.items()}
    narrowing = {name: one for name, one in plan.narrowing.items() if name not in known}
    if "repo" in known:  # they were listed
        plan = replace(plan, workspace=None)
    return replace(plan.having(**collections), narrowing=narrowing)


def to_remember(plan: BackfillPlan) -> Data:
    """Return the items of a gathered plan, as far as querying them again, or filtering them by age
    at another time, might not give the same ones."""
    asked = any(fact.name.startswith("repositories") for fact in plan.found.facts)
    later = any(one.deferred or one.until for one in plan.operations)
    replaced = {one.path for one in plan.replaced} if later else set()
    workspaces = {
        row["id"]: {key: value for key, value in row.items() if key != "id"}
        for row in plan.collections["workspace"].rows
    }
    repositories = asked or "repos" in replaced or _by_age(plan, "repo")
    found = {
        "repositories": list(unjoined(plan.repositories)) if repositories else None,
        "workspaces": workspaces,
    }
    own = {
        name: list(unjoined(items.rows))
        for name, items in plan.collections.items()
        if later
        and name != "repo"
        and (name in replaced or (_by_age(plan, name) and _is_written(items)))
    }
    return found | {"collections": own} if own else found


def _by_age(plan: BackfillPlan, name: str) -> bool:
    narrowing = plan.narrowing.get(name, Narrowing())
    return (narrowing.newer_than, narrowing.older_than) != (None, None)


def _is_written(items: Collection) -> bool:
    """Whether the items come from files: what is queried is queried again, and a product is made
    of its parts."""
    rows = as_queried(items.rows)
    return isinstance(rows, Concatenated) and not any(
        isinstance(part, SelectedRows) for part in rows.sources
    )
