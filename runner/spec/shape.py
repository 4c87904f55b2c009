"""What a published schema says of a value: the order of its keys, and which are durations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from runner.model import Data, Json
from runner.spec.schema import compile_schema, published


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a schema that holds for one value, its references and conditions resolved."""

    part: Data
    definitions: Data

    def member(self, step: str | int, value: Json) -> Shape:
        """The shape of the member `value`, at a key or an index."""
        if isinstance(step, int):
            part = self.part.get("items")
        else:
            others = self.part.get("additionalProperties")
            part = self.part.get("properties", {}).get(step, others)
        return _resolved(part if isinstance(part, dict) else {}, value, self.definitions)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the schema names, in its order; none where they are the user's own."""
        return tuple(self.part.get("properties", ()))

    @property
    def is_duration(self) -> bool:
        return self.part is self.definitions["duration"]


def shape_of(value: Json, name: str) -> Shape:
    """The shape of a whole document by the published schema `name`."""
    schema = published(name)
    return _resolved(schema, value, schema["definitions"])


def _resolved(part: Data, value: Json, definitions: Data) -> Shape:
    while "$ref" in part or "if" in part:
        if "$ref" in part:
            part = definitions[part["$ref"].removeprefix("#/definitions/")]
        else:
            holds = _condition(json.dumps(part["if"]))(value)
            part = part["then" if holds else "else"]
    return Shape(part, definitions)


@cache
def _condition(schema: str) -> Callable[[Json], bool]:
    return compile_schema(json.loads(schema))
