"""Plans and catalogs in their one form: keys in the schema's order, durations in their shortest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache

from runner.errors import InvalidPlan
from runner.model import Data, Json, frozen
from runner.spec.document import Document
from runner.spec.key_order import Lines, reordered
from runner.spec.reading import parse_clean
from runner.spec.schema import compile_schema, form_problem, published
from runner.spec.units import format_duration, parse_duration
from runner.spec.yaml_text import Edit, Node, ScalarNode, SequenceNode, applied, read_nodes

_SCHEMAS = {"BackfillPlan": "plan.v1", "OperationCatalog": "catalog.v1"}
_BYTE_ORDER_MARK = "\ufeff"
_LINE_END = re.compile("(\r\n|[\r\n\x85\u2028\u2029])\\Z")


def formatted(raw: bytes, path: str) -> bytes | None:
    """The file in its one form; None where it is neither a plan nor a catalog.

    Comments, quotes and whatever else no rule names stay as they are, byte for byte. Raises
    `InvalidPlan` for what is no YAML, or of another version's form.
    """
    document = _read(raw, path)
    schema = _schema_of(document.value)
    if schema is None:
        return None
    if problem := form_problem(document, published(schema)):
        raise InvalidPlan((problem,))
    text = raw.decode("utf-8")
    bare = text.removeprefix(_BYTE_ORDER_MARK)
    new = text[: len(text) - len(bare)] + _formatted(bare, document.value, schema)
    again, _ = parse_clean(new.encode(), path)
    if _meaning(again.value, schema) != _meaning(document.value, schema):
        raise AssertionError(f"{path} would not say the same once it is formatted")
    return new.encode()


def _read(raw: bytes, path: str) -> Document:
    """Keys in it are for others to find; problems of a file that is not ours are none."""
    document, problems = parse_clean(raw, path)
    problems = [problem for problem in problems if problem.rule != "secret"]
    if problems and (document.value is None or _schema_of(document.value)):
        raise InvalidPlan(tuple(problems))
    return document


def _schema_of(value: Json) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("kind")
    return _SCHEMAS.get(kind) if isinstance(kind, str) else None


def _formatted(text: str, value: Json, schema: str) -> str:
    """A last line that has no end is lent one, as it may not be the last to stay."""
    unended = not _LINE_END.search(text)
    if unended:
        text += "\r\n" if "\r\n" in text else "\n"
    root = read_nodes(text)
    lines = None if root.pinned or (unended and root.blocks) else Lines(text)
    new = applied(text, _edits(text, root, value, shape_of(value, schema), lines))
    return _LINE_END.sub("", new) if unended else new


def _edits(text: str, node: Node, value: Json, shape: Shape, lines: Lines | None) -> Iterator[Edit]:
    """Without `lines` nothing is moved. What is shared may be no duration elsewhere."""
    if node.shared:
        return
    if isinstance(node, ScalarNode):
        if shape.is_duration and (edit := _shortened(text, node)):
            yield edit
    elif isinstance(node, SequenceNode):
        for index, (item, inner) in enumerate(zip(node.items, value, strict=True)):
            yield from _edits(text, item, inner, shape.member(index, inner), lines)
    else:
        if lines and (edit := reordered(lines, node, shape.keys)):
            yield edit
        for key, item in node.entries:
            if not key.shared:
                inner = value[key.value]
                yield from _edits(text, item, inner, shape.member(key.value, inner), lines)


def _shortened(text: str, node: ScalarNode) -> Edit | None:
    written = text[node.start : node.end]
    shortest = _shortest(node.value)
    if shortest == node.value or written.strip("'\"") != node.value:
        return None
    return Edit(node.start, node.end, (written.replace(node.value, shortest),))


def _shortest(duration: str) -> str:
    """As `format_duration` writes it; in days, which that does not write, where it is as short."""
    try:
        seconds = parse_duration(duration)
        short = format_duration(seconds)
        same = parse_duration(short) == seconds
    except ValueError:  # it is none, or has more hours than can be written
        return duration
    longer = "d" in duration and len(short) >= len(duration)
    return duration if longer or not same else short


def _meaning(value: Json, schema: str) -> str:
    """Equal for what says the same: durations in seconds, and the order of keys left out."""
    return json.dumps(_in_seconds(value, shape_of(value, schema)), sort_keys=True)


def _in_seconds(value: Json, shape: Shape) -> Json:
    if isinstance(value, dict):
        return {key: _in_seconds(inner, shape.member(key, inner)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_seconds(inner, shape.member(n, inner)) for n, inner in enumerate(value)]
    if not shape.is_duration:
        return value
    try:
        return parse_duration(value)
    except (TypeError, ValueError):
        return value


@frozen
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
