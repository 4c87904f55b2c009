"""Format plans and catalogs: keys in the schema's order, durations in their shortest form."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate, pairwise, zip_longest

from runner.errors import InvalidPlan
from runner.model import Data, Json, frozen
from runner.spec.document import Document
from runner.spec.reading import parse_clean
from runner.spec.schema import compile_schema, form_problem, published
from runner.spec.units import format_duration, parse_duration
from runner.spec.yaml_text import (
    BYTE_ORDER_MARK,
    Edit,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    Span,
    applied,
    read_nodes,
)

_SCHEMAS = {"BackfillPlan": "plan.v1", "OperationCatalog": "catalog.v1"}
_LINE_END = re.compile("(\r\n|[\r\n\x85\u2028\u2029])\\Z")
_MODELINE = re.compile(r"\s*# yaml-language-server:")
_OF_THE_FILE = ("apiVersion", "kind")  # a comment above these is about the file
_OPENED, _BETWEEN, _CLOSED = (re.compile(p) for p in (r"\{\s*", r"\s*,\s*", r"\s*,?\s*\}"))
_COLON = re.compile(r"\s*:\s*")
_BREAKS = "\r\n\x85\u2028\u2029"


def formatted(raw: bytes, path: str) -> bytes | None:
    """Return the file formatted; None if it is neither a plan nor a catalog.

    Comments, quotes and whatever else no rule names stay as they are, byte for byte. Raises
    `InvalidPlan` for invalid YAML, or for the form of another version.
    """
    document = _read(raw, path)
    schema = _schema_of(document.value)
    if schema is None:
        return None
    if problem := form_problem(document, published(schema)):
        raise InvalidPlan((problem,))
    text = raw.decode("utf-8")
    bare = text.removeprefix(BYTE_ORDER_MARK)
    new = text[: len(text) - len(bare)] + _formatted(bare, document.value, schema)
    again, _ = parse_clean(new.encode(), path)
    if _meaning(again.value, schema) != _meaning(document.value, schema):
        raise AssertionError(f"formatting would change the meaning of {path}")
    return new.encode()


def _read(raw: bytes, path: str) -> Document:
    """Parse the file. Secrets are for others to report; so are problems of files not ours."""
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
    """Format the text. An unended last line gets a line break meanwhile, as it may move up."""
    unended = not _LINE_END.search(text)
    if unended:
        text += "\r\n" if "\r\n" in text else "\n"
    root = read_nodes(text)
    lines = None if root.pinned or (unended and root.blocks) else Lines(text)
    new = applied(text, _edits(text, root, value, shape_of(value, schema), lines))
    return _LINE_END.sub("", new) if unended else new


def _edits(text: str, node: Node, value: Json, shape: Shape, lines: Lines | None) -> Iterator[Edit]:
    """Yield the edits. Without `lines` nothing is moved; shared nodes (aliases) are left alone."""
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
    """Shorten as `format_duration` does, but keep one in days if it is as short."""
    try:
        seconds = parse_duration(duration)
        short = format_duration(seconds)
        same = parse_duration(short) == seconds
    except ValueError:  # not a duration, or too long to format
        return duration
    longer = "d" in duration and len(short) >= len(duration)
    return duration if longer or not same else short


def _meaning(value: Json, schema: str) -> str:
    """Return a text that is equal for equivalent values: durations in seconds, keys sorted."""
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
    """The part of a schema that applies to a value, with references and conditions resolved."""

    part: Data
    definitions: Data

    def member(self, step: str | int, value: Json) -> Shape:
        """Return the shape of the member `value`, at a key or an index."""
        if isinstance(step, int):
            part = self.part.get("items")
        else:
            others = self.part.get("additionalProperties")
            part = self.part.get("properties", {}).get(step, others)
        return _resolved(part if isinstance(part, dict) else {}, value, self.definitions)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the schema names, in its order; empty if the user chooses the keys."""
        return tuple(self.part.get("properties", ()))

    @property
    def is_duration(self) -> bool:
        return self.part is self.definitions["duration"]


def shape_of(value: Json, name: str) -> Shape:
    """Return the shape of a whole document by the published schema `name`."""
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


