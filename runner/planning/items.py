"""What an operation could run for, in order, with the context that its templates see."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.model import BackfillPlan, Collection, Data, Json, Operation, Problem, Rows, frozen
from runner.planning.rows import attributes_of, ordered
from runner.spec.kinds import WORKSPACE
from runner.spec.rows import leaves_out, without_nulls


@dataclass(slots=True)
class Source:
    """Everything an operation could run for, in order, before anything is skipped."""

    items: Collection
    order: Sequence[int]
    attributes: frozenset[str] | None = None  # once they are asked for

    def __len__(self) -> int:
        return len(self.order)

    def contexts(self, base: Data) -> Iterator[tuple[str, Data, Data]]:
        """Name, row and rendering context of each item; the context is reused, not kept."""
        rows, kind, context = self.items.rows, self.items.kind, dict(base)
        for index in self.order:
            row = rows[index]
            kind.show(row, context)
            yield kind.name_of(row), row, context

    def knows(self, root: str, name: str) -> bool:
        """Has some item this attribute, or could have?"""
        shown: Data = {}
        for row in self.items.rows:
            self.items.kind.show(row, shown)
            break
        if root not in shown:
            return False
        if self.attributes is None:
            self.attributes = attributes_of(self.items.rows)
        return name in self.attributes

    def skips(self, row: Data, operation: str) -> str | None:
        """Why the item leaves out the operation, or None."""
        by = leaves_out(row, operation)
        if by is None:
            return None
        kind = self.items.kind
        return kind.skipping if by == "skip" else f"not in the `only` of the {kind.called}"


# Those that stand where the repositories are.
_AS_IS = ("repo", "workspace", "once")


class Sources:
    """The items of a plan's collections in sending order, found when they are first asked for."""

    def __init__(self, plan: BackfillPlan) -> None:
        self._plan = plan
        self._order, self.unknown = ordered(plan.repositories, plan.order_by)
        self._orders = {"repo": self._order}
        for name in {one.collection: None for one in plan.operations if one.for_each not in _AS_IS}:
            self._orders[name], unknown = ordered(plan.collections[name].rows, plan.order_by)
            self.unknown = [one for one in self.unknown if one in unknown]
        self._found: dict[str, Source] = {}
        self.homeless = 0  # repositories without a workspace, where workspaces are asked for
        self.outvoted: dict[str, tuple[int, Problem]] = {}  # of an operation: how many repositories
        # skip it though their workspace does not, and where the first of them is written

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
        return Source(items, range(len(items.rows)))


def _outvoted(plan: BackfillPlan, workspaces: Workspaces) -> dict[str, tuple[int, Problem]]:
    found: dict[str, tuple[int, Problem]] = {}
    rows = plan.repositories
    theirs = [one.name for one in plan.operations if one.for_each == "workspace"]
    for workspace, skipping in workspaces.skipping.items():
        members = workspaces.members[workspace]
        for name in theirs:
            count = skipping.get(name, 0)
            if 0 < count < len(members):
                first = next(index for index in members if leaves_out(rows[index], name))
                before, place = found.get(name, (0, rows.place(first)))
                found[name] = before + count, place
    return found


@frozen
class Workspaces:
    """The workspaces of the repositories, in the order of each one's first repository; then those
    that the plan lists. Meets `runner.model.Rows`."""

    repositories: Rows
    members: Mapping[str, array[int]]
    skipping: Mapping[str, Mapping[str, int]]  # workspace -> operation -> how many skip it
    homeless: int  # repositories that belong to no workspace
    names: tuple[str, ...]
    found: Sequence[Mapping[Json, Data]] = ()  # by lookups, by workspace
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


class _Workspace(dict[str, Json]):
    """`workspace` in templates: `id`, and `repos`, its repositories in order, made when read.
    It skips what all of its repositories skip."""

    def __init__(self, name: str, workspaces: Workspaces) -> None:
        super().__init__()
        for found in workspaces.found:
            self.update(without_nulls(found.get(name, {})))
        self["id"] = name
        self._workspaces = workspaces
        self._repos: list[str] | None = None
        every, skipping = len(workspaces.members[name]), workspaces.skipping.get(name)
        if skipping:
            self["skip"] = [one for one, count in skipping.items() if count == every]

    def __missing__(self, key: str) -> Json:
        if key != "repos":
            raise KeyError(key)
        if self._repos is None:
            members = self._workspaces.members.get(self["id"], ())
            rows = self._workspaces.repositories
            self._repos = [rows[index]["repo"] for index in members]
        return self._repos


def find_workspaces(plan: BackfillPlan, order: Iterable[int]) -> Workspaces:
    """The plan's own workspace counts where it lists no repositories at all."""
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
        members.setdefault(workspace, array("L")).append(index)
        for operation in every if "skip" in row or "only" in row else ():
            if leaves_out(row, operation):
                counts = skipping.setdefault(workspace, {})
                counts[operation] = counts.get(operation, 0) + 1
    named = {row["id"]: row for row in plan.collections["workspace"].rows}
    for workspace in named:
        members.setdefault(workspace, array("L"))
    if not members and not homeless and plan.workspace is not None:
        members[plan.workspace] = array("L")
    found: list[Mapping[Json, Data]] = [
        plan.found.attributes[lookup.name]
        for lookup in plan.lookups
        if lookup.scope == "workspace" and lookup.name in plan.found.attributes
    ]
    found.append(named)
    return Workspaces(rows, members, skipping, homeless, tuple(members), found)


def workspace_collection(plan: BackfillPlan, order: Iterable[int]) -> Collection:
    return Collection(WORKSPACE, find_workspaces(plan, order))
