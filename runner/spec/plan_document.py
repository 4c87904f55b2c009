"""A plan document checked against its schema: what later steps may rely on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from runner.model import Data, Json, Problem, frozen
from runner.spec.document import Document, Path
from runner.spec.schema import check, typed


@frozen
class PlanDocument:
    """`value` is the document's without what failed, so that the rest can still be checked."""

    document: Document
    value: Data
    problems: tuple[Problem, ...]
    pruned: frozenset[str]  # the top-level keys of which something was taken out

    def uses(self) -> Iterator[tuple[Path, Data]]:
        """The entries of `operations`, each as a mapping, and where it is written."""
        for index, entry in enumerate(self.value.get("operations", ())):
            use = {"use": entry} if isinstance(entry, str) else entry
            if use and "use" in use:
                yield ("operations", index), use

    def used(self) -> list[str]:
        """The names of its operations, whether it skips them or not."""
        return list(dict.fromkeys(use["use"] for _, use in self.uses()))

    def names(self, key: str) -> Iterator[tuple[Path, str]]:
        """The entries of `skip` or `only`, and where each is written."""
        for index, name in enumerate(self.value.get(key, ())):
            if name is not None:
                yield (key, index), name

    def error(self, message: str, path: Path, **more: Any) -> Problem:
        return self.document.problem(message, path, **more)

    def warning(self, message: str, path: Path, **more: Any) -> Problem:
        return self.document.problem(message, path, severity="warning", **more)


def check_plan(document: Document) -> PlanDocument:
    document = typed(document, "plan.v1")
    problems, wrong = check(document, "plan.v1")
    value = {} if () in wrong else _without(document.value, map(_whole, wrong))
    pruned = frozenset(str(path[0]) for path in wrong if path)
    return PlanDocument(document, value, tuple(problems), pruned)


def _whole(path: Path) -> Path:
    """A question, a guard and an approval are used as a whole, or not at all."""
    if path[0] == "approval":
        return path[:1]
    if path[0] in ("checks", "lookups", "coverage", "workspaces", "guards"):
        return path[:2]
    if path[0] == "operations" and path[2:3] == ("until",):
        return path[:3]
    return path[:2] if path[0] == "repos" and path[2:3] == ("query",) else path


def _without(value: Json, paths: Iterable[Path]) -> Any:
    """`value` without what is at `paths`; an entry of a list leaves None, so that indexes hold."""
    below: dict[str | int, list[Path]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    gone = {step for step, rests in below.items() if not all(rests)}
    if isinstance(value, dict) and below:
        return {k: _without(v, below.get(k, ())) for k, v in value.items() if k not in gone}
    if isinstance(value, list) and below:
        return [
            None if n in gone else _without(entry, below.get(n, ()))
            for n, entry in enumerate(value)
        ]
    return value
