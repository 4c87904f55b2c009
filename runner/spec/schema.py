"""JSON Schema: a fast verdict first, an explanation in the user's words only where it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from runner.model import Json, Problem
from runner.spec.document import Document, Path, did_you_mean
from runner.spec.units import format_duration

if TYPE_CHECKING:
    from jsonschema import ValidationError

API_VERSION = "backfill/v1"
SCHEMAS = ("plan.v1", "catalog.v1", "execution-plan.v1")
_LONGEST_ECHO = 60


def schema_text(name: str) -> str:
    """A published schema; in a wheel it lies in the package, in a checkout at the top level."""
    packaged = files("runner") / "schemas" / f"{name}.schema.json"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    checkout = FilePath(__file__).parents[2] / "schemas" / f"{name}.schema.json"
    return checkout.read_text(encoding="utf-8")


def check(document: Document, name: str) -> tuple[Problem, ...]:
    """What the published schema `name` says against the document, best first."""
    return tuple(problem for problem, _ in check_with_paths(document, name))


def check_with_paths(document: Document, name: str) -> list[tuple[Problem, Path | None]]:
    """Problems, each with the path of the value that no later check may rely on (or None)."""
    if refusal := _version_problem(document):
        return [(refusal, ())]
    if _verdict(name)(document.value):
        return []
    found: list[tuple[Problem, Path | None]] = []
    for error in _errors(json.loads(schema_text(name)), document.value):
        found.extend(_explain(document, error))
    return found


def compile_schema(schema: Json) -> Callable[[Json], bool]:
    """A fast verdict; ValueError where `schema` is no JSON Schema or reaches outside itself."""
    import jsonschema_rs

    def refuse(uri: str) -> Json:
        raise ValueError(f"the schema refers to {uri}; only references within it are followed")

    validator = jsonschema_rs.validator_for(schema, retriever=refuse)
    return validator.is_valid


def explain_contract(schema: Json, data: Json) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Path into `data`, and what is wrong there."""
    for error in _errors(schema, data):
        yield tuple(error.absolute_path), _words(error)


@cache
def _verdict(name: str) -> Callable[[Json], bool]:
    return compile_schema(json.loads(schema_text(name)))


def _version_problem(document: Document) -> Problem | None:
    """The version is checked first: against another form, no other message would make sense."""
    value = document.value
    if not isinstance(value, dict):
        what = "empty" if value is None else f"{_kind(value)}"
        message = f"the file is {what}; expected keys such as apiVersion, kind and operations"
        return document.problem(message, hint="`backfill init` writes a first plan")
    version = value.get("apiVersion")
    if version in (None, API_VERSION):
        return None
    return document.problem(
        f"apiVersion is {_echo(version)}; this backfill reads {API_VERSION}",
        ("apiVersion",),
        hint=f"write `apiVersion: {API_VERSION}`, or install the version that reads it",
    )


def _errors(schema: Json, value: Json) -> Iterator[ValidationError]:
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator = validator_for(schema)(schema, registry=Registry())
    yield from sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))


def _explain(document: Document, error: ValidationError) -> Iterator[tuple[Problem, Path | None]]:
    path = tuple(error.absolute_path)
    if error.validator == "anyOf" and error.context:
        kinds = [member for member in error.context if member.validator != "type"]
        if kinds:
            yield from _explain(document, min(kinds, key=lambda member: -len(member.path)))
            return
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for key in [key for key in error.instance if key not in known]:
            hint = did_you_mean(key, known) or f"known here: {', '.join(known)}"
            problem = document.problem(
                f"unknown key `{key}`", (*path, key), key=True, hint=hint, rule="unknown-key"
            )
            yield problem, None
        return
    at_key = error.validator in ("required", "not") and bool(path)
    problem = document.problem(
        _words(error), path, key=at_key, hint=_hint(error), rule=str(error.validator)
    )
    yield problem, path


def _words(error: ValidationError) -> str:
    value, rule, wanted = error.instance, error.validator, error.validator_value
    where = f"`{error.path[-1]}`" if error.path and isinstance(error.path[-1], str) else "it"
    subject = where if where != "it" else "the value"
    if rule == "required":
        return f"{' and '.join(f'`{key}`' for key in wanted if key not in value)} is missing"
    if rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        names = " or ".join(_KINDS[kind] for kind in kinds)
        return f"{subject} is {_kind(value)}; expected {names}"
    if rule == "enum":
        return f"{subject} is {_echo(value)}; expected one of {', '.join(map(str, wanted))}"
    if rule == "const":
        return f"{subject} is {_echo(value)}; expected {wanted}"
    if rule == "pattern" and "description" in error.schema:
        return f"{_echo(value)} is not {_article(error.schema['description'])}"
    if rule == "pattern":
        return f"{subject} is {_echo(value)}, which does not have the right form"
    if rule == "not":
        return f"{subject} is not written by hand: it comes from `repo`"
    if rule in ("minItems", "minProperties") and wanted == 1:
        return f"{subject} is empty"
    if rule == "anyOf":
        return f"{subject} is {_kind(value)}, which is not allowed here"
    if rule in ("minimum", "maximum"):
        least = "least" if rule == "minimum" else "most"
        return f"{subject} is {_echo(value)}; at {least} {wanted:,} is allowed"
    return str(error.message)[:200]


def _hint(error: ValidationError) -> str | None:
    value, schema = error.instance, error.schema
    if error.validator == "enum" and isinstance(value, str):
        return did_you_mean(value, [word for word in error.validator_value if isinstance(word, str)])
    if error.validator == "type" and "string" in error.validator_value:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if "duration" in str(schema.get("description", "")).lower():
                return f"write it with a unit: {format_duration(float(value))}"
            return f'quote it: "{value}"'
        return None
    if isinstance(schema, dict) and schema.get("examples") and error.validator != "required":
        examples = ", ".join(
            member if isinstance(member, str) else json.dumps(member)
            for member in schema["examples"][:3]
        )
        return f"write it like {examples}"
    return None


_KINDS = {
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}


def _kind(value: Json) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    names = {str: "the string", int: "the number", float: "the number"}
    if type(value) in names:
        return f"{names[type(value)]} {_echo(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def _echo(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + '…'}`"


def _article(description: str) -> str:
    text = description.split(":")[0].split(".")[0].split(";")[0]
    return text[0].lower() + text[1:]


