"""Word JSON Schema findings for the person who wrote the file."""

from __future__ import annotations

import json
from typing import Any

from runner.model import Json
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.units import counted, format_duration

_KINDS = {
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}

_SHOWN = ("type", "pattern", "not", "minimum", "maximum", "minItems")  # by the schema's examples
_LISTED = 30  # allowed values, at most


def message_of(error: Any) -> str:
    """Return the message of a finding."""
    value, rule, wanted = error.instance, error.validator, error.validator_value
    path = tuple(error.absolute_path)
    if rule == "required":
        missing = [f"`{key}`" for key in wanted if key not in value]
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if rule == "type":
        return f"{_subject(path)} is {kind_of(value)}; expected {_kinds(wanted, error.schema)}"
    if rule == "not" and path and path[-1] in ("owner", "name"):
        return f"`{path[-1]}` is not written by hand: it comes from `repo`"
    if rule in ("pattern", "not") and "description" in error.schema:
        return f"{echo(value)} is not {_name(error.schema['description'])}"
    if rule in ("minItems", "minProperties", "minLength") and not value:
        return f"{_subject(path)} is empty"
    if rule == "minProperties":
        lacking = [key for key in error.schema.get("properties", {}) if key not in value]
        return f"{_subject(path)} needs one more key, such as {', '.join(map(echo, lacking))}"
    if rule == "oneOf":  # keys that exclude each other
        if kept := _written_of(wanted, value):
            return f"{' and '.join(map(echo, kept))} exclude each other"
        return f"{_subject(path)} needs {' or '.join(map(echo, _named(wanted)))}"
    if rule == "uniqueItems":
        return f"{_subject(path)} has an entry twice"
    tail = _tail(rule, wanted)
    return f"{subject_of(path, value)}{tail}" if tail else str(error.message)[:200]


def _tail(rule: str, wanted: Json) -> str | None:
    """Say what a value should have been, if one sentence fits all."""
    match rule:
        case "enum":
            more = ", …" if len(wanted) > _LISTED else ""
            return f"; expected one of {', '.join(map(str, wanted[:_LISTED]))}{more}"
        case "const":
            return f"; expected {wanted}"
        case "pattern":
            return f", which does not match {echo(wanted)}"
        case "maxLength":
            return f"; at most {counted(wanted, 'character', 'are')} allowed"
        case "minimum":
            return f"; at least {wanted:,} is allowed"
        case "maximum":
            return f"; at most {wanted:,} is allowed"
        case "anyOf":
            return ", which is not allowed here"
    return None


def hint_of(error: Any) -> str | None:
    value, rule, wanted, schema = (
        error.instance,
        error.validator,
        error.validator_value,
        error.schema,
    )
    if rule == "enum" and isinstance(value, str):
        return did_you_mean(value, [word for word in wanted if isinstance(word, str)])
    if rule == "required":
        key = next(key for key in wanted if key not in value)
        return _example(key, schema.get("properties", {}).get(key, {}))
    if rule == "oneOf":
        if _written_of(wanted, value):
            return "leave one of them out"
        first = _named(wanted)[0]
        return _example(first, schema["properties"][first])
    if rule == "type" and "string" in wanted:
        return _as_text(value, wanted, schema)
    if rule == "type" and wanted == "integer" and isinstance(value, str) and value.isdecimal():
        return f"write it without quotes: {int(value)}" if len(value) < 20 else None
    if rule == "type" and wanted == "array" and isinstance(value, str):
        return f"write it as a list: [{value[:60]}]"
    if rule in ("type", "pattern", "not", "minimum", "maximum", "minItems") and schema.get(
        "examples"
    ):
        return f"write it like {', '.join(map(_written, schema['examples'][:3]))}"
    return None


def _named(wanted: Any) -> list[str]:
    """Return the keys of which one is needed."""
    return [key for one in wanted for key in one["required"]]


def _written_of(wanted: Any, value: Json) -> list[str]:
    return [key for key in _named(wanted) if isinstance(value, dict) and key in value]


def _as_text(value: Json, wanted: Json, schema: Json) -> str | None:
    """Say how to write a value that should have been text."""
    if isinstance(value, float) and "integer" in wanted:
        return 'quote it as it is written, as in "1.10"'
    if isinstance(value, bool):
        return f'quote it: "{str(value).lower()}"'
    if not isinstance(value, int | float):
        return None
    if "duration" in str(schema.get("description", "")).lower() and value >= 0:
        return f"write it with a unit: {format_duration(float(value))}"
    return f'quote it: "{value}"'


def subject_of(path: Path, value: Json) -> str:
    """Say which value it is, and what it is."""
    return f"{_subject(path)} is {echo(value) if isinstance(value, str) else kind_of(value)}"


def kind_of(value: Json) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the string {echo(value)}"
    if isinstance(value, int | float):
        return f"the number {echo(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def _kinds(wanted: str | list[str], schema: Json) -> str:
    if "duration" in str(schema.get("description", "")):
        return "a duration"
    return " or ".join(_KINDS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _subject(path: Path) -> str:
    if not path:
        return "the value"
    if isinstance(path[-1], str):
        return echo(path[-1])
    names = [step for step in path if isinstance(step, str)]
    return f"an entry of {echo(names[-1])}" if names else "the entry"


def _example(key: str, schema: Json) -> str | None:
    if "const" in schema:
        return f"add `{key}: {schema['const']}`"
    examples = schema.get("examples")
    return f"add `{key}: {_written(examples[0])}`" if examples else None


def _written(example: Json) -> str:
    return example if isinstance(example, str) else json.dumps(example)


def _name(description: str) -> str:
    """Return the noun that a schema's description begins with."""
    text = description.split(":")[0].split(". ")[0].split(";")[0].rstrip(".")
    return text[0].lower() + text[1:]
