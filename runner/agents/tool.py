"""What a tool is, and how the arguments that several of them take are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runner.agents.forms import Schema, flag, number, refuse_unfit, text, texts
from runner.agents.places import inside
from runner.app.session import Session
from runner.errors import BackfillError, UsageError
from runner.model import Json, Selectors, frozen

Given = Mapping[str, Any]


@frozen
class Answer:
    """`document`: the command's own; without one `said` is all there is. `error`: what a command
    ends with that has printed its document before."""

    document: Mapping[str, object] | None
    said: str = ""
    error: BackfillError | None = None


@frozen
class Tool:
    """`gives`: the published forms of which its document is one. `reads`: it changes nothing."""

    name: str
    about: str
    takes: Schema
    gives: tuple[str, ...]
    work: Callable[[Session, Given], Answer]
    reads: bool = True
    destroys: bool = False
    alone: bool = False  # it reaches no database and no server


PLAN = {"plan": text("The plan file, by its path from the working directory.")}
_ENV = {"env": text("The environment of the project file to work in.")}
READING = {
    "vars": {"type": "object", "description": "Template variables; they go over the plan's."},
    "strict": flag("Warnings count as errors."),
    "collections": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Files whose items stand in place of those of collections, by their names.",
    },
    **_ENV,
}
FACTS = {"facts": text("Plan from the answers in this file, and ask no database.")}
SELECTORS = {
    "only": texts("Only these operations."),
    "skip": texts("Leave these operations out."),
    "item": texts("Only items whose names fit these globs, as `acme/*`; after `!`: without them."),
    "limit": number("Only the first so many items of each collection."),
    "sample": number("Only a choice of so many items of each collection."),
    "seed": {"type": "integer", "description": "Another choice for `sample`."},
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
    """What the tool comes to. Raises `UsageError` for arguments that it does not take."""
    refuse_unfit(tool.takes, given)
    session.collections = {
        name: inside(path) for name, path in given.get("collections", {}).items()
    }
    if "facts" in given:
        from runner.app.variables import read_facts_file

        session.facts = read_facts_file(inside(given["facts"]))
    return tool.work(session, given)


def variables_of(given: Given) -> dict[str, Json]:
    from runner.app.variables import refuse_secret
    from runner.spec.json_limits import fault

    variables: dict[str, Json] = dict(given.get("vars", {}))
    for name, value in variables.items():
        if wrong := fault(value):
            raise UsageError(f"vars.{name} holds {wrong}")
        refuse_secret(f"vars.{name}", f"{name}={json.dumps(value)}")
    return variables


def several(given: Given, name: str) -> tuple[str, ...]:
    value = given.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)


def selectors_of(given: Given) -> Selectors:
    if "limit" in given and "sample" in given:
        raise UsageError("limit and sample choose differently", hint="take one of them")
    if "seed" in given and "sample" not in given:
        raise UsageError("seed does nothing without sample")
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
    from runner.spec.units import parse_duration

    try:
        return parse_duration(given.get(name, default))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
