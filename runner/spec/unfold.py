"""Bound how often a contract looks at one value through its references.

Each reference is short, but together they may be exponential: if thirty definitions each name the
next one twice, a validator looks at the last a thousand million times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.model import Json
from runner.spec.document import echo
from runner.spec.json_limits import MAX_DEPTH

MAX_LOOKS = 10_000  # schemas that one value of a payload is checked against
MAX_SCHEMAS = 10_000

_HERE_ONE = ("not", "if", "then", "else")
_HERE_LIST = ("allOf", "anyOf", "oneOf")
_HERE_MAP = ("dependentSchemas", "dependencies")
_ALL_BELOW = (
    *("additionalProperties", "additionalItems", "contains"),
    *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
)
_PATHS = "refer by a path within the contract, as in #/$defs/name"
_ANY = "\0"  # stands for any name
_OPEN = ("$dynamicRef", "$recursiveRef")


class TooMuch(ValueError):
    """The contract is too much work, or has references that cannot be followed."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def check_unfolding(schema: Json) -> None:
    """Raise `TooMuch` if a value may be checked against too many schemas."""
    unfolding = _Unfolding(schema)
    looks = unfolding.here(Counter({(): 1}))
    for _ in range(MAX_DEPTH):
        before, looks = looks, unfolding.below(looks)
        if looks in (before, Counter()):
            return


class _Unfolding:
    """Counts schemas, each identified by its place: a tuple of steps from the root."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.links: dict[Any, tuple[list[Any], dict[str, list[Any]]]] = {}

    def here(self, level: Counter[Any]) -> Counter[Any]:
        """Return all that a value is checked against, if it is checked against `level`."""
        looks: Counter[Any] = Counter()
        waiting = list(level.items())
        while waiting:
            place, count = waiting.pop()
            looks[place] += count
            if looks.total() > MAX_LOOKS or len(self.links) > MAX_SCHEMAS:
                raise TooMuch("its references and alternatives expand to too many schemas")
            waiting += [(other, count) for other in self._links(place)[0]]
        return looks

    def below(self, looks: Counter[Any]) -> Counter[Any]:
        """Return the most that a value within it is checked against. A member has one name, so
        what applies to other names costs it nothing."""
        named: dict[str, Counter[Any]] = {}
        for place, count in looks.items():
            for name, others in self._links(place)[1].items():
                for other in others:
                    named.setdefault(name, Counter())[other] += count
        of_all = named.pop(_ANY, Counter())
        most: Counter[Any] = Counter()
        for level in (*named.values(), Counter[Any]()):
            most |= self.here(level + of_all)
        return most

    def _links(self, place: Any) -> tuple[list[Any], dict[str, list[Any]]]:
        if place not in self.links:
            node: Any = self.root
            for step in place:
                node = node[step]
            plain = node if isinstance(node, dict) else {}
            self.links[place] = list(self._same(place, plain)), self._within(place, plain)
        return self.links[place]

    def _same(self, place: Any, node: dict[str, Any]) -> Iterator[Any]:
        if any(key in node for key in _OPEN):
            raise TooMuch("it has a dynamic reference", _PATHS)
        if isinstance(node.get("$ref"), str):
            yield self._target(node["$ref"])
        yield from ((*place, key) for key in _HERE_ONE if key in node)
        for key in _HERE_LIST:
            yield from ((*place, key, n) for n in range(len(node.get(key, ()))))
        for key in _HERE_MAP:
            members = node.get(key, {})
            yield from ((*place, key, name) for name, v in members.items() if isinstance(v, dict))

    def _within(self, place: Any, node: dict[str, Any]) -> dict[str, list[Any]]:
        """Return what members of the value are checked against, by their names."""
        found: dict[str, list[Any]] = {}
        for name in node.get("properties", {}):
            found[name] = [(*place, "properties", name)]
        every = [(*place, "patternProperties", name) for name in node.get("patternProperties", {})]
        for key in ("items", "prefixItems"):
            if isinstance(node.get(key), list):
                found |= {f"{n}": [(*place, key, n)] for n in range(len(node[key]))}
            elif key in node:
                every.append((*place, key))
        found[_ANY] = [*every, *((*place, key) for key in _ALL_BELOW if key in node)]
        return found

    def _target(self, ref: str) -> Any:
        if ref == "#":
            return ()
        if not ref.startswith("#/"):
            raise TooMuch(f"it refers to {echo(ref)}", _PATHS)
        node: Any = self.root
        place: list[Any] = []
        for step in ref[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            key: Any = int(name) if isinstance(node, list) and name.isdecimal() else name
            try:
                node = node[key]
            except (LookupError, TypeError):
                raise TooMuch(f"it refers to {echo(ref)}, which is not in it") from None
            place.append(key)
        return tuple(place)
