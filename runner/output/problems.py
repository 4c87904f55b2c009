"""Problems, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.model import Problem
from runner.output.colors import styled
from runner.output.escape import columns, shortened, visible

_COLORS = {"error": "red", "warning": "yellow"}
_EXCERPT = 68  # columns of a source line that are shown


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
        severity = styled(severity, _COLORS[problem.severity], bold=True)
    lines = [f"{visible(':'.join(place))}: {severity} {visible(problem.message)}"]
    if problem.source is not None and problem.line is not None:
        lines += _excerpt(problem.line, problem.column or 1, problem.source)
    if problem.hint:
        lines.append(f"   hint: {visible(problem.hint)}")
    return "\n".join(lines)


def _excerpt(line: int, column: int, source: str) -> list[str]:
    """The source line with a caret under the column; a long one is cut around it."""
    text = source.replace("\t", " ")
    before, after = visible(text[: column - 1]), visible(text[column - 1 :])
    if columns(before + after) > _EXCERPT:
        # Cut from the left by reversing: `shortened` cuts on the right.
        before = shortened(before[::-1], _EXCERPT // 2)[::-1]
        after = shortened(after, _EXCERPT - columns(before))
    number, caret = f"{line:>5}", " " * columns(before)
    return [f"{number} | {before}{after}", f"{' ' * len(number)} | {caret}^"]


def _count(problems: Sequence[Problem]) -> str:
    counts = []
    for severity in ("error", "warning"):
        number = sum(problem.severity == severity for problem in problems)
        if number:
            counts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return ", ".join(counts)
