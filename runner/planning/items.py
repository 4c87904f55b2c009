"""What an operation could run for, in order, with the context that its templates see."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from runner.model import BackfillPlan, Data, Json, Payload, Problem, Repositories, Table
from runner.planning.problems import ProblemGroups
from runner.planning.repositories import without_nulls
from runner.spec.document import echo
from runner.spec.json_limits import MAX_ITEM, text_fault


class Source(Protocol):
    """Everything an operation could run for, in order, before anything is skipped."""

    def __len__(self) -> int: ...

    def contexts(self, base: Data, chosen: Iterable[int]) -> Iterator[tuple[str, Data]]:
        """Name and rendering context of each chosen item; the context is reused, not kept."""

    def skips(self, index: int, context: Data, operation: str) -> str | None:
        """Why the item leaves out the operation, or None."""


@dataclass(frozen=True, slots=True)
class RepositorySource:
    rows: Repositories
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def contexts(self, base: Data, chosen: Iterable[int]) -> Iterator[tuple[str, Data]]:
        rows, order, workspaces = self.rows, self.order, dict[str, Data]()
        context = dict(base)
        for index in chosen:
            row = rows[order[index]]
            context["repo"] = row
            workspace = row.get("workspace")
            if workspace is not None:
                context["workspace"] = workspaces.setdefault(workspace, {"id": workspace})
            else:
                context.pop("workspace", None)
            yield row["repo"], context

    def skips(self, index: int, context: Data, operation: str) -> str | None:  # noqa: ARG002
        skip = context["repo"].get("skip")
        return "skipped by the repository" if skip and operation in skip else None


@dataclass(frozen=True, slots=True)
class Workspaces:
    """The workspaces of the repositories, in the order of each one's first repository."""

    rows: Repositories
    members: Mapping[str, array[int]]
    skipping: Mapping[str, Mapping[str, int]]  # workspace -> operation -> how many skip it
    homeless: int  # repositories that belong to no workspace
    names: tuple[str, ...]
    found: Sequence[Mapping[Json, Data]] = ()  # by lookups, by workspace

    def __len__(self) -> int:
        return len(self.names)

    def contexts(self, base: Data, chosen: Iterable[int]) -> Iterator[tuple[str, Data]]:
        context = dict(base)
        for index in chosen:
            name = self.names[index]
            context["workspace"] = _Workspace(name, self)
            yield name, context

    def skips(self, index: int, context: Data, operation: str) -> str | None:  # noqa: ARG002
        name = self.names[index]
        count = self.skipping.get(name, {}).get(operation, 0)
        if count and count == len(self.members[name]):
            return "skipped by all of its repositories"
        return None


class _Workspace(dict[str, Json]):
    """`workspace` in templates: `id`, and `repos`, its repositories in order, made when read."""

    def __init__(self, name: str, workspaces: Workspaces) -> None:
        super().__init__()
        for found in workspaces.found:
            self.update(without_nulls(found.get(name, {})))
        self["id"] = name
        self._workspaces = workspaces
        self._repos: list[str] | None = None

    def __missing__(self, key: str) -> Json:
        if key != "repos":
            raise KeyError(key)
        if self._repos is None:
            members = self._workspaces.members.get(self["id"], ())
            self._repos = [self._workspaces.rows[index]["repo"] for index in members]
        return self._repos


@dataclass(frozen=True, slots=True)
class RowItems:
    """The rows of a query that have a name, and their names."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Json]]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def contexts(self, base: Data, chosen: Iterable[int]) -> Iterator[tuple[str, Data]]:
        context = dict(base)
        for index in chosen:
            context["row"] = dict(zip(self.columns, self.rows[index], strict=True))
            yield self.names[index], context

    def skips(self, index: int, context: Data, operation: str) -> str | None:  # noqa: ARG002
        return None


def row_items(
    plan: BackfillPlan, operation: str, table: Table, name: Payload
) -> tuple[RowItems, list[Problem]]:
    """The rows with what `name` calls each of them; a problem where it cannot."""
    groups = ProblemGroups(operation)
    rows, names = [], []
    for number, row in enumerate(table.rows, 1):
        values = dict(zip(table.columns, row, strict=True))
        context: Data = {"vars": plan.variables, "plan": plan.metadata, "row": values}
        which = f"row {number:,}"
        try:
            called = name(context)["item"]
        except ValueError:
            groups.add(which, partial(name.explain, context, which))
            continue
        if wrong := _no_name(called):
            groups.add(which, partial(_refused, name, f"the item of {which} {wrong}"))
            continue
        rows.append(row)
        names.append(str(called))
    return RowItems(table.columns, rows, names), groups.problems()


def _refused(name: Payload, message: str) -> Iterable[Problem]:
    return (name.problem(message),)


def _no_name(value: Json) -> str | None:
    if value is None or value == "":
        return "is empty"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"is {echo(value)}; expected text or a number"
    text = str(value)
    if len(text) > MAX_ITEM:
        return f"has {len(text):,} characters, more than {MAX_ITEM:,}"
    wrong = text_fault(text)
    return wrong and f"is {wrong}"


@dataclass(frozen=True, slots=True)
class Once:
    plan: str

    def __len__(self) -> int:
        return 1

    def contexts(self, base: Data, chosen: Iterable[int]) -> Iterator[tuple[str, Data]]:
        for _ in chosen:
            yield self.plan, dict(base)

    def skips(self, index: int, context: Data, operation: str) -> str | None:  # noqa: ARG002
        return None


def find_workspaces(plan: BackfillPlan, order: Sequence[int]) -> Workspaces:
    """The plan's own workspace counts where it lists no repositories at all."""
    members: dict[str, array[int]] = {}
    skipping: dict[str, dict[str, int]] = {}
    homeless = 0
    for index in order:
        row = plan.repositories[index]
        workspace = row.get("workspace")
        if workspace is None:
            homeless += 1
            continue
        members.setdefault(workspace, array("L")).append(index)
        for operation in dict.fromkeys(row.get("skip") or ()):
            counts = skipping.setdefault(workspace, {})
            counts[operation] = counts.get(operation, 0) + 1
    written = {entry: Data() for entry in plan.workspaces if isinstance(entry, str)}
    named = plan.found.workspaces or written
    for workspace in named:
        members.setdefault(workspace, array("L"))
    if not members and not homeless and plan.workspace is not None:
        members[plan.workspace] = array("L")
    found: list[Mapping[Json, Data]] = [
        plan.found.attributes[lookup.name]
        for lookup in plan.lookups
        if lookup.scope == "workspace" and lookup.name in plan.found.attributes
    ]
    names = tuple(members)
    found.append(named)
    return Workspaces(plan.repositories, members, skipping, homeless, names, found)