class Lines:
    """The lines of a text, numbered from 0, with the offsets at which they start."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0, *accumulate(map(len, self._lines))]

    def __len__(self) -> int:
        return len(self._lines)

    def start(self, line: int) -> int:
        return self._starts[line]

    def at(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def before(self, offset: int) -> str:
        """Return what precedes an offset on its line."""
        return self.text[self.start(self.at(offset)) : offset]

    def holds_nothing(self, line: int) -> bool:
        """Tell whether the line is blank or a comment."""
        return self._lines[line].lstrip(" \t").rstrip(_BREAKS)[:1] in ("", "#")

    def is_comment(self, line: int) -> bool:
        return self._lines[line].lstrip(" \t").startswith("#")

    def is_modeline(self, line: int) -> bool:
        return _MODELINE.match(self._lines[line]) is not None

    def is_loose(self, line: int, column: int) -> bool:
        """Tell whether it is blank, or a comment indented by at most `column`: in no value."""
        written = self._lines[line].rstrip(_BREAKS)
        inner = written.lstrip(" ")
        return inner[:1] in ("", "#") and len(written) - len(inner) <= column


@frozen
class _Entry:
    """Offsets: of the blank lines before a key, the comments above it, the key itself, and the end
    of the last line that moves with it."""

    blank: int
    lead: int
    key: int
    end: int


def reordered(lines: Lines, mapping: MappingNode, keys: Sequence[str]) -> Edit | None:
    """Put `keys` first, in their order, and all others after them as written.

    None if there is nothing to do, or it cannot be done.
    """
    ranks = {key: rank for rank, key in enumerate(keys)}
    places = [ranks.get(key.value, len(ranks)) for key, _ in mapping.entries]
    order = sorted(range(len(places)), key=places.__getitem__)
    if order == list(range(len(places))):
        return None
    return (_flow if mapping.flow else _block)(lines, mapping, order)


def _flow(lines: Lines, mapping: MappingNode, order: Sequence[int]) -> Edit | None:
    """Swap pairs, keeping what separates them. None if there are comments between them."""
    text = lines.text
    pairs = [(key.start, value.end) for key, value in mapping.entries]
    gaps = [(one[1], other[0]) for one, other in pairwise(pairs)]
    plain = (
        _OPENED.fullmatch(text, mapping.start, pairs[0][0])
        and all(_BETWEEN.fullmatch(text, *gap) for gap in gaps)
        and _CLOSED.fullmatch(text, pairs[-1][1], mapping.end)
        and all(_may_move(text, key, value) for key, value in mapping.entries)
    )
    if not plain:
        return None
    parts: list[Span] = [pairs[order[0]]]
    for gap, index in zip(gaps, order[1:], strict=True):
        parts += [gap, pairs[index]]
    return Edit(pairs[0][0], pairs[-1][1], tuple(parts))


def _may_move(text: str, key: Node, value: Node) -> bool:
    """Tell whether a pair can move: an empty value and a lone `-` depend on what follows."""
    colon = _COLON.fullmatch(text, key.end, value.start)
    return colon is not None and text[value.start : value.end] not in ("", "-")


def _block(lines: Lines, mapping: MappingNode, order: Sequence[int]) -> Edit | None:
    before = lines.before(mapping.entries[0][0].start)
    inline, column = bool(before.strip(" ")), len(before)
    entries = _entries(lines, mapping, column, inline=inline)
    if entries is None:
        return None
    first = entries[order[0]]
    parts: list[str | Span] = []
    for place, index in enumerate(order):
        entry = entries[index]
        if place:  # the first entry has no blank lines: the former first gets those of the new one
            apart = entry if index else first
            parts.append((apart.blank, apart.lead))
        if inline and place and not index:
            parts.append(" " * column)
        parts.append((entry.lead if place or not inline else entry.key, entry.end))
    return Edit(entries[0].lead, entries[-1].end, tuple(parts))


def _entries(
    lines: Lines, mapping: MappingNode, column: int, *, inline: bool
) -> list[_Entry] | None:
    """Split a mapping into entries; None if a key does not start its line, or comments have nowhere
    to go.

    `inline`: the first key follows the `-` of a list, so no comment can be above it.
    """
    key = mapping.entries[0][0]
    blank = lead = key.start if inline else lines.start(_head(lines, key, column))
    found: list[_Entry] = []
    for (key, value), following in zip_longest(mapping.entries, mapping.entries[1:]):
        own, after = _below(lines, lines.at(value.end - 1), column)
        if following is None:
            found.append(_Entry(blank, lead, key.start, lines.start(own)))
            break
        begins = lines.start(after) + column == following[0].start
        if not begins or lines.before(following[0].start).strip(" "):
            return None
        own = _right_below(lines, own, after)
        found.append(_Entry(blank, lead, key.start, lines.start(own)))
        above = next((line for line in range(own, after) if lines.is_comment(line)), after)
        if inline and above != after:
            return None
        blank, lead = lines.start(own), lines.start(above)
    return found


def _head(lines: Lines, key: ScalarNode, column: int) -> int:
    """Return the line of the first key, or of the comments directly above it."""
    line = lines.at(key.start)
    if not column and key.value in _OF_THE_FILE:
        return line
    while line and lines.is_comment(line - 1) and lines.is_loose(line - 1, column):
        if lines.is_modeline(line - 1):
            break
        line -= 1
    return line


def _below(lines: Lines, last: int, column: int) -> tuple[int, int]:
    """After a value that ends on line `last`, return the end of the lines indented further than its
    key, and the line of the next value."""
    own = after = last + 1
    while after < len(lines) and lines.holds_nothing(after):
        after += 1
        if not lines.is_loose(after - 1, column):
            own = after
    return own, after


def _right_below(lines: Lines, own: int, after: int) -> int:
    """Keep comments right below a value with it if a blank line follows them."""
    end = own
    while end < after and lines.is_comment(end):
        end += 1
    return end if end < after else own
