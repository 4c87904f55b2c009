"""JSON Schema: a fast verdict first, and an explanation in plain words only if it fails.

Both come from jsonschema-rs, whose patterns take linear time. Faults of a contract itself are
explained by jsonschema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from runner.model import Json, Problem, frozen
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.schema_messages import hint_of, kind_of, message_of, subject_of
from runner.spec.unfold import TooMuch, check_unfolding
from runner.spec.whole_numbers import made_whole

FILES = ("plan.v1", "catalog.v1", "project.v1", "saved-plan.v1", "facts.v1", "test.v1")
# What commands print, by name.
DOCUMENTS = (
    "execution-plan.v1",
    "plans.v1",
    "run.v1",
    "submission.v1",
    "status.v1",
    "report.v1",
    "rehearsal.v1",
    "runs.v1",
    "events.v1",
    "logs.v1",
    "apply.v1",
    "sync.v1",
    "check.v1",
    "coverage.v1",
    "doctor.v1",
    "diff.v1",
    "review.v1",
    "validate.v1",
    "test-results.v1",
    "operations.v1",
    "schedules.v1",
    "notification.v1",
)
SCHEMAS = FILES + DOCUMENTS
MAX_EXPLAINED = 100
_KINDS = {
    "BackfillPlan": "a plan file",
    "OperationCatalog": "a catalog",
    "BackfillProject": "a project file",
    "BackfillTest": "a test of a plan (`*.test.yaml`)",
}
_CUT = "within { }, a comma ends a value: put a text that has one in quotes"
_PATTERN = 2**20  # bytes that a compiled pattern may take
_LOOKS_ABOUT = re.compile(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]|\\k<")


class SchemaError(ValueError):
    """A contract that is not a JSON Schema; `path` leads to the part that is wrong."""

    def __init__(self, message: str, path: Path = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.path, self.hint = path, hint


def schema_text(name: str) -> str:
    """Return a published schema, from the package in a wheel, or the top level of a checkout."""
    package = FilePath(__file__).parents[1]
    packaged, checkout = (
        folder / "schemas" / f"{name}.schema.json" for folder in (package, package.parent)
    )
    return (packaged if packaged.is_file() else checkout).read_text(encoding="utf-8")


def check(document: Document, name: str) -> tuple[list[Problem], list[Path]]:
    """Return problems, and the paths of values that later checks must not rely on.

    The path ``()`` stands for the whole document.
    """
    schema = published(name)
    if refusal := form_problem(document, schema):
        return [refusal], [()]
    if _verdict(name)(document.value):
        return [], []
    problems: list[Problem] = []
    wrong: list[Path] = []
    for error in findings(schema, document.value):
        meant = _meant(error)
        wrong += [path for path in _all_wrong(error) if path]
        if len(problems) < MAX_EXPLAINED:
            problems += _explain(document, meant)
        elif len(problems) == MAX_EXPLAINED:
            message = f"these are the first {MAX_EXPLAINED} problems; there are more"
            problems.append(Problem(message, document.path))
    if not problems:
        return [document.problem(f"the file does not have the form of {name}")], [()]
    return problems, wrong


def typed(document: Document, name: str) -> Document:
    """Return the document with whole numbers as int, even if written like 2.0."""
    if not document.whole_decimals:
        return document
    return replace(document, value=made_whole(document.value, published(name)))


def has_form(value: Json, name: str) -> bool:
    """Tell whether the value is valid by the published schema."""
    return _verdict(name)(value)


def check_row(row: Json) -> Iterator[tuple[Path, str, str | None]]:
    """Yield what is wrong with a row of a data file: where in it, a message, and a hint."""
    if _row_verdict()(row):
        return
    for error in findings(_row_schema(), row):
        yield _place(error), message_of(error), hint_of(error)


def compile_schema(schema: Json) -> Callable[[Json], bool]:
    """Return a fast validator. Raises `SchemaError` if `schema` is invalid or refers outside."""
    accepts: Callable[[Json], bool] = _validator(schema).is_valid
    return accepts


def compile_contract(schema: Json) -> Callable[[Json], bool]:
    """Compile a schema that a user wrote, and bound its work too."""
    accepts = compile_schema(schema)
    try:
        check_unfolding(schema)
    except TooMuch as error:
        raise SchemaError(str(error), hint=error.hint) from None
    return accepts


def _validator(schema: Json) -> Any:
    import jsonschema_rs

    outside: list[str] = []

    def refuse(uri: str) -> Json:
        outside.append(uri)
        raise ValueError(uri)

    engine = jsonschema_rs.RegexOptions(size_limit=_PATTERN, dfa_size_limit=_PATTERN)
    try:
        return jsonschema_rs.validator_for(schema, retriever=refuse, pattern_options=engine)
    except jsonschema_rs.ValidationError as error:
        if outside:
            message = f"it refers to {outside[0]}"
            raise SchemaError(message, (), "only references within it are followed") from None
        raise _refused(schema, error) from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(str(error).strip().split("\n")[0][:200]) from None


def _refused(schema: Json, error: Any) -> SchemaError:
    path = tuple(error.instance_path)
    if error.kind.name == "format" and error.kind.format == "regex":
        return _no_pattern(str(error.instance), path)
    return _metaschema_fault(schema) or SchemaError(error.message[:200], path)


def _no_pattern(pattern: str, path: Path) -> SchemaError:
    if _LOOKS_ABOUT.search(pattern):
        message = f"the pattern {echo(pattern)} uses a lookahead, a lookbehind or a backreference"
        hint = "patterns run in linear time, without these: use `not`, `anyOf` or `enum`"
        return SchemaError(message, path, hint)
    message = f"{echo(pattern)} is not a usable pattern"
    return SchemaError(message, path, "it does not parse, or its repetitions make it too large")


def _metaschema_fault(schema: Json) -> SchemaError | None:
    """Explain an invalid contract by jsonschema, which picks the most telling of several faults."""
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for

    named = schema.get("$schema") if isinstance(schema, dict) else None
    kind = validator_for({"$schema": str(named)}, default=Draft202012Validator)
    try:
        found = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    except RecursionError:
        return None
    return found and SchemaError(str(found.message)[:200], tuple(found.absolute_path))


def explain_contract(
    schema: Json, data: Json
) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
    """Yield the path into `data`, a message and a hint; at least one for refused data."""
    for finding in findings(schema, data):
        path = finding.absolute_path
        if _about_unknown_keys(finding):
            for key, hint in _unknown_keys(finding):
                yield (*path, key), f"{echo(key)} is not a known key", hint
        else:
            yield path, message_of(finding), None


@cache
def published(name: str) -> Json:
    return json.loads(schema_text(name))


@cache
def _verdict(name: str) -> Callable[[Json], bool]:
    return compile_schema(published(name))


@cache
def _row_schema() -> Json:
    """Return the schema of a repository's row, but allow the columns `owner` and `name`."""
    schema = published("plan.v1")
    row = schema["definitions"]["repositoryRow"]
    properties = {k: v for k, v in row["properties"].items() if k not in ("owner", "name")}
    return {**row, "properties": properties, "definitions": schema["definitions"]}


