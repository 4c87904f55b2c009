"""Strict YAML on libyaml's parser: one pass over its events builds the value and its marks.

Strict means: JSON's values only, and nothing that YAML 1.1 reads otherwise than it looks
(``no``, ``on``, ``2024-01-01``, ``010``, ``1:30``). Such a value is a problem, never a guess.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from runner.model import Json, Problem
from runner.spec.document import Document, Marks, line_of, problem_at

try:
    from yaml.cyaml import CParser as _Parser
except ImportError as missing:  # PyYAML built from source without libyaml
    raise ImportError("PyYAML has no libyaml here; install its wheel from PyPI") from missing

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 64
MAX_ALIASED_NODES = 100_000
MAX_PROBLEMS = 100

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_YAML_11_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_FIRST_OF_OTHERS = frozenset("0123456789+-.~nNtTfFyYoO")  # all else is a plain string
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")
_AMBIGUOUS = (
    (re.compile(r"[-+]?0[0-9_]+\Z"), "a number with a leading zero, which YAML 1.1 reads as octal"),
    (re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+\Z"), "a number that is not written in decimal"),
    (re.compile(r"[-+]?[0-9][0-9,]*(_[0-9_]+)+(\.[0-9_]*)?\Z"), "a number with underscores"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?\Z"), "a date, which JSON does not have"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?\Z"), "a number in base 60 to YAML 1.1"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"), "not a number that JSON has"),
)
_STANDARD_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")}


def parse(raw: bytes, path: str) -> tuple[Document, tuple[Problem, ...]]:
    """The document and everything wrong with its YAML; a syntax error ends the document there."""
    text, problem = _decode(raw, path)
    if problem:
        return Document(path, text, None, None), (problem,)
    builder = _Builder(path, text)
    builder.build()
    return Document(path, text, builder.value, builder.marks), tuple(builder.problems)


def _decode(raw: bytes, path: str) -> tuple[str, Problem | None]:
    if len(raw) > MAX_BYTES:
        size = f"{len(raw) / 1024 / 1024:.0f} MiB"
        hint = "keep the repositories in a .csv or .jsonl file, which is streamed"
        message = f"the file is {size}; {MAX_BYTES // 1024 // 1024} MiB is the most a YAML file may"
        return "", Problem(f"{message} have", path, hint=hint, rule="too-large")
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        what = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{raw[error.start]:02x}"
        message = f"the file is not UTF-8 ({what})"
        return "", Problem(
            message, path, line, column, hint="save it as UTF-8", rule="not-utf-8"
        )


class _Builder:
    """Builds value and marks from parser events, with an explicit stack instead of recursion."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        self.value: Json = None
        self.marks: Marks = None
        self.problems: list[Problem] = []
        self._anchors: dict[str, tuple[Json, Marks, int] | None] = {}
        self._aliased = 0
        self._nodes = 0

    def build(self) -> None:
        try:
            self._run(_Parser(self.text))
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
        except yaml.reader.ReaderError as error:
            before = self.text[: error.position]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            message = f"the character U+{int(error.character):04X} is not allowed in YAML"
            self.problems.append(problem_at(self.path, self.text, line, column, message))

    def _run(self, parser: Any) -> None:
        next_event = parser.get_event
        scalar, mapping, sequence = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
        mapping_end, sequence_end, alias = yaml.MappingEndEvent, yaml.SequenceEndEvent, yaml.AliasEvent
        stack: list[tuple[Any, ...]] = []
        # The open container: value, children's marks, is it a mapping, its anchor and first node.
        values: Any = None
        places: Any = None
        in_mapping = False
        key: Any = None
        key_mark: Any = None
        documents = 0
        while (event := next_event()) is not None:
            kind = type(event)
            if kind is scalar:
                mark = event.start_mark
                plain = event.implicit[0]
                value = event.value
                if event.tag is not None and event.tag not in _STANDARD_TAGS:
                    self._tag(event)
                elif plain and (not value or value[0] in _FIRST_OF_OTHERS):
                    value = self._plain(value, mark)
                node = mark
                self._nodes += 1
                if event.anchor:
                    self._anchors[event.anchor] = (value, node, 1)
            elif kind is mapping or kind is sequence:
                if event.tag is not None and event.tag not in _STANDARD_TAGS:
                    self._tag(event)
                if event.anchor:
                    self._anchors[event.anchor] = None
                if len(stack) >= MAX_DEPTH:
                    self._at(event.start_mark, f"nested more than {MAX_DEPTH} levels deep")
                    return
                stack.append((values, places, in_mapping, key, key_mark, event, self._nodes))
                in_mapping = kind is mapping
                values, places = ({}, {}) if in_mapping else ([], [])
                key = key_mark = None
                self._nodes += 1
                continue
            elif kind is mapping_end or kind is sequence_end:
                value, children = values, places
                values, places, in_mapping, key, key_mark, opened, first = stack.pop()
                node = (opened.start_mark, children)
                if opened.anchor:
                    self._anchors[opened.anchor] = (value, node, self._nodes - first)
            elif kind is alias:
                mark = event.start_mark
                value, node = self._alias(event.anchor, mark)
                if self._aliased > MAX_ALIASED_NODES:
                    message = f"aliases expand to more than {MAX_ALIASED_NODES:,} values"
                    self._at(mark, message, hint="write the values out, or use a data file")
                    return
            else:
                if kind is yaml.DocumentStartEvent:
                    documents += 1
                    if documents == 2:
                        message = "a second document starts here; a file holds one"
                        self._at(event.start_mark, message, hint="put it into a file of its own")
                        return
                continue
            if values is None:
                self.value, self.marks = value, node
            elif not in_mapping:
                values.append(value)
                places.append(node)
            elif key_mark is None:
                key, key_mark = value, node[0] if type(node) is tuple else node
                if type(key) is not str:
                    self._key(key, key_mark, event)
                    key = str(key)
                elif key == "<<" and kind is scalar and plain:
                    self._at(key_mark, "merge keys (`<<`) are not supported", hint="write them out")
                elif key in values:
                    first = places[key][0].line + 1
                    message = f"the key `{key}` is written twice (first on line {first})"
                    self._at(key_mark, message, hint="keep one of them", rule="duplicate-key")
            else:
                values[key] = value
                places[key] = (key_mark, node)
                key_mark = None

    def _plain(self, text: str, mark: Any) -> Json:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.match(text):
            return int(text) if len(text) < 400 else text
        if _FLOAT.match(text) and any(character.isdigit() for character in text.lstrip("+-.")[:1]):
            number = float(text)
            if math.isfinite(number):
                return number
            self._at(mark, f"`{text}` is larger than a JSON number can be")
        if replacement := _YAML_11_BOOLEANS.get(text.lower()):
            message = f"`{text}` is a boolean to YAML 1.1 and a string to YAML 1.2"
            self._at(mark, message, hint=f'write `{replacement}`, or quote it: "{text}"')
        for pattern, what in _AMBIGUOUS:
            if pattern.match(text):
                self._at(mark, f"`{text}` is {what}", hint=f'if it is text, quote it: "{text}"')
        return text

    def _alias(self, name: str, mark: Any) -> tuple[Json, Marks]:
        found = self._anchors.get(name)
        if found is None:
            what = "contains itself" if name in self._anchors else "is not defined before this"
            self._at(mark, f"the anchor `{name}` {what}")
            return None, mark
        self._aliased += found[2]
        self._nodes += found[2]
        return found[0], found[1]

    def _tag(self, event: Any) -> None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        self._at(event.start_mark, f"the tag `{tag}` is not allowed", hint="write plain JSON values")

    def _key(self, key: Json, mark: Any, event: Any) -> None:
        if isinstance(key, dict | list):
            self._at(mark, "a key must be a string", hint=None)
        else:
            text = getattr(event, "value", key)
            self._at(mark, f"the key `{text}` is not a string", hint=f'quote it: "{text}"')

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        message, hint = str(error.problem or error), None
        if "\t" in line_of(self.text, mark.line + 1)[: mark.column + 1] or "'\\t'" in message:
            message, hint = "a tab is used for indentation", "YAML wants spaces; use two a level"
        elif "mapping values are not allowed" in message:
            hint = "quote the value if it has a colon in it"
        elif error.context:
            message = f"{message} ({error.context} on line {error.context_mark.line + 1})"
        self._at(mark, message, hint=hint, rule="yaml")

    def _at(self, mark: Any, message: str, *, hint: str | None = None, rule: str = "yaml") -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            return
        line, column = mark.line + 1, mark.column + 1
        self.problems.append(
            problem_at(self.path, self.text, line, column, message, hint=hint, rule=rule)
        )
