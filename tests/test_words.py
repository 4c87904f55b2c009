"""One word a thing: docs/words.md explains each, and words that were retired do not come back."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = ROOT / "docs/words.md"
# What was retired, and the word for it.
RETIRED = {
    r"portions?": "step",
    r"handed[ _]over|hands?[ _]over": "submitted",
    r"carried": "driven",
    r"sightings?": "observation",
    r"lookers?": "poller",
    r"questioners?": "query runner",
    r"seal(?:s|ed)?": "checksum, digest, event blocks",
    r"mend(?:s|ed)?": "hint",
    r"left out by": "skipped by",
    r"orders? (?:from|to) (?:anywhere|a run)": "control request",
}
_WORD = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(RETIRED)})(?![A-Za-z])", re.IGNORECASE)


def texts() -> Iterator[tuple[str, str]]:
    """All that people read: pages, help, messages, descriptions, and the code itself."""
    for pattern in ("*.md", "docs/**/*.md", "plans/**/*", "runner/**/*", "schemas/*.json"):
        for path in sorted(ROOT.glob(pattern)):
            if path.suffix in {".md", ".py", ".yaml", ".json", ".html", ".js"} and path.is_file():
                yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def test_retired_words_do_not_come_back() -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts()
        if name != "CHANGELOG.md"
        for match in _WORD.finditer(text)
    ]
    assert found == []


_WITHOUT_RUN = re.compile(r"`backfill (?:cancel|pause|resume|retry|tune)`")


def test_messages_name_no_command_that_is_refused_as_it_stands() -> None:
    """These commands need a run; help, which explains them, may name them alone."""
    found = []
    for path in sorted((ROOT / "runner").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(tree) if isinstance(node, owners) and node.body]
        explained = {id(one.value) for node in nodes if isinstance(one := node.body[0], ast.Expr)}
        found += [
            f"{path.name}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in explained and _WITHOUT_RUN.search(node.value)
        ]
    assert found == []


# What is counted, and figures that are never 1: bounds (in capitals), rates, what is too many.
_NOUNS = """answers|attempts|batches|cases|cells|changes|characters|checks|columns|events|files|ids
|functions|items|jobs|points|plans|problems|questions|repositories|requests|retries|rounds|rows|runs
|samples|schedules|stages|tests|values|warnings|workers""".replace("\n", "")
_COUNTS = re.compile(rf" (?:\w+ )?(?:{_NOUNS})\b(?!, more than )")
_NEVER_ONE = re.compile(r"(?:^|\.)_?[A-Z_]+\b|\.(?:ends|rate|rows)$|^len\((?:whole|found)\)$| \+ ")


def counted_by_hand(source: str) -> Iterator[tuple[int, str]]:
    """Figures before a plural, and endings chosen for 1, outside `runner.spec.units.counted`."""
    several = set[ast.AST]()  # texts that are not chosen for 1
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.IfExp) and ast.unparse(node.test).endswith((" == 1", " != 1")):
            several.add(node.orelse)
            if isinstance(node.body, ast.Constant) and node.body.value in ("", "s"):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.JoinedStr) and node not in several:
            for figure, text in pairwise(node.values):
                if isinstance(figure, ast.FormattedValue) and isinstance(text, ast.Constant):
                    shown, after = ast.unparse(figure.value), str(text.value)
                    counts = figure.format_spec is not None and _COUNTS.match(after)
                    if counts and not _NEVER_ONE.search(shown):
                        yield node.lineno, f"{{{shown}}}{after}"


def test_a_figure_agrees_with_what_it_counts() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sorted(ROOT.glob("runner/**/*.py"))
        for line, what in counted_by_hand(path.read_text("utf-8"))
    ]
    assert found == []


def explained() -> Counter[str]:
    """The words in bold at the beginning of a row."""
    rows = re.findall(r"^\| (\*\*.+?) \|", WORDS.read_text("utf-8"), re.MULTILINE)
    return Counter(word for row in rows for word in re.findall(r"\*\*(.+?)\*\*", row))


@pytest.mark.parametrize(
    "word",
    [
        *("item", "event", "row", "plan file", "execution plan", "saved plan", "stage", "batch"),
        *("catalog", "operation", "collection", "run", "job", "outcome", "target", "environment"),
        *("state", "journal", "ledger", "check", "coverage", "lookup", "hint", "digest"),
    ],
)
def test_each_word_is_explained_once(word: str) -> None:
    assert explained()[word] == 1


def test_no_word_is_explained_twice() -> None:
    assert [word for word, times in explained().items() if times > 1] == []
