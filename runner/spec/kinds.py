"""The kinds of items: repositories, workspaces, and those of a plan's own collections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import ClassVar, Protocol

from runner.model import Data, ForEach, Json, Kind, Payload, Problem, Question, frozen
from runner.spec.document import did_you_mean, echo
from runner.spec.json_limits import MAX_ITEM, MAX_NAME, stored_fault
from runner.spec.rows import LEAVING, NAMING, Fault, FoundRow, answered_row
from runner.spec.schema import check_row
from runner.spec.units import PRIORITIES

_THE_ROW = "the row"  # in messages about a row without a place
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+\Z")


@frozen
class RepositoryKind:
    """`workspace`: the default for rows that name none."""

    workspace: str | None = None
    for_each: ForEach = "repo"
    called: str = "repository"
    parameter: str = "repos"
    parts: ClassVar[Mapping[str, Kind]] = {}
    several: str = "repositories"
    example: str = "- owner/name"
    column: str | None = "repo"
    text_columns: frozenset[str] = frozenset({"repo", "workspace", "priority", "owner", "name"})
    selects_some: bool = True
    unique: bool = True

    def name_of(self, row: Data) -> str:
        name: str = row["repo"]
        return name

    def show(self, row: Data, context: Data) -> None:
        context["repo"] = row
        workspace = row.get("workspace")
        if workspace is not None:
            context["workspace"] = {"id": workspace}
        else:
            context.pop("workspace", None)

    def same(self, name: str) -> str:
        """Return a key that is equal for names of the same repository: GitHub ignores case."""
        return name.lower()

    def named(self, name: Json) -> Data:
        return {"repo": name}

    def complete(self, row: Data) -> Data:
        """Add `owner` and `name`, taken from `repo`, and the default workspace."""
        repo = row.get("repo")
        if type(repo) is str:
            row["owner"], _, row["name"] = repo.partition("/")
        if self.workspace is not None:
            row.setdefault("workspace", self.workspace)
        return row

    def faults(self, row: Data) -> Iterable[Fault]:
        for path, message, hint in check_row(row):
            yield Fault(path, message, hint)

    def cell_faults(self, row: Data) -> Iterable[Fault]:
        repo, priority = row.get("repo", ""), row.get("priority")
        faults = []
        if not _NAME.match(repo):
            message = f"{echo(repo)} is not a repository" if repo else "`repo` is empty"
            faults.append(Fault(("repo",), message, "write it as owner/name"))
        for column in ("repo", "workspace"):
            if len(row.get(column) or "") > MAX_NAME:
                message = f"`{column}` has more than {MAX_NAME} characters"
                faults.append(Fault((column,), message))
        if priority is not None and priority not in PRIORITIES:
            faults.append(_no_priority(priority))
        if type(row.get("velocity")) is str:
            message = f"the velocity {echo(row['velocity'])} is not a number"
            faults.append(Fault(("velocity",), message))
        return faults

    def selected(self, row: Data, question: Question) -> tuple[Data, Problem | None]:
        attributes = self.complete(answered_row(row))
        wrong = [*self.faults(attributes)]
        if not wrong:
            return attributes, None
        message = f"the query gives a row that is not a repository: {wrong[0].message}"
        hint = wrong[0].hint or _OTHERWISE
        if hint.startswith("quote it"):  # as in a file
            hint = "cast it: `cast(COLUMN as text)`"
        elif "repo" in wrong[0].path or "repo" not in attributes:
            hint = (
                wrong[0].hint or "name the column that has owner/name: `select full_name as repo`"
            )
        return attributes, replace(question.place, message=message, hint=hint)


@frozen
class WorkspaceKind:
    for_each: ForEach = "workspace"
    called: str = "workspace"
    parameter: str = "workspaces"
    parts: ClassVar[Mapping[str, Kind]] = {}
    several: str = "workspaces"
    example: str = "- id"
    column: str | None = None
    text_columns: frozenset[str] = frozenset()
    selects_some: bool = True
    unique: bool = True

    def name_of(self, row: Data) -> str:
        name: str = row["id"]
        return name

    def show(self, row: Data, context: Data) -> None:
        context["workspace"] = row

    def same(self, name: str) -> str:
        return name

    def named(self, name: Json) -> Data:
        return {"id": name}

    def complete(self, row: Data) -> Data:
        return row

    def faults(self, row: Data) -> Iterable[Fault]:  # noqa: ARG002 - the plan's schema checks it
        return ()

    cell_faults = faults

    def selected(self, row: Data, question: Question) -> tuple[Data, Problem | None]:
        attributes = answered_row(row)
        if "workspace" not in attributes:
            message = "the query gives a row without `workspace`"
        elif wrong := name_fault(attributes["workspace"]):
            message = f"the query gives a row that is not a workspace: `workspace` {wrong}"
        else:
            name = str(attributes["workspace"])
            for fault in _leaving_faults(attributes):
                message = f"the query gives a wrong row for {name}: {fault.message}"
                return attributes, replace(question.place, message=message, hint=fault.hint)
            return {**attributes, "id": name}, None
        hint = "name the column that has its id: `select id as workspace`"
        return attributes, replace(question.place, message=message, hint=hint)


@frozen
class OnceKind:
    """The plan itself."""

    plan: str
    for_each: ForEach = "once"
    called: str = "plan"
    parameter: str = "once"
    parts: ClassVar[Mapping[str, Kind]] = {}

    def name_of(self, row: Data) -> str:  # noqa: ARG002
        return self.plan

    def same(self, name: str) -> str:
        return name

    def show(self, row: Data, context: Data) -> None: ...


class Naming(Protocol):
    """How the items of a collection are named."""

    def __call__(self, row: Data, /) -> Json:
        """Return the item's name. Raises `ValueError` if it has none."""

    def explain(self, row: Data, /) -> Iterable[Fault]:
        """Yield why the item has no name."""

    def refused(self, message: str, /) -> Fault: ...


