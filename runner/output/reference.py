"""The keys of a published schema in Markdown: tables, and a section per nested object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SLUG = re.compile(r"[^\w\- ]")
_FORM = "form-"  # prefix of the anchors of shared forms, whose names may also be keys
_BRANCHES = ("then", "else", "anyOf")
_BESIDE = ("items", "propertyNames", "additionalProperties")


def schema_reference(schema: Mapping[str, Any]) -> str:
    """Document a schema: keys as tables, nested objects and shared forms as sections."""
    return "\n\n".join(_Pages(schema).sections())


@dataclass
class _Pages:
    schema: Mapping[str, Any]
    anchors: set[str] = field(default_factory=set)

    def sections(self) -> Iterator[str]:
        yield f"{self.schema['description']}"
        yield from self._objects(self.schema, "", 3)
        if "definitions" in self.schema:
            yield "## Shared forms"
        for name, node in self.schema.get("definitions", {}).items():
            yield from self._section(_words(name), _anchor(name), node, 3)

    def _section(self, title: str, path: str, node: Mapping[str, Any], level: int) -> Iterator[str]:
        self.anchors.add(path)
        yield f"{_mark(path, title)}{'#' * level} {title}"
        if "description" in node:
            yield str(node["description"])
        if (written := _type(node)) != "mapping":
            yield f"Written as {written}."
        if beside := _beside(node):
            yield beside
        if examples := node.get("examples"):
            yield _examples(examples)
        yield from self._objects(node, path, level + 1)

    def _objects(self, node: Mapping[str, Any], path: str, level: int) -> Iterator[str]:
        """Yield a table for each object that `node` may be, and sections for nested ones."""
        for form in _forms(node):
            if "properties" in form:
                yield self._table(form, path)
                for key, child in form["properties"].items():
                    if _nests(child):
                        inner = f"{path}.{key}".lstrip(".")
                        if inner not in self.anchors:
                            title = f"`{inner.removeprefix(_FORM)}`"
                            yield from self._section(title, inner, child, min(level, 5))

    def _table(self, form: Mapping[str, Any], path: str) -> str:
        required = form.get("required", ())
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key, node in form["properties"].items():
            inner = f"{path}.{key}".lstrip(".")
            name = f"[`{key}`](#{inner})" if _nests(node) else self._named(key, inner)
            default = "required" if key in required else _default(node)
            cells = (name, _type(node, inner), default, self._meaning(node))
            rows.append(f"| {' | '.join(cell(one) for one in cells)} |")
        return "\n".join(rows)

    def _meaning(self, node: Mapping[str, Any]) -> str:
        nests = _nests(node)
        shared = self.schema["definitions"][_shared(node)] if "$ref" in node else {}
        parts = [node.get("description") or shared.get("description", "")]
        parts.append("" if nests else _beside(node))
        if "examples" in node and not nests:
            parts.append(f"Such as {', '.join(_code(value) for value in node['examples'])}.")
        return " ".join(filter(None, parts))

    def _named(self, key: str, anchor: str) -> str:
        if anchor in self.anchors:
            return f"`{key}`"
        self.anchors.add(anchor)
        return f'<a id="{anchor}"></a>`{key}`'


def _forms(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a node may be, each alternative by itself; references have their own section."""
    yield node
    for branch in _BRANCHES:
        inner = node.get(branch, ())
        for one in inner if isinstance(inner, list) else [inner] if inner else ():
            yield from _forms(one)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), Mapping):
            yield from _forms(node[key])


def _nests(node: Mapping[str, Any]) -> bool:
    return any("properties" in form for form in _forms(node))


def _type(node: Mapping[str, Any], path: str | None = None) -> str:
    """Describe the type: `text`, a list, constants, or a link to a shared form or a section."""
    return " or ".join(dict.fromkeys(_types(node, path)))


def _types(node: Mapping[str, Any], path: str | None) -> Iterator[str]:
    if "$ref" in node:
        yield f"[{_words(_shared(node))}](#{_anchor(_shared(node))})"
    elif "const" in node or "enum" in node:
        yield from map(_code, node.get("enum", [node.get("const")]))
    elif node.get("not") == {}:
        yield "not allowed"
    elif "if" in node or "anyOf" in node:
        for one in node.get("anyOf") or (node["else"], node["then"]):
            yield from _types(one, path)
    elif "properties" in node:
        yield f"[mapping](#{path})" if path else "mapping"
    else:
        kinds = node.get("type", ())
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield _kind(kind, node, path)


def _kind(kind: str, node: Mapping[str, Any], path: str | None) -> str:
    if kind == "array":
        return f"list of {_type(node.get('items', {}), path) or 'values'}"
    if kind == "object":
        values = node.get("additionalProperties")
        of = _type(values, path) if isinstance(values, Mapping) else ""
        return f"mapping of {of.replace('mapping', 'mappings')}" if of else "mapping"
    true_or_false = "`false`" if node.get("not") == {"const": True} else "`true` or `false`"
    words = {"string": "text", "boolean": true_or_false, "integer": "whole number"}
    return words.get(kind, kind) + (_bounds(node) if kind in ("integer", "number") else "")


def _bounds(node: Mapping[str, Any]) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    return f", at least {least:,}" if least is not None else ""


def _beside(node: Mapping[str, Any]) -> str:
    """Return the descriptions of the parts of a list or mapping."""
    words = {"items": "Each:", "propertyNames": "Keys:", "additionalProperties": "Values:"}
    parts = (node.get(key) for key in _BESIDE)
    said = [
        f"{words[key]} {part['description']}"
        for key, part in zip(_BESIDE, parts, strict=True)
        if isinstance(part, Mapping) and "description" in part
    ]
    return " ".join(said)


def _default(node: Mapping[str, Any]) -> str:
    return _code(node["default"]) if "default" in node else ""


def _examples(values: Sequence[Any]) -> str:
    return "\n".join(["```yaml", *(_flow(value) for value in values), "```"])


def _flow(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=None, sort_keys=False, width=110)
    return text.removesuffix("...\n").rstrip()


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def _mark(anchor: str, title: str) -> str:
    """Return an extra anchor for a heading whose automatic anchor differs."""
    own = _SLUG.sub("", title.lower()).replace(" ", "-")
    return "" if own == anchor else f'<a id="{anchor}"></a>\n\n'


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[1].lower()}", name)


def _shared(node: Mapping[str, Any]) -> str:
    """Return the name of the definition that a node refers to."""
    return str(node["$ref"]).rpartition("/")[2]


def _anchor(name: str) -> str:
    return f"{_FORM}{_words(name).replace(' ', '-')}"
