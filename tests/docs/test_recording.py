"""What README opens with is what the program does."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path

from tests.docs.pages import ROOT

HOOK = ROOT / "docs/hooks/recording.py"


def test_the_recorded_terminal_is_what_the_quickstart_prints() -> None:
    """`python docs/hooks/recording.py` writes it."""
    spec = importlib.util.spec_from_file_location("recording", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    picture = (ROOT / "docs/images/terminal.svg").read_text("utf-8")
    words = _words(picture)
    assert _words(module.terminal()) == words
    assert "COMPLETED" in words
    assert picture.count("://") == 1, "it asks the network for nothing"


def _words(svg: str) -> list[str]:
    """Without what a version of the library may draw otherwise."""
    matrix = svg.partition("</style>")[2]
    return html.unescape(re.sub("<[^>]*>", " ", matrix)).split()


def test_readme_opens_with_both_pictures() -> None:
    opening = (ROOT / "README.md").read_text("utf-8").partition("\n## ")[0]
    for name in ("terminal.svg", "run.png"):
        assert f"docs/images/{name}" in opening
        assert Path(ROOT, "docs/images", name).stat().st_size > 1_000
