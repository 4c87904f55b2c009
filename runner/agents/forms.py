"""The forms of what tools take and give, as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import UsageError
from runner.spec.schema import explain_contract, published

Schema = dict[str, Any]

# What jobs, servers and databases have written is called so wherever it stands; and the parts of
# documents that are our own words, whatever is called so in them.
_OF_OTHERS = frozenset({"message", "seen", "item", "items", "waiting", "reason", "notes", "unmet"})
_OURS = frozenset({"problems", "warnings", "policy", "operations"})


def text(about: str, **more: Any) -> Schema:
    return {"type": "string", "description": about, **more}


def number(about: str, **more: Any) -> Schema:
    return {"type": "integer", "minimum": 1, "description": about, **more}


def flag(about: str) -> Schema:
    return {"type": "boolean", "default": False, "description": about}


def texts(about: str, *choice: str) -> Schema:
    one: Schema = {"type": "string", **({"enum": list(choice)} if choice else {})}
    return {"anyOf": [one, {"type": "array", "items": one}], "description": about}


def arguments(required: tuple[str, ...], properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def refuse_unfit(schema: Schema, given: Mapping[str, Any]) -> None:
    """Raises `UsageError` for arguments that the schema does not allow."""
    for path, message, hint in explain_contract(schema, dict(given)):
        where = ".".join(map(str, path)) or "the arguments"
        raise UsageError(f"{where}: {message}", hint=hint)


def result(names: tuple[str, ...]) -> Schema:
    """Of a tool that gives one of the published documents; no `$id`, which clients hold to be one
    schema's own."""
    if len(names) == 1:
        schema = dict(published(names[0]))
        del schema["$id"]
        return schema
    forms: list[Schema] = []
    definitions: dict[str, Schema] = {}
    for name in names:
        schema = json.loads(
            json.dumps(published(name)).replace("#/definitions/", f"#/definitions/{name}.")
        )
        definitions |= {f"{name}.{key}": one for key, one in schema.pop("definitions", {}).items()}
        forms.append({key: schema[key] for key in schema if not key.startswith("$")})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "anyOf": forms,
        "definitions": definitions,
    }


def of_others(names: tuple[str, ...]) -> list[str]:
    """Where these documents hold what others have written."""
    found = (place for name in names for place in _places(published(name), published(name)))
    return list(dict.fromkeys(found))


def _places(schema: Mapping[str, Any], node: Mapping[str, Any], at: str = "") -> Iterator[str]:
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    for one in node.get("anyOf", ()):
        yield from _places(schema, one, at)
    if isinstance(node.get("items"), Mapping):
        yield from _places(schema, node["items"], f"{at}[]")
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from _places(schema, node["additionalProperties"], f"{at}.*")
    for name, inner in node.get("properties", {}).items():
        place = f"{at}.{name}" if at else name
        if name in _OF_OTHERS:
            yield f"{place}[]" if inner.get("type") == "array" else place
        elif name not in _OURS:
            yield from _places(schema, inner, place)
