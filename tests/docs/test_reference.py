"""The reference pages in the repository are what the program says, so that GitHub shows them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.output.reference import schema_reference
from tests.docs.pages import ROOT

HOOK = ROOT / "docs/hooks/reference.py"
PAGES = sorted((ROOT / "docs/reference").glob("*.md"))
GENERATED = [page for page in PAGES if "<!-- generated: " in page.read_text("utf-8")]


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.name)
def test_a_generated_page_is_what_the_program_says(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python docs/hooks/reference.py` writes them."""
    spec = importlib.util.spec_from_file_location("reference", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    text = page.read_text("utf-8")
    assert text.count("\n") > 30
    assert module.filled(text) == text


def test_the_pages_of_all_schemas_commands_warnings_and_errors_are_generated() -> None:
    assert {"plan", "catalog", "project", "operations", "cli", "warnings", "exit-statuses"} <= {
        page.stem for page in GENERATED
    }


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"not": {}}, "not allowed"),
        ({"type": "string", "not": {"pattern": "^x/"}}, "text"),
        (
            {"type": ["integer", "boolean"], "minimum": 2, "maximum": 9, "not": {"const": True}},
            "whole number, 2 to 9 or `false`",
        ),
        ({"type": "boolean"}, "`true` or `false`"),
    ],
)
def test_a_key_is_written_as_its_schema_allows(node: dict[str, Any], words: str) -> None:
    page = schema_reference({"description": "", "properties": {"key": node}})
    assert f"| {words} |" in page
