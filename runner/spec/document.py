"""A parsed file that keeps the position of every value, for messages with ``file:line:column``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from runner.model import Json, Problem, Severity, frozen
from runner.spec.secrets import redact

Path: TypeAlias = Sequence[str | int]

# A mark is libyaml's (line and column from 0). The tree of marks mirrors the value: a scalar is its
# mark; a list is (mark, [child, ...]); a mapping is (mark, {key: (key mark, child)}).
Marks: TypeAlias = Any

_LONGEST_LINE = 640
_LONGEST_ECHO = 60
_LONGEST_WORD = 100


@frozen
class Document:
    """`text` is the file's text with secrets masked, for excerpts."""

    path: str
    text: str
    value: Json
    marks: Marks
    nodes: int = 0  # number of keys and values; a long text counts as several
    whole_decimals: bool = False  # whether a number is written like 2.0

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Return line and column, from 1, of the value at `path` (or of its key).

        A path that does not exist gives the deepest place that does.
        """
        node, mark = self.marks, None
        for step in path:
            if not isinstance(node, tuple):
                break
            children = node[1]
            if isinstance(children, dict) and step in children:
                mark, node = children[step]
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                mark, node = None, children[step]
            else:
                mark = None
                break
        if not key or mark is None:
            mark = node[0] if isinstance(node, tuple) else node
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)

    def problem(
        self,
        message: str,
        path: Path = (),
        *,
        key: bool = False,
        hint: str | None = None,
        severity: Severity = "error",
        rule: str = "plan",
    ) -> Problem:
        line, column = self.position(path, key=key)
        return problem_at(
            self.path, self.text, line, column, message, hint=hint, severity=severity, rule=rule
        )


def problem_at(
    path: str,
    text: str,
    line: int,
    column: int,
    message: str,
    *,
    hint: str | None = None,
    severity: Severity = "error",
    rule: str = "plan",
) -> Problem:
    """Make a problem at a 1-based position of `text`, with that line as excerpt, secrets masked."""
    source = redact(line_of(text, line, at_least=column)) or None
    return Problem(
        redact(message), path, line, column, source, hint and redact(hint), severity, rule
    )


def line_of(text: str, number: int, *, at_least: int = 0) -> str:
    """Return the 1-based line of `text`, or '' past its end; cut a long one after `at_least`."""
    start = 0
    for _ in range(number - 1):
        start = text.find("\n", start) + 1
        if not start:
            return ""
    end = text.find("\n", start)
    longest = max(_LONGEST_LINE, at_least + _LONGEST_ECHO)
    if longest > 100 * _LONGEST_LINE:
        return ""
    return text[start : end if end >= 0 else None][:longest].rstrip("\r")


def ranked(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort errors before warnings, then by their place in the files; drop duplicates."""
    once = list(dict.fromkeys(problems))
    first: dict[str, int] = {}
    for problem in once:
        first.setdefault(problem.path, len(first))
    return tuple(
        sorted(once, key=lambda p: (p.severity, first[p.path], p.line or 0, p.column or 0))
    )


def echo(value: Json) -> str:
    """Quote a user's value for a message: secrets masked, and shortened."""
    if isinstance(value, str):
        text = redact(value) if len(value) < 100 * _LONGEST_ECHO else value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return f"`{text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + '…'}`"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a suggestion for a mistyped word, or None if nothing is close."""
    if len(word) > _LONGEST_WORD:
        return None
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1)
    return f"did you mean `{names[near[0]]}`?" if near else None
