"""The pictures at the top of README show what the program does."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT

HOOK = ROOT / "docs/hooks/recording.py"


@pytest.fixture(scope="module")
def recording() -> Any:
    """The module of `python docs/hooks/recording.py`, which makes the pictures."""
    spec = importlib.util.spec_from_file_location("recording", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recorded_terminal_is_what_the_quickstart_prints(recording: Any) -> None:
    picture = (ROOT / "docs/images/terminal.svg").read_text("utf-8")
    words = _words(picture)
    assert _words(recording.terminal()) == words
    assert "COMPLETED" in words
    assert picture.count("://") == 1, "it asks the network for nothing"


def test_the_page_of_the_picture_is_labelled_as_a_page_is_now(
    recording: Any, tmp_path: Path
) -> None:
    """Only labels are compared: the figures belong to another run, and pixels differ between
    browsers."""
    page = recording.report(tmp_path, repos=20, pace=0.01)
    assert recording.labels(page) == (ROOT / "docs/images/run.txt").read_text("utf-8")
    assert "Failures" in recording.labels(page)


def _words(svg: str) -> list[str]:
    """Return the words, without what another version of the library may draw differently."""
    matrix = svg.partition("</style>")[2]
    return html.unescape(re.sub("<[^>]*>", " ", matrix)).split()


def test_readme_opens_with_both_pictures() -> None:
    opening = (ROOT / "README.md").read_text("utf-8").partition("\n## ")[0]
    for name in ("terminal.svg", "run.png"):
        assert f"docs/images/{name}" in opening
        assert Path(ROOT, "docs/images", name).stat().st_size > 1_000
