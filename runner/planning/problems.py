"""What is wrong with an operation's items, by kind: one problem for the items that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from runner.model import Data, Json, Lookup, Problem
from runner.spec.collections import with_others
from runner.spec.units import counted

MAX_EXPLAINED = 100  # items whose faults are explained; the others are counted


@dataclass(slots=True)
class ProblemGroups:
    """Ten thousand items with the same fault are one problem, not ten thousand."""

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
            kind = replace(problem, message=problem.message.replace(item, ""))
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


_NAMED = 1_000  # items that are listed by name

_HINTS = {
    "finds more than one row for": "make the query give one row for each key",
    "finds nothing for": "names are compared letter by letter: add them there, or skip them here",
}
_NULL_HINT = "fill in the data, or name the columns that must not be NULL: `required: [id]`"
_BLIND = (
    "it finds nothing at all: may this role read the table? Row-level security hides rows "
    "without an error"
)


@dataclass(slots=True)
class LookupErrors:
    lookup: Lookup
    found: Mapping[Json, Data]
    ambiguous: frozenset[Json]
    items: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self, item: str, context: Data) -> bool:
        """Is what the item needs not there? It is noted then."""
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
            hint = _HINTS.get(why, _NULL_HINT) if self.found else _BLIND
            if why.startswith("goes by"):
                hint = "`key` is an attribute of the items, and a column of that name in the answer"
            yield replace(self.lookup.question.place, message=message, hint=hint, rule="lookup")

    def _why(self, key: Json) -> str | None:
        if key in self.ambiguous:
            return "finds more than one row for"
        if self.lookup.required is None:
            return None
        if key is None:
            return f"goes by `{self.lookup.key}`, which is missing for"
        row = self.found.get(key)
        if row is None:
            return "finds nothing for"
        columns = self.lookup.required or tuple(row)
        null = next((name for name in columns if row.get(name) is None), None)
        return f"finds no `{null}` (it is NULL) for" if null else None
