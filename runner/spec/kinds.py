"""The kinds of items: repositories, workspaces, and those of a plan's own collections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from runner.model import Data, ForEach, Json, Payload, Problem, Question
from runner.spec.document import did_you_mean, echo
from runner.spec.json_limits import MAX_ITEM, MAX_NAME, text_fault
from runner.spec.rows import Fault, without_nulls
from runner.spec.schema import check_row
from runner.spec.units import PRIORITIES

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+\Z")


@dataclass(frozen=True, slots=True)
class RepositoryKind:
    """`workspace` is that of the rows that name none."""

    workspace: str | None = None
    for_each: ForEach = "repo"
    called: str = "repository"
    parameter: str = "repos"
    skipping: str = "skipped by the repository"
    column: str | None = "repo"
    text_columns: frozenset[str] = frozenset({"repo", "workspace", "priority", "owner", "name"})
    selects_some: bool = True

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

    def named(self, name: Json) -> Data:
        return {"repo": name}

    def complete(self, row: Data) -> Data:
        """With `owner` and `name` taken from `repo`, and the default workspace."""
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
        attributes = self.complete(without_nulls(row))
        wrong = [*self.faults(attributes)]
        if not wrong:
            return attributes, None
        message = f"the query gives a row that is no repository: {wrong[0].message}"
        hint = wrong[0].hint or "name the column that has owner/name: `select full_name as repo`"
        return attributes, replace(question.place, message=message, hint=hint)


@dataclass(frozen=True, slots=True)
class WorkspaceKind:
    for_each: ForEach = "workspace"
    called: str = "workspace"
    parameter: str = "workspaces"
    skipping: str = "skipped by all of its repositories"
    column: str | None = None
    text_columns: frozenset[str] = frozenset()
    selects_some: bool = True

    def name_of(self, row: Data) -> str:
        name: str = row["id"]
        return name

    def show(self, row: Data, context: Data) -> None:
        context["workspace"] = row

    def named(self, name: Json) -> Data:
        return {"id": name}

    def complete(self, row: Data) -> Data:
        return row

    def faults(self, row: Data) -> Iterable[Fault]:  # noqa: ARG002 - the plan's schema has said it
        return ()

    cell_faults = faults

    def selected(self, row: Data, question: Question) -> tuple[Data, Problem | None]:
        attributes = without_nulls(row)
        if "workspace" in attributes:
            return {**attributes, "id": str(attributes["workspace"])}, None
        message = "the query gives a row without `workspace`"
        hint = "name the column that has its id: `select id as workspace`"
        return attributes, replace(question.place, message=message, hint=hint)


@dataclass(frozen=True, slots=True)
class OnceKind:
    """The plan itself."""

    plan: str
    for_each: ForEach = "once"
    called: str = "plan"
    parameter: str = "once"
    skipping: str = ""

    def name_of(self, row: Data) -> str:  # noqa: ARG002
        return self.plan

    def show(self, row: Data, context: Data) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnKind:
    """Items of the plan's own: `item` names each, as a template over `row` and what is `shared`."""

    item: Payload
    shared: Mapping[str, Json] = field(default_factory=dict)
    for_each: ForEach = "row"
    called: str = "item"
    parameter: str = "items"
    skipping: str = "skipped by the item"
    column: str | None = None
    text_columns: frozenset[str] = frozenset({"priority"})
    selects_some: bool = False

    def name_of(self, row: Data) -> str:
        return str(self.item({**self.shared, "row": row})["item"])

    def show(self, row: Data, context: Data) -> None:
        context["row"] = row

    def named(self, name: Json) -> Data:
        return {"name": name}

    def complete(self, row: Data) -> Data:
        return row

    def faults(self, row: Data) -> Iterable[Fault]:
        """Those of its name: at the template where that is at fault."""
        context = {**self.shared, "row": row}
        try:
            name = self.item(context)["item"]
        except ValueError:
            which = "the row"
            return [
                Fault((), found.message, found.hint, found)
                for found in self.item.explain(context, which)
            ]
        if wrong := _no_name(name):
            message = f"the item of the row {wrong}"
            return [Fault((), message, origin=self.item.problem(message))]
        return ()

    cell_faults = faults

    def selected(self, row: Data, question: Question) -> tuple[Data, Problem | None]:  # noqa: ARG002
        return row, None


REPOSITORY, WORKSPACE = RepositoryKind(), WorkspaceKind()


def _no_priority(priority: str) -> Fault:
    message = f"the priority {echo(priority)} is not one of {', '.join(PRIORITIES)}"
    return Fault(("priority",), message, did_you_mean(priority, PRIORITIES))


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
