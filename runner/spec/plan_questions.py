"""The questions of a plan and its catalogs together: which of them hold, and which are used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.model import (
    CheckSpec,
    Coverage,
    Data,
    ForEach,
    Lookup,
    Narrowing,
    Operation,
    Problem,
    Question,
)
from runner.spec.catalog import Catalog
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import Asking
from runner.spec.units import parse_duration


@dataclass(slots=True)
class Askings:
    """One `Asking` a document; a plan's lookups and coverage go over a catalog's of that name."""

    checked: PlanDocument
    catalog: Catalog
    variables: Collection[str]
    own: Collection[str] = ()  # the plan's own collections
    lookups: dict[str, Lookup] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    _by_path: dict[str, Asking] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for document in reversed(self.catalog.documents):
            written = document.value.get("lookups", {})
            self.lookups |= self.of(document).lookups(written, ("lookups",))
        plan = self.checked
        written = plan.value.get("lookups", {})
        self.lookups |= self.of(plan.document).lookups(written, ("lookups",))

    @property
    def problems(self) -> list[Problem]:
        return [problem for asking in self._by_path.values() for problem in asking.problems]

    def of(self, document: Document) -> Asking:
        if document.path not in self._by_path:
            self._by_path[document.path] = Asking(document, self.variables, self.own)
        return self._by_path[document.path]

    def checks(
        self, operations: Mapping[str, Operation], uses: Mapping[str, Data]
    ) -> Iterator[CheckSpec]:
        """The plan's own, and those of the catalog for the operations that it `uses` (each as it is
        written there), but for those that it takes back."""
        for name, use in uses.items():
            entry = self.catalog[name]
            for index, written in enumerate(entry.spec.get("checks", ())):
                if written["name"] in use.get("checks", {}):
                    continue
                path = ("operations", name, "checks", index)
                of = operations[name].for_each
                yield self._once(entry.document, written, path, name, of)
        asking = self.of(self.checked.document)
        for index, written in enumerate(self.checked.value.get("checks", ())):
            if written is None:
                continue
            after = written.get("after")
            if after is not None and after not in operations:
                hint = did_you_mean(after, operations) or f"it runs: {', '.join(operations)}"
                message = f"the check comes after {echo(after)}, which this plan does not run"
                place = ("checks", index, "after")
                asking.problems.append(self.checked.error(message, place, hint=hint))
            runs_for = operations[after].for_each if after in operations else None
            yield self._once(self.checked.document, written, ("checks", index), None, runs_for)

    def _once(
        self,
        document: Document,
        written: Data,
        path: Path,
        operation: str | None,
        runs_for: ForEach | None,
    ) -> CheckSpec:
        """Results are kept by name: a second check of that name would never be asked."""
        asking, name = self.of(document), written["name"]
        if name in self._named:
            message = f"two checks are called {echo(name)}"
            hint = "give one of them another name"
            asking.problems.append(document.problem(message, (*path, "name"), hint=hint))
        self._named.add(name)
        return asking.check(written, path, operation, runs_for)

    def coverage(self) -> tuple[Coverage, ...]:
        documents = [*reversed(self.catalog.documents), self.checked.document]
        found: dict[str, Coverage] = {}
        for document in documents:
            value = self.checked.value if document is self.checked.document else document.value
            written = value.get("coverage", {})
            for name in [name for name, asked in written.items() if asked is False]:
                if found.pop(name, None) is None:
                    message = f"the catalog has no coverage {echo(name)} to take back"
                    hint = did_you_mean(name, found) or f"it has: {', '.join(found) or 'none'}"
                    place = ("coverage", name)
                    problem = self.checked.error(message, place, key=True, hint=hint)
                    self.of(document).problems.append(problem)
            asked = {name: one for name, one in written.items() if one is not False}
            for one in self.of(document).coverage(asked, ("coverage",)):
                found[one.name] = one
        return tuple(found.values())

    def workspace_repos(self) -> Question | None:
        for document in self.catalog.documents:
            if "workspace_repos" in document.value:
                written = document.value["workspace_repos"]
                return self.of(document).question(written, ("workspace_repos",), ("workspace",))
        return None


def narrowing(checked: PlanDocument) -> dict[ForEach, Narrowing]:
    """A plan's `filter`, by what the items are."""
    written: Data = checked.value.get("filter", {})
    found: dict[ForEach, Narrowing] = {}

    def place(name: str) -> Problem:
        return checked.warning("", ("filter", name), key=True, rule="filter")

    if written.get("repo") or written.get("age"):
        at = place("repo" if written.get("repo") else "age")
        found["repo"] = _narrowing(written.get("repo"), written.get("age"), at)
    for name, own in written.items():
        if name not in ("repo", "age") and own:
            globs, age = (own.get("item"), own.get("age")) if isinstance(own, dict) else (own, None)
            found[name] = _narrowing(globs, age, place(name))
    return found


def _narrowing(globs: str | Sequence[str] | None, age: Data | None, place: Problem) -> Narrowing:
    globs = globs or ()
    found = Narrowing((globs,) if isinstance(globs, str) else tuple(globs), place=place)
    if not age:
        return found
    newer, older = (
        parse_duration(age[key]) if key in age else None for key in ("newer_than", "older_than")
    )
    return replace(found, column=age["of"], newer_than=newer, older_than=older)
