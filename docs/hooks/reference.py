"""Writes the generated parts of the reference pages, from `<!-- generated: plan -->` to
`<!-- end -->`: `python docs/hooks/reference.py`.

Schemas, commands, the built-in catalog, warnings and errors are told in one place, the program;
tests/docs/test_reference.py holds the pages to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from runner import errors
from runner.cli.main import status_of_kind
from runner.cli.skill import help_of_all
from runner.output.reference import cell, schema_reference
from runner.spec.schema import schema_text
from runner.spec.warnings import WARNINGS

PAGES = Path(__file__).parents[1] / "reference"
_PART = re.compile(r"^<!-- generated: ([a-z-]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)


def filled(markdown: str) -> str:
    """A page with what the program says now."""

    def part(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n\n{GENERATED[found[1]]()}\n\n<!-- end -->"

    return _PART.sub(part, markdown)


def operations_reference(catalog: Mapping[str, Any]) -> str:
    """Each operation of a catalog with its event, its payload and the payload's contract."""
    return "\n\n".join(
        part for name, entry in catalog["operations"].items() for part in _operation(name, entry)
    )


def _operation(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield f"{entry['description']}."
    told = {key: value for key, value in entry.items() if key not in ("description", "contract")}
    yield _block(told)
    yield "Its contract, which every payload must meet before anything is sent:"
    yield _block(entry["contract"])


def _block(value: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None)
    return f"```yaml\n{text}```"


def exit_statuses(module: Any) -> str:
    """The tree of the error classes by status, with the words that its docstring has for each."""
    rows = ["| status | error | what it means |", "|--:|---|---|", "| 0 | | done |"]
    tree = re.findall(r"─ (\w+) +(\d+) +(.+)", module.__doc__)
    above = ""
    for name, status, words in tree:
        if status_of_kind(getattr(module, name)) != int(status):
            raise ValueError(f"the tree of errors says {status} of {name}")
        above = above if words.startswith("...") else words
        meaning = words.replace("...", above)
        rows.append(f"| {status} | `{name}` | {cell(meaning)} |")
    return "\n".join(rows)


def _schema(name: str) -> Callable[[], str]:
    return lambda: schema_reference(json.loads(schema_text(f"{name}.v1")))


def _builtin() -> str:
    text = (files("runner") / "catalogs" / "builtin.yaml").read_text("utf-8")
    return operations_reference(yaml.safe_load(text))


def _warnings() -> str:
    rows = (f"| `{name}` | {cell(meaning)} |" for name, meaning in sorted(WARNINGS.items()))
    return "\n".join(["| name | what it means |", "|---|---|", *rows])


GENERATED: Mapping[str, Callable[[], str]] = {
    "plan": _schema("plan"),
    "catalog": _schema("catalog"),
    "project": _schema("project"),
    "operations": _builtin,
    "exit-statuses": lambda: exit_statuses(errors),
    "warnings": _warnings,
    "commands": help_of_all,
}

if __name__ == "__main__":
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text("utf-8")
        page.write_text(filled(text), "utf-8")
