"""The forms of what tools take and give, as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.errors import UsageError
from runner.spec.schema import explain_contract, published

Schema = dict[str, Any]

# Where a document holds what others have written: jobs, servers, databases.
OF_OTHERS: Mapping[str, tuple[str, ...]] = {
    "run.v1": ("failures[].message", "checks[].message", "checks[].seen", "notes[]"),
    "status.v1": ("failures[].message", "checks[].message", "reason", "stages[].waiting"),
    "events.v1": ("events[].message",),
    "logs.v1": ("entries[].message",),
    "runs.v1": ("runs[].reason",),
    "check.v1": ("checks[].message", "checks[].seen", "unmet[]"),
    "coverage.v1": ("coverage.*.items[].item",),
    "doctor.v1": ("findings[].message",),
    "execution-plan.v1": ("stages[].items[]", "skipped[].item"),
    "diff.v1": ("changes[].items[]",),
}


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
    return list(dict.fromkeys(place for name in names for place in OF_OTHERS.get(name, ())))
