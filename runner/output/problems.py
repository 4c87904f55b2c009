"""Problems, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from runner.model import Problem
from runner.output.escape import visible

_COLORS = {"error": "red", "warning": "yellow"}
_EXCERPT = 72  # columns of a source line that are shown


def format_problems(problems: Iterable[Problem], *, color: bool) -> str:
    """Each problem as ``file:line:column: severity: message``, its line, a caret, and its hint."""
    problems = list(problems)
    blocks = [_block(problem, color=color) for problem in problems]
    return "\n".join([*blocks, _count(problems)])


def problems_json(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [
        {
            "severity": problem.severity,
            "message": problem.message,
            "path": problem.path,
            "line": problem.line,
            "column": problem.column,
            "hint": problem.hint,
            "rule": problem.rule,
        }
        for problem in problems
    ]


def _block(problem: Problem, *, color: bool) -> str:
    place = [problem.path, *[str(n) for n in (problem.line, problem.column) if n is not None]]
    severity = f"{problem.severity}:"
    if color:
        severity = click.style(severity, fg=_COLORS[problem.severity], bold=True)
    lines = [f"{visible(':'.join(place))}: {severity} {visible(problem.message)}"]
    if problem.source is not None and problem.line is not None:
        lines += _excerpt(problem.line, problem.column or 1, problem.source)
    if problem.hint:
        lines.append(f"   hint: {visible(problem.hint)}")
    return "\n".join(lines)


def _excerpt(line: int, column: int, source: str) -> list[str]:
    """The source line with a caret under the column; a long one is cut around it."""
    text, index = source.replace("\t", " "), column - 1
    start = max(0, index - _EXCERPT // 2) if len(text) > _EXCERPT else 0
    cut = text[start : start + _EXCERPT]
    before, after = visible(cut[: index - start]), visible(cut[index - start :])
    lead = "…" if start else ""
    tail = "…" if start + _EXCERPT < len(text) else ""
    number = f"{line:>5}"
    caret = " " * (len(lead) + len(before))
    return [f"{number} | {lead}{before}{after}{tail}", f"{' ' * len(number)} | {caret}^"]


def _count(problems: Sequence[Problem]) -> str:
    counts = []
    for severity in ("error", "warning"):
        number = sum(problem.severity == severity for problem in problems)
        if number:
            counts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return ", ".join(counts)
