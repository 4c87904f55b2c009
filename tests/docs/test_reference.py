"""The reference pages in the repository are what the program says, so that GitHub shows them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

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
