"""A plan document checked against its schema: what later steps can rely on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from runner.model import Data, Json, Problem, frozen
from runner.spec.document import Document, Path
from runner.spec.schema import check, published, typed


@frozen
class PlanDocument:
    """`value`: the document's, without what failed, so that the rest can still be checked."""

    document: Document
    value: Data
    problems: tuple[Problem, ...]
    pruned: frozenset[str]  # top-level keys from which something was removed

    def uses(self) -> Iterator[tuple[Path, Data]]:
        """Yield the entries of `operations` as mappings, with their places."""
        for index, entry in enumerate(self.value.get("operations", ())):
            use = {"use": entry} if isinstance(entry, str) else entry
            if use and "use" in use:
                yield ("operations", index), use

    def used(self) -> list[str]:
        """Return the names of its operations, including skipped ones."""
        return list(dict.fromkeys(use["use"] for _, use in self.uses()))

    def names(self, key: str) -> Iterator[tuple[Path, str]]:
        """Yield the entries of `skip` or `only`, with their places."""
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
    if "metadata" in value:
        value = {**value, "metadata": in_order(value["metadata"], keys_of("metadata"))}
    pruned = frozenset(str(path[0]) for path in wrong if path)
    return PlanDocument(document, value, tuple(problems), pruned)


@cache
def keys_of(name: str) -> tuple[str, ...]:
    """Return the keys of a plan's mapping that the schema names, in its order."""
    schema = published("plan.v1")
    return tuple({**schema["properties"], **schema["definitions"]}[name]["properties"])


def in_order(value: Data, keys: Iterable[str]) -> Data:
    """Put `keys` first, as `backfill format` does: templates may read the mapping whole, and the
    digest of a plan must not depend on how it is formatted."""
    return {**{key: value[key] for key in keys if key in value}, **value}


def _whole(path: Path) -> Path:
    """Widen the path to a whole question, guard, delay, age or approval, which cannot be used in
    part."""
    if path[0] == "approval":
        return path[:1]
    for word in ("delay", "age"):
        if word in path[:3] and path[0] in (word, "operations", "filter"):
            return path[: path.index(word) + 1]
    if path[0] in ("checks", "lookups", "coverage", "workspaces", "guards"):
        return path[:2]
    if path[0] == "operations" and path[2:3] == ("until",):
        return path[:3]
    return path[:2] if path[0] == "repos" and path[2:3] == ("query",) else path


def _without(value: Json, paths: Iterable[Path]) -> Any:
    """Remove what is at `paths`; a removed list entry becomes None, so that indexes stay valid."""
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
