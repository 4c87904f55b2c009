"""A YAML text with the positions of its values, and edits by these positions."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import yaml

from runner.model import frozen

BYTE_ORDER_MARK = "\ufeff"
LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_KEEPS_BREAKS = re.compile(r"[^\n]*?[|>][0-9]?\+")  # `|+`: blank lines after it are part of it
_SPACE = " \t\r\n\x85\u2028\u2029"


@frozen
class _Node:
    """text[start:end], without the comments and blank lines after it.

    `shared`: it is an alias, or has an anchor. `pinned`: something in it must stay in place.
    `blocks`: it contains block scalars, which include the end of their last line.
    """

    start: int
    end: int
    shared: bool
    pinned: bool
    blocks: bool


@frozen
class ScalarNode(_Node):
    value: str


@frozen
class SequenceNode(_Node):
    items: tuple[Node, ...]


@frozen
class MappingNode(_Node):
    flow: bool
    entries: tuple[tuple[ScalarNode, Node], ...]


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def read_nodes(text: str) -> Node:
    """Parse a text in which `strict_yaml` found no problem: its keys are scalars, and its depth is
    limited."""
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
    first = next(event for event in events if isinstance(event, yaml.NodeEvent))
    return _node(text, first, events)


def _node(text: str, event: Any, events: Iterator[Any]) -> Node:
    shared, start = event.anchor is not None, event.start_mark.index
    if not isinstance(event, yaml.CollectionStartEvent):
        return _scalar(text, event)
    children: list[Node] = []
    while not isinstance(inner := next(events), yaml.CollectionEndEvent):
        children.append(_node(text, inner, events))
    flow, closed = bool(event.flow_style), inner.end_mark
    end = closed.index if flow and closed else children[-1].end
    pinned = shared or any(child.pinned for child in children)
    blocks = any(child.blocks for child in children)
    if isinstance(event, yaml.SequenceStartEvent):
        return SequenceNode(start, end, shared, pinned, blocks, tuple(children))
    keys = [key for key in children[::2] if isinstance(key, ScalarNode)]
    entries = tuple(zip(keys, children[1::2], strict=True))
    return MappingNode(start, end, shared, pinned, blocks, flow, entries)


def _scalar(text: str, event: Any) -> ScalarNode:
    """Make a scalar, or an alias, which has no value of its own here."""
    start, end, shared = event.start_mark.index, event.end_mark.index, event.anchor is not None
    block = getattr(event, "style", None) in ("|", ">")
    if block:
        end = start + len(text[start:end].rstrip(_SPACE))
    pinned = shared or (block and _KEEPS_BREAKS.match(text, start) is not None)
    return ScalarNode(start, end, shared, pinned, block, getattr(event, "value", ""))


Span: TypeAlias = tuple[int, int]


@frozen
class Edit:
    """Replaces text[start:end] by parts: new text, or spans of the old, which may be edited too."""

    start: int
    end: int
    parts: tuple[str | Span, ...]


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Apply the edits; of two that overlap, one lies within a part of the other."""
    outer_first = sorted(edits, key=lambda edit: (edit.start, -edit.end))
    starts = [edit.start for edit in outer_first]

    def written(start: int, end: int, first: int) -> Iterator[str]:
        at, index = start, bisect_left(starts, start, first)
        while index < len(starts) and starts[index] < end:
            edit = outer_first[index]
            yield text[at : edit.start]
            for part in edit.parts:
                yield from [part] if isinstance(part, str) else written(*part, index + 1)
            at = edit.end
            index = bisect_left(starts, at, index + 1)
        yield text[at:end]

    return "".join(written(0, len(text), 0))
