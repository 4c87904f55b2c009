"""JSON Schema: a fast verdict first, an explanation in the user's words only where it fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any

from runner.model import Json, Problem
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.words import hint_of, kind_of, subject_of, words_of

SCHEMAS = ("plan.v1", "catalog.v1", "project.v1", "execution-plan.v1", "saved-plan.v1")
MAX_EXPLAINED = 100


class SchemaError(ValueError):
    """A contract that is no JSON Schema; `path` leads to the part of it that is wrong."""

    def __init__(self, message: str, path: Path = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.path, self.hint = path, hint


def schema_text(name: str) -> str:
    """A published schema; in a wheel it lies in the package, in a checkout at the top level."""
    packaged = files("runner") / "schemas" / f"{name}.schema.json"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    checkout = FilePath(__file__).parents[2] / "schemas" / f"{name}.schema.json"
    return checkout.read_text(encoding="utf-8")


def check(document: Document, name: str) -> tuple[list[Problem], list[Path]]:
    """Problems, and the paths of the values that no later check may rely on.

    The path ``()`` stands for the whole document.
    """
    schema = published(name)
    if refusal := form_problem(document, schema):
        return [refusal], [()]
    if _verdict(name)(document.value):
        return [], []
    problems: list[Problem] = []
    wrong: list[Path] = []
    for error in _errors(schema, document.value):
        meant = _meant(error)
        wrong += [path for path in (_place(meant),) if path and not _about_unknown_keys(meant)]
        if len(problems) < MAX_EXPLAINED:
            problems += _explain(document, meant)
        elif len(problems) == MAX_EXPLAINED:
            message = f"these are the first {MAX_EXPLAINED} problems; there are more"
            problems.append(Problem(message, document.path))
    if not problems:
        return [document.problem(f"the file does not have the form of {name}")], [()]
    return problems, wrong


def check_row(row: Json) -> Iterator[tuple[Path, str, str | None]]:
    """What is wrong with a row of a data file: where in it, what, and what to do."""
    if _row_verdict()(row):
        return
    for error in _errors(_row_schema(), row):
        yield _place(error), words_of(error), hint_of(error)


def compile_schema(schema: Json) -> Callable[[Json], bool]:
    """A fast verdict; SchemaError where `schema` is no JSON Schema or reaches outside itself."""
    import jsonschema_rs

    outside: list[str] = []

    def refuse(uri: str) -> Json:
        outside.append(uri)
        raise ValueError(uri)

    try:
        validator = jsonschema_rs.validator_for(schema, retriever=refuse)
    except jsonschema_rs.ValidationError as error:
        if outside:
            message = f"it refers to {outside[0]}"
            raise SchemaError(message, (), "only references within it are followed") from None
        raise SchemaError(error.message[:200], tuple(error.instance_path)) from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(str(error).strip().split("\n")[0][:200]) from None
    return validator.is_valid


def explain_contract(
    schema: Json, data: Json
) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
    """Path into `data`, what is wrong there, and what to do; at least one, for what is refused.

    The words are jsonschema's errors in ours; where that library cannot follow (it reads regular
    expressions otherwise), they are those of the one that refused the data.
    """
    found: list[tuple[tuple[str | int, ...], str, str | None]] = []
    try:
        for error in _errors(schema, data):
            path = tuple(error.absolute_path)
            if _about_unknown_keys(error):
                for key, hint in _unknown_keys(error):
                    found.append(((*path, key), f"{echo(key)} is not a key that it knows", hint))
            else:
                found.append((path, words_of(error), None))
    except (re.error, RecursionError):
        found = []
    yield from found or _plain_errors(schema, data)


def _plain_errors(
    schema: Json, data: Json
) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
    import jsonschema_rs

    errors = list(jsonschema_rs.validator_for(schema).iter_errors(data))
    for error in errors[:MAX_EXPLAINED]:
        yield tuple(error.instance_path), error.message[:200], None
    if not errors:
        yield (), "the contract does not accept it", None


@cache
def published(name: str) -> Json:
    return json.loads(schema_text(name))


@cache
def _verdict(name: str) -> Callable[[Json], bool]:
    return compile_schema(published(name))


@cache
def _row_schema() -> Json:
    """A repository's row, but that a data file may have its `owner` and `name` as columns."""
    schema = published("plan.v1")
    row = schema["definitions"]["repositoryRow"]
    properties = {k: v for k, v in row["properties"].items() if k not in ("owner", "name")}
    return {**row, "properties": properties, "definitions": schema["definitions"]}


@cache
def _row_verdict() -> Callable[[Json], bool]:
    return compile_schema(_row_schema())


def form_problem(document: Document, schema: Json) -> Problem | None:
    """What the file is at all: against another form, no other message would make sense."""
    value = document.value
    if not isinstance(value, dict):
        what = "empty" if value is None else kind_of(value)
        message = f"the file is {what}; expected keys such as {', '.join(schema['required'])}"
        return document.problem(message, hint="`backfill init` writes a first plan")
    version = schema["properties"]["apiVersion"]["const"]
    if value.get("apiVersion", version) != version:
        hint = newer_form(value["apiVersion"]) or f"write `apiVersion: {version}`"
        message = (
            f"{subject_of(('apiVersion',), value['apiVersion'])}; this backfill reads {version}"
        )
        return document.problem(message, ("apiVersion",), hint=hint)
    kind = schema["properties"]["kind"]["const"]
    if value.get("kind", kind) != kind:
        message = f"{subject_of(('kind',), value['kind'])}; expected {kind}"
        return document.problem(message, ("kind",), hint=f"write `kind: {kind}`")
    return None


def newer_form(version: Json) -> str | None:
    """What to install for ``backfill/v2`` and later: form N is read from backfill N.0 on."""
    found = (
        re.fullmatch(r"backfill/v([2-9]|[1-9]\d)\w*", version) if isinstance(version, str) else None
    )
    return (
        f"install the backfill that reads it: pip install 'backfill>={found[1]}'" if found else None
    )


def _errors(schema: Json, value: Json) -> Iterator[Any]:
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator = validator_for(schema)(schema, registry=Registry())
    yield from sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))


def _explain(document: Document, error: Any) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    if _about_unknown_keys(error):
        for key, hint in _unknown_keys(error):
            message, rule = f"unknown key {echo(key)}", "unknown-key"
            yield document.problem(message, (*path, key), key=True, hint=hint, rule=rule)
        return
    at_key = bool(_property_name(error)) or (error.validator in ("required", "not") and bool(path))
    rule = str(error.validator)
    hint = hint_of(error)
    yield document.problem(words_of(error), _place(error), key=at_key, hint=hint, rule=rule)


def _meant(error: Any) -> Any:
    """Of the branches that were tried, the one whose own type fits is the one that was meant."""
    fitting = [m for m in error.context or () if m.validator != "type" or m.relative_path]
    if error.validator != "anyOf" or not fitting:
        return error
    return _meant(max(fitting, key=lambda member: len(member.path)))


def _place(error: Any) -> tuple[str | int, ...]:
    path, name = tuple(error.absolute_path), _property_name(error)
    return (*path, name) if name else path


def _about_unknown_keys(error: Any) -> bool:
    return error.validator == "additionalProperties" and error.validator_value is False


def _property_name(error: Any) -> str | None:
    """The key that an error is about, where it is about a key and not about a value."""
    return str(error.instance) if "propertyNames" in list(error.absolute_schema_path)[-2:] else None


def _unknown_keys(error: Any) -> Iterator[tuple[str, str | None]]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key not in known:
            there = f"known here: {', '.join(known)}" if known else None
            yield key, did_you_mean(key, known) or there
