"""Convert whole numbers to int: JSON Schema allows 2.0 as an `integer`, which prints as 2.0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from runner.model import Json

_OTHERS = ("allOf", "anyOf", "oneOf")
_BRANCHES = ("if", "then", "else")
_HOLDS = (dict, list, float)


def made_whole(value: Json, schema: Json) -> Json:
    """Return `value` with an int wherever its schema allows an `integer` and no other number."""
    return _made(value, [schema], schema)


def _made(value: Json, nodes: Iterable[Json], root: Json) -> Json:
    alike = [one for node in nodes for one in _alike(node, root)]
    if isinstance(value, float):
        types = {name for node in alike for name in _types(node)}
        wanted = "integer" in types and "number" not in types
        return int(value) if wanted and value.is_integer() else value
    if not alike or not isinstance(value, dict | list):
        return value
    if isinstance(value, dict):
        return {
            key: _made(one, _of_key(alike, key), root) if isinstance(one, _HOLDS) else one
            for key, one in value.items()
        }
    items = [node["items"] for node in alike if "items" in node]
    return [_made(one, items, root) if isinstance(one, _HOLDS) else one for one in value]


def _alike(node: Json, root: Json) -> Iterator[dict[str, Any]]:
    """Yield all schemas that apply to the same value."""
    if not isinstance(node, dict):
        return
    yield node
    if "$ref" in node:
        found = root
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        yield from _alike(found, root)
    for key in _OTHERS:
        for other in node.get(key, ()):
            yield from _alike(other, root)
    for key in _BRANCHES:
        yield from _alike(node.get(key), root)


def _types(node: dict[str, Any]) -> list[str]:
    found = node.get("type", [])
    return [found] if isinstance(found, str) else found


def _of_key(alike: Iterable[dict[str, Any]], key: str) -> list[Json]:
    found = []
    for node in alike:
        own = node.get("properties", {})
        found.append(own[key] if key in own else node.get("additionalProperties"))
    return found
