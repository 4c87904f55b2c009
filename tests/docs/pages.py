"""The pages of the documentation as a reader follows them: fences, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SKILL = ROOT / "runner/output/templates/skill.md"
PAGES = [ROOT / "README.md", SKILL, *sorted(DOCS.rglob("*.md"))]
HOW_TOS = [page for page in PAGES if page.parent.name == "how-to"]

_BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=fence)[ ]*$"
    r"|^<!-- sandbox: (?P<meanwhile>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
_STEPS = re.compile(r"^- .*\brun:", re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Fence:
    """`title`: the file that the reader is told to write.

    A comment `<!-- sandbox: command -->` is a fence of the language `meanwhile`: what happens in
    the reader's world, but not in their terminal, such as setting a database's password.
    """

    language: str
    title: str | None
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[Fence]:
    text = page.read_text("utf-8")
    found = []
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block["meanwhile"]:
            found.append(Fence("meanwhile", None, f"{block['meanwhile']}\n", line))
            continue
        title = _TITLE.search(block["info"])
        language = block["info"].split()[0] if block["info"].split() else ""
        found.append(Fence(language, title[1] if title else None, block["text"], line))
        if language == "yaml" and _STEPS.search(block["text"]):
            found += [Fence("sh", None, step, line) for step in _steps(block["text"])]
    return found


def _steps(text: str) -> Iterator[str]:
    """Generate the commands of a workflow's steps; `test_workflows.py` runs whole workflows."""
    value: Any = yaml.safe_load(text)
    for step in value if isinstance(value, list) else []:
        if "run" in step:
            yield f"{step['run']}\n"