@cache
def _row_verdict() -> Callable[[Json], bool]:
    return compile_schema(_row_schema())


def form_problem(document: Document, schema: Json) -> Problem | None:
    """Report a file that is of another form or version: no other message would make sense."""
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
        return document.problem(message, ("kind",), hint=_hint_of_kind(value["kind"], kind))
    return None


def _hint_of_kind(written: Json, expected: str) -> str:
    if written == "SavedPlan":
        return "name the plan file that it was made of"
    write = f"write `kind: {expected}`"
    if isinstance(written, str) and written in _KINDS:
        return f"if this is {_KINDS[written]}, name {_KINDS[expected]}; else {write}"
    return write


def newer_form(version: Json) -> str | None:
    """Say what to install for ``backfill/v2`` and later: backfill N.0 and newer read form N."""
    found = (
        re.fullmatch(r"backfill/v([2-9]|[1-9]\d)\w*", version) if isinstance(version, str) else None
    )
    return f"install backfill {found[1]} or newer, which reads it" if found else None


def findings(schema: Json, value: Json) -> list[SchemaFinding]:
    """Return what is wrong with `value`, in the order of its places."""
    found = {
        (finding.absolute_path, finding.absolute_schema_path, finding.name): finding
        for finding in (
            SchemaFinding.of(schema, value, error)
            for error in _validator(schema).iter_errors(value)
        )
    }
    return sorted(found.values(), key=lambda finding: list(map(str, finding.absolute_path)))