@frozen
class ByTemplate:
    """By a template over `row` and the `shared` values; faults are placed at the template."""

    item: Payload
    shared: Mapping[str, Json]

    def __call__(self, row: Data) -> Json:
        return self.item({**self.shared, "row": row})["item"]

    def explain(self, row: Data) -> Iterable[Fault]:
        for found in self.item.explain({**self.shared, "row": row}, _THE_ROW):
            yield Fault((), found.message, found.hint, found)

    def refused(self, message: str) -> Fault:
        return Fault((), message, origin=self.item.problem(message))


@frozen
class ByKey:
    """By the first of these keys that a row has."""

    keys: tuple[str, ...] = NAMING

    def __call__(self, row: Data) -> Json:
        for key in self.keys:
            if row.get(key) is not None:
                return row[key]
        raise ValueError

    def explain(self, row: Data) -> Iterable[Fault]:  # noqa: ARG002
        named = ", ".join(f"`{key}`" for key in self.keys)
        hint = 'name it: add `item: "{{ row.KEY }}"` beside the file, query or list'
        yield Fault((), f"the item has no name: {_THE_ROW} has none of {named}", hint)

    def refused(self, message: str) -> Fault:
        return Fault((), message)


def name_of_part(kind: Kind, cell: Json) -> str:
    """Return the name of a product's part: its cell is the name, or the part's own row."""
    return cell if isinstance(cell, str) else kind.name_of(cell)


@frozen
class ByParts:
    """By the names of a product's parts, as in ``acme/2026-01-01``."""

    parts: Mapping[str, Kind]

    def __call__(self, row: Data) -> Json:
        return "/".join(name_of_part(kind, row[name]) for name, kind in self.parts.items())

    def explain(self, row: Data) -> Iterable[Fault]:  # noqa: ARG002 - the parts have reported it
        return ()

    def refused(self, message: str) -> Fault:
        return Fault((), message)


@frozen
class OwnKind:
    """Items of a plan's own collection, or of an operation's own query."""

    naming: Naming
    for_each: ForEach = "row"
    called: str = "item"
    parts: Mapping[str, Kind] = field(default_factory=dict)
    several: str = "items"
    example: str = "- {name: x}"
    column: str | None = None
    text_columns: frozenset[str] = frozenset()
    selects_some: bool = False
    unique: bool = False

    @property
    def parameter(self) -> str:
        return self.for_each

    def name_of(self, row: Data) -> str:
        return str(self.naming(row.written if type(row) is FoundRow else row))

    def show(self, row: Data, context: Data) -> None:
        context["row"] = row

    def same(self, name: str) -> str:
        return name

    def named(self, name: Json) -> Data:
        return {"name": name}

    def complete(self, row: Data) -> Data:
        return row

    def faults(self, row: Data) -> Iterable[Fault]:
        try:
            name = self.naming(row)
        except ValueError:
            return [*self.naming.explain(row)]
        if wrong := name_fault(name):
            return [self.naming.refused(f"the item of {_THE_ROW} {wrong}")]
        return self._attribute_faults(row) if row.keys() & _OWN_ATTRIBUTES else ()

    cell_faults = faults

    def _attribute_faults(self, row: Data) -> Iterable[Fault]:
        priority = row.get("priority")
        if self.unique:
            yield from _leaving_faults(row)
        if self.unique and isinstance(priority, str) and priority not in PRIORITIES:
            yield _no_priority(priority)

    def selected(self, row: Data, question: Question) -> tuple[Data, Problem | None]:  # noqa: ARG002
        return answered_row(row), None


REPOSITORY, WORKSPACE = RepositoryKind(), WorkspaceKind()
_OWN_ATTRIBUTES = {*LEAVING, "priority"}


_OTHERWISE = "leave the row out, or select another value"


def _leaving_faults(row: Data) -> Iterator[Fault]:
    for key in LEAVING:
        names = row.get(key, [])
        if not (isinstance(names, list) and all(type(n) is str for n in names)):
            message = f"`{key}` is {echo(names)}; expected a list of operations"
            yield Fault((key,), message, f"{key}: [embeddings]")


def _no_priority(priority: str) -> Fault:
    message = f"the priority {echo(priority)} is not one of {', '.join(PRIORITIES)}"
    return Fault(("priority",), message, did_you_mean(priority, PRIORITIES))


def name_fault(value: Json) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "is empty"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"is {echo(value)}; expected text or a number"
    text = str(value)
    if len(text) > MAX_ITEM:
        return f"has {len(text):,} characters, more than {MAX_ITEM:,}"
    wrong = stored_fault(text)
    return wrong and f"is {wrong}"
