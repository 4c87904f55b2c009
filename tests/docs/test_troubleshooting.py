"""The messages that the troubleshooting page explains are the program's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "troubleshooting.md").read_text("utf-8")
SAID = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="session")
def texts() -> str:
    """Return every text of the program, with `…` for values."""
    files = [*ROOT.glob("runner/**/*.py")]
    return "\n".join(text for file in files for text in _texts(ast.parse(file.read_text("utf-8"))))


@pytest.mark.parametrize("message", SAID)
def test_a_message_is_one_of_the_programs(message: str, texts: str) -> None:
    assert message in texts


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
