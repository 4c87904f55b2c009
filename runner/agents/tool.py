"""The type of tools, their shared arguments, and the paths that they may use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.adapters.inngest.target import NAMES
from runner.app.approval import FOLDER
from runner.app.session import Session
from runner.errors import BackfillError, UsageError
from runner.model import Json, Selectors, frozen
from runner.spec.files import FileRefused, repository_of, within
from runner.spec.given import refuse_empty, refuse_secret
from runner.spec.schema import explain_contract, published
from runner.spec.units import MOST, parse_span
from runner.spec.whole_numbers import made_whole

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
Schema = dict[str, Any]
# Names of keys whose values jobs, servers and databases write, wherever they are; and the parts of
# documents that are our own words, even under such names.
_OF_OTHERS = frozenset({"message", "seen", "item", "items", "waiting", "reason", "notes", "unmet"})
_OURS = frozenset({"problems", "warnings", "policy", "operations"})
Given = Mapping[str, Any]
_MOST_FAULTS = 10


def inside(name: str) -> str:
    """Return `name`, if the file is in the repository of the working directory or, without one,
    below the working directory.

    Raises `UsageError`.
    """
    if name == "-":
        raise UsageError("`-` is stdin, which the protocol uses", hint="name a file")
    try:
        real = within(name)
    except FileRefused as refused:
        message = f"{name} cannot be used: {refused}"
        raise UsageError(message, hint=refused.hint or "name a file of this repository") from None
    if not real.is_relative_to(root := _root()):
        hint = "name a file of it, by a path relative to the working directory"
        raise UsageError(f"{name} lies outside {root}, where this server works", hint=hint)
    return name


def _root() -> Path:
    here = Path.cwd()
    return (repository_of(here) or here).resolve()


def to_write(name: str, plan: str) -> str:
    """Return the path of a file to write for a plan; refuse approvals, also where a link leads to
    them, and hidden files as of git or a CI."""
    given, real = Path(name), Path(inside(name)).resolve()
    parts = {part.casefold() for part in (*given.parts, *real.relative_to(_root()).parts)}
    if FOLDER in parts or real.is_relative_to((Path(plan).parent / FOLDER).resolve()):
        hint = "only a person may approve a plan; name a file elsewhere"
        raise UsageError(f"{name} lies in a folder of approvals", hint=hint)
    if real.is_dir():
        raise UsageError(f"{name or '.'} is a folder", hint="name a file")
    if any(part.startswith(".") and part.strip(".") for part in parts):
        raise UsageError(f"{name} is hidden, or in a hidden folder", hint="name a file elsewhere")
    return name


def known_target(name: str | None) -> str | None:
    """Refuse other addresses than local ones, as keys go to targets; names are allowed."""
    if name is None or name in NAMES:
        return name
    try:
        local = urlsplit(name).hostname in _LOCAL
    except ValueError:
        local = False
    if not local:
        hint = (
            "write embedded, dev or cloud; or use `env` with an environment that has it as `target`"
        )
        raise UsageError(f"target {name!r} is not an address that an agent may name", hint=hint)
    return name


def text(about: str, **more: Any) -> Schema:
    return {"type": "string", "description": about, **more}


def number(about: str, **more: Any) -> Schema:
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST,
        "description": about,
        **more,
    }


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
    """Raise `UsageError` for arguments that the schema does not allow."""
    faults = [*islice(explain_contract(schema, dict(given)), _MOST_FAULTS)]
    if faults:
        named = [(".".join(map(str, path)) or "the arguments", said) for path, said, _ in faults]
        takes = f"it takes {', '.join(schema['properties'])}" if schema["properties"] else None
        raise UsageError("; ".join(f"{where}: {said}" for where, said in named), hint=takes)


def result(names: tuple[str, ...]) -> Schema:
    """Return the schema of a tool's result, one of the published documents; without `$id`, which
    clients take for the id of one schema."""
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
    """Return the places in these documents that others have written."""
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


@frozen
class Answer:
    """`document`: the command's own; without one there is only `said`. `error`: the error with
    which a command ends after printing its document."""

    document: Mapping[str, object] | None
    said: str = ""
    error: BackfillError | None = None


@frozen
class Tool:
    """`gives`: the published forms that its document may have. `reads`: it changes nothing."""

    name: str
    about: str
    takes: Schema
    gives: tuple[str, ...]
    work: Callable[[Session, Given], Answer]
    reads: bool = True
    destroys: bool = False
    alone: bool = False  # it uses no database and no server


PLAN = {"plan": text("The plan file, by its path from the working directory.")}


_ENV = {"env": text("The environment of the project file to use.")}


READING = {
    "vars": {"type": "object", "description": "Template variables; they override the plan's."},
    "strict": flag("Treat warnings as errors."),
    "collections": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Files with items that replace those of collections, by collection name.",
    },
    **_ENV,
}


FACTS = {"facts": text("Take the database's answers from this file, and ask no database.")}


SELECTORS = {
    "only": texts("Only these operations."),
    "skip": texts("Skip these operations."),
    "item": texts(
        "Only items whose names match these globs, such as `acme/*`; `!` before a glob excludes."
    ),
    "limit": number("Only this many items of each collection, the first ones."),
    "sample": number("Only this many items of each collection, chosen by `seed`."),
    "seed": {
        "type": "integer",
        "description": "The seed of `sample`: another seed chooses other items.",
    },
}


TARGET = {"target": text("embedded, dev or cloud; by default the environment's, or embedded.")}


RUN = {"run": text("The run's id, its beginning, `latest`, or `latest:PLAN-NAME`.")}


LATEST = {"run": {**RUN["run"], "default": "latest"}}


SUBSET = {**READING, **SELECTORS}


GATED = (
    " Only for the target `embedded`, or where a person has approved the plan's digest; the "
    "refusal says how."
)


def called(tool: Tool, session: Session, given: Given) -> Answer:
    """Call the tool. Raises `UsageError` for arguments that it does not take."""
    refuse_unfit(tool.takes, given)
    given = made_whole(dict(given), tool.takes)
    if "env" in given:
        refuse_empty(environment=given["env"])
        session.environment_name = given["env"]
    session.collections = {
        name: inside(path) for name, path in given.get("collections", {}).items()
    }
    if "facts" in given:
        from runner.app.variables import read_facts_file

        session.facts = read_facts_file(inside(given["facts"]))
    return tool.work(session, given)


def variables_of(given: Given) -> dict[str, Json]:
    from runner.spec.json_limits import fault

    variables: dict[str, Json] = dict(given.get("vars", {}))
    for name, value in variables.items():
        if wrong := fault(value):
            raise UsageError(f"vars.{name} has {wrong} in it")
        refuse_secret(f"vars.{name}", f"{name}={json.dumps(value)}")
    return variables


def several(given: Given, name: str) -> tuple[str, ...]:
    value = given.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)


def selectors_of(given: Given) -> Selectors:
    return Selectors(
        only=several(given, "only"),
        skip=several(given, "skip"),
        items=several(given, "item"),
        limit=given.get("limit"),
        sample=given.get("sample"),
        seed=given.get("seed", 0),
    )


def is_strict(given: Given) -> bool:
    return bool(given.get("strict", False))


def seconds_of(given: Given, name: str, default: str) -> float:
    try:
        return parse_span(given.get(name, default))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