@frozen
class SchemaFinding:
    """A schema rule that a value breaks. `context`: for `anyOf`, what each branch would have
    wanted. `name`: the key, if the rule is about a key."""

    validator: str
    validator_value: Json
    schema: Mapping[str, Json]
    instance: Json
    absolute_path: tuple[str | int, ...]
    absolute_schema_path: tuple[str | int, ...]
    message: str
    name: str | None = None
    context: tuple[SchemaFinding, ...] = ()

    @classmethod
    def of(cls, schema: Json, value: Json, error: Any) -> SchemaFinding:
        kind, path = error.kind, tuple(error.instance_path)
        if kind.name == "propertyNames":
            named = cls.of(schema, value, kind.error)
            return replace(named, instance=str(kind.error.instance), name=str(kind.error.instance))
        *steps, rule = error.schema_path or ("",)
        node = _at(schema, steps)
        branches = kind.context if kind.name in ("anyOf", "oneOf") else ()
        return cls(
            validator=str(rule),
            validator_value=node.get(rule) if isinstance(node, dict) else None,
            schema=node if isinstance(node, dict) else {},
            instance=_at(value, path),
            absolute_path=path,
            absolute_schema_path=tuple(error.schema_path),
            message=error.message,
            context=tuple(cls.of(schema, value, one) for branch in branches for one in branch),
        )


def _at(value: Json, path: Iterable[str | int]) -> Json:
    """Return the part of `value` at `path`, or None."""
    for step in path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value


def _explain(document: Document, error: SchemaFinding) -> Iterator[Problem]:
    path = error.absolute_path
    if _about_unknown_keys(error):
        for key, hint in _unknown_keys(error):
            message, rule = f"unknown key {echo(key)}", "unknown-key"
            yield document.problem(message, (*path, key), key=True, hint=hint, rule=rule)
        return
    at_key = error.name is not None or (
        bool(path) and (error.validator == "required" or error.validator_value == {})
    )
    rule = str(error.validator)
    hint = hint_of(error)
    yield document.problem(message_of(error), _place(error), key=at_key, hint=hint, rule=rule)


def _meant(error: SchemaFinding) -> SchemaFinding:
    """Pick the branch that was meant: the one whose own type fits."""
    fitting = _fitting(error)
    if not fitting:
        return error
    return _meant(max(fitting, key=lambda member: len(member.absolute_path)))


def _fitting(error: SchemaFinding) -> Sequence[SchemaFinding]:
    """Return what is wrong by the branches of `anyOf` whose own type fits."""
    if error.validator != "anyOf":
        return ()
    here = len(error.absolute_path)
    return [m for m in error.context if m.validator != "type" or len(m.absolute_path) > here]


def _all_wrong(error: SchemaFinding) -> list[Path]:
    """Return the places that no later check may rely on; several members of a list may be wrong."""
    fitting = _fitting(error)
    return [path for one in fitting for path in _all_wrong(one)] if fitting else _wrong(error)


def _place(error: SchemaFinding) -> tuple[str | int, ...]:
    path = error.absolute_path
    return path if error.name is None else (*path, error.name)


def _wrong(error: SchemaFinding) -> list[Path]:
    if _about_unknown_keys(error):
        return [(*error.absolute_path, key) for key, _ in _unknown_keys(error)]
    return [_place(error)]


def _about_unknown_keys(error: SchemaFinding) -> bool:
    return error.validator == "additionalProperties" and error.validator_value is False


def _unknown_keys(error: SchemaFinding) -> Iterator[tuple[str, str | None]]:
    known = error.schema.get("properties", {})
    for key, value in error.instance.items():
        if key not in known:
            there = f"known here: {', '.join(known)}" if known else None
            cut = value is None and len(key.split()) > 1
            yield key, did_you_mean(key, known) or (_CUT if cut else there)
