"""Strict YAML on libyaml's parser: one pass over its events builds the value and its marks.

Strict means: only JSON values, and nothing that YAML 1.1 reads differently than it looks
(``no``, ``on``, ``2024-01-01``, ``010``, ``1:30``). Such a value is a problem, never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import yaml

from runner.model import Json, Problem
from runner.spec.document import Document, Marks, echo, line_of, problem_at
from runner.spec.file_text import decode, excerpts, key_problems
from runner.spec.json_limits import MAX_DEPTH, fits
from runner.spec.secrets import find, mask

try:
    from yaml.cyaml import CParser as _Parser  # type: ignore[attr-defined]
except ImportError as missing:  # PyYAML built from source without libyaml
    raise ImportError("PyYAML has no libyaml here; install its wheel from PyPI") from missing

MAX_ALIASED_NODES = 100_000
MAX_NODES = 1_000_000  # keys and values in all YAML files of a plan; each takes microseconds
_TEXT_OF_A_NODE = 100  # characters of a long text that count as one more value
MAX_PROBLEMS = 100
_LONGEST_INTEGER = 40  # digits, far more than 64 bits need

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_YAML_11_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_FIRST_OF_OTHERS = frozenset("0123456789+-.~nNtTfFyYoO")  # a text that starts otherwise is a string
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")
_AMBIGUOUS = (
    (
        re.compile(r"[-+]?0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?\Z"),
        "a number with a leading zero, which YAML 1.1 reads as octal",
    ),
    (re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+\Z"), "a number that is not written in decimal"),
    (re.compile(r"[-+]?[0-9.]+_[0-9_.]*([eE][-+]?[0-9]+)?\Z"), "a number with underscores"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?\Z"), "a date, which JSON does not have"),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?\Z"),
        "a number in base 60 to YAML 1.1",
    ),
    (re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"), "not a JSON number"),
)
# In YAML 1.1 the name ends before these characters; in YAML 1.2 they belong to it.
_ANCHOR_GOES_ON = re.compile(r"(?:!\S*\s+(?:#[^\n]*\n\s*)*)?[&*]([0-9A-Za-z_-]+)[?:]")
_TOO_DEEP = f"values are nested more than {MAX_DEPTH} levels deep"
TOO_MANY = f"the YAML has more than {MAX_NODES:,} keys and values"
MANY_HINT = "keep the repositories in a .csv or .jsonl file, which is streamed"
_OMITTED: Any = object()  # replaces a refused key, whose value is dropped
_STANDARD_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")}


@lru_cache(maxsize=8)
def parse(
    raw: bytes, path: str, keys: frozenset[str] = frozenset()
) -> tuple[Document, Sequence[Problem], Sequence[str]]:
    """Parse a file: return the document, its problems, and the secrets found in it.

    `keys`: keys of the file's form that YAML 1.1 takes for something else; as keys they are not
    ambiguous.

    After a syntax error the document's value is None. Results are cached: a file is first checked
    for being a catalog, and a catalog is read for each of its plans.
    """
    text, problem = decode(raw, path)
    if problem:
        return Document(path, text, None, None), [problem], []
    spans = find(text)
    builder = _Builder(path, text, excerpts(mask(text, spans)), keys)
    builder.build()
    secrets = [text[start:end] for start, end in spans]
    document = Document(
        path,
        builder.shown,
        builder.value,
        builder.marks,
        builder.nodes,
        builder.whole_decimals,
    )
    return document, [*builder.problems, *key_problems(path, builder.shown, spans)], secrets


class _Builder:
    """Builds value and marks from parser events, with an explicit stack instead of recursion."""

    def __init__(self, path: str, text: str, shown: str, keys: frozenset[str]) -> None:
        self.path, self.text, self.shown, self._keys = path, text, shown, keys
        self.value: Json = None
        self.marks: Marks = None
        self.problems: list[Problem] = []
        self._anchors: dict[str, tuple[Json, Marks, int, int] | None] = {}
        self._aliased = 0
        self.nodes = 0
        self.whole_decimals = False
        self._omitted = False

    def build(self) -> None:
        try:
            self._run(_Parser(self.text))
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
        except yaml.reader.ReaderError as error:
            before = self.text.encode()[: error.position].decode(errors="ignore")
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            message = f"the character U+{int(error.character):04X} is not allowed in YAML"
            hint = 'write it as an escape in double quotes, as in "\\x01", or remove it'
            self.problems.append(
                problem_at(self.path, self.shown, line, column, message, hint=hint, rule="yaml")
            )

    def _run(self, parser: Any) -> None:  # noqa: C901 - one hot loop: calls would double its time
        next_event = parser.get_event
        scalar, mapping, sequence = (
            yaml.ScalarEvent,
            yaml.MappingStartEvent,
            yaml.SequenceStartEvent,
        )
        mapping_end, sequence_end, alias = (
            yaml.MappingEndEvent,
            yaml.SequenceEndEvent,
            yaml.AliasEvent,
        )
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
            if self.nodes > MAX_NODES:
                self._at(event.start_mark, TOO_MANY, hint=MANY_HINT, rule="too-large")
                return
            if kind is scalar:
                mark = event.start_mark
                plain = event.implicit[0]
                value = event.value
                if event.tag is not None and event.tag not in _STANDARD_TAGS:
                    self._tag(event)
                elif (
                    plain
                    and (not value or value[0] in _FIRST_OF_OTHERS)
                    and not (value in self._keys and in_mapping and key_mark is None)
                ):
                    value = self._plain(value, mark)
                node = mark
                size = 1 + len(event.value) // _TEXT_OF_A_NODE
                self.nodes += size
                if event.anchor:
                    self._name(mark)
                    self._anchors[event.anchor] = value, node, size, 0
            elif kind is mapping or kind is sequence:
                if event.tag is not None and event.tag not in _STANDARD_TAGS:
                    self._tag(event)
                if event.anchor:
                    self._name(event.start_mark)
                    self._anchors[event.anchor] = None
                if len(stack) >= MAX_DEPTH:
                    self._at(event.start_mark, _TOO_DEEP)
                    return
                stack.append((values, places, in_mapping, key, key_mark, event, self.nodes))
                in_mapping = kind is mapping
                values, places = ({}, {}) if in_mapping else ([], [])
                key = key_mark = None
                self.nodes += 1
                continue
            elif kind is mapping_end or kind is sequence_end:
                value, children = values, places
                values, places, in_mapping, key, key_mark, opened, first = stack.pop()
                node = (opened.start_mark, children)
                if self._omitted and kind is mapping_end and _OMITTED in value:
                    del value[_OMITTED], children[_OMITTED]
                if opened.anchor:
                    size, height = self.nodes - first, _height(value, {})
                    self._anchors[opened.anchor] = (value, node, size, height)
            elif kind is alias:
                mark = event.start_mark
                self._name(mark)
                value, node = self._alias(event.anchor, mark)
                if self._aliased > MAX_ALIASED_NODES:
                    message = f"aliases expand to more than {MAX_ALIASED_NODES:,} values"
                    self._at(mark, message, hint="write the values out, or use a data file")
                    return
                if len(stack) + self._height_of(event.anchor) > MAX_DEPTH:
                    self._at(mark, _TOO_DEEP)
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
                if type(key) is not str or (key == "<<" and kind is scalar and plain):
                    self._refuse_key(key, key_mark, event)
                    key = _OMITTED
                elif key in values:
                    first = places[key][0].line + 1
                    message = f"the key {echo(key)} is written twice (first on line {first})"
                    self._at(key_mark, message, hint="keep one of them", rule="duplicate-key")
            else:
                values[key] = value
                places[key] = (key_mark, node)
                key_mark = None

    def _plain(self, text: str, mark: Any) -> Json:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] > "9":  # a letter: no number
            if replacement := _YAML_11_BOOLEANS.get(text.lower()):
                message = f"`{text}` is a boolean in YAML 1.1 and a string in YAML 1.2"
                self._at(mark, message, hint=f'write `{replacement}`, or quote it: "{text}"')
        elif _INTEGER.match(text):
            if len(text) < _LONGEST_INTEGER and fits(number := int(text)):
                return number
            self._quote(mark, text, "a number that does not fit into 64 bits")
        elif _FLOAT.match(text) and text.lstrip("+-.")[:1].isdigit():
            if math.isfinite(decimal := float(text)):
                self.whole_decimals |= decimal.is_integer()
                return decimal
            self._quote(mark, text, "too large for a JSON number")
        else:
            for pattern, what in _AMBIGUOUS:
                if pattern.match(text):
                    self._quote(mark, text, what)
                    break
        return text

    def _quote(self, mark: Any, text: str, what: str) -> None:
        hint = f'if it is text, quote it: "{text}"' if len(text) < _LONGEST_INTEGER else None
        self._at(mark, f"{echo(text)} is {what}", hint=hint)

    def _name(self, mark: Any) -> None:
        """Refuse an anchor's name that YAML 1.2 would read as longer."""
        if found := _ANCHOR_GOES_ON.match(self.text, mark.index):
            message = f"the name {echo(found[1])} ends here in YAML 1.1 and goes on in YAML 1.2"
            self._at(mark, message, hint="write a space after the name")

    def _alias(self, name: str, mark: Any) -> tuple[Json, Marks]:
        found = self._anchors.get(name)
        if found is None:
            what = "contains itself" if name in self._anchors else "is not defined before this"
            self._at(mark, f"the anchor {echo(name)} {what}", hint="write the value out")
            return None, mark
        self._aliased += found[2]
        self.nodes += found[2]
        return found[0], found[1]

    def _height_of(self, name: str) -> int:
        found = self._anchors.get(name)
        return found[3] if found else 0

    def _tag(self, event: Any) -> None:
        tag = echo(str(event.tag).replace("tag:yaml.org,2002:", "!!"))
        self._at(event.start_mark, f"the tag {tag} is not allowed", hint="write plain JSON values")

    def _refuse_key(self, key: Json, mark: Any, event: Any) -> None:
        self._omitted = True
        if key == "<<":
            self._at(mark, "merge keys (`<<`) are not supported", hint="write the keys out")
        elif not isinstance(key, dict | list):
            text = str(getattr(event, "value", key))
            self._at(mark, f"the key {echo(text)} is not a string", hint=f'quote it: "{text[:60]}"')
        elif line_of(self.text, mark.line + 1)[max(0, mark.column - 1) :].startswith("{{"):
            hint = 'quote a value that begins with a template: "{{ vars.name }}"'
            self._at(mark, "`{{` begins a mapping in YAML", hint=hint)
        else:
            self._at(mark, "a key must be a string, not a list or a mapping")

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark: Any = error.problem_mark or error.context_mark
        message, hint = str(error.problem or error), None
        line = line_of(self.text, mark.line + 1, at_least=mark.column + 1)
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent or "'\\t'" in message or line[mark.column :].startswith("\t"):
            message, hint = "a tab is used for indentation", "indent with spaces, two a level"
        elif "nesting depth" in message:  # some parsers have a limit of their own
            message = _TOO_DEEP
        elif "mapping values are not allowed" in message:
            hint = "quote the value if it has a colon in it"
        elif error.context:
            opened = error.context_mark.line + 1 if error.context_mark else mark.line + 1
            message = f"{message} ({error.context} on line {opened})"
        self._at(mark, message, hint=hint)

    def _at(self, mark: Any, message: str, *, hint: str | None = None, rule: str = "yaml") -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            return
        line, column = mark.line + 1, mark.column + 1
        self.problems.append(
            problem_at(self.path, self.shown, line, column, message, hint=hint, rule=rule)
        )


def _height(value: Json, known: dict[int, int]) -> int:
    """Return the depth of lists and mappings in `value`; shared parts are measured once."""
    if not isinstance(value, dict | list) or not value:
        return int(isinstance(value, dict | list))
    if id(value) not in known:
        members = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + max(_height(member, known) for member in members)
    return known[id(value)]
