"""Problems where GitHub looks for them: annotations of lines, and SARIF for code scanning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import quote

from runner.model import Problem
from runner.output.escape import visible
from runner.version import __version__

MOST_OF_A_LEVEL = 10  # annotations that GitHub shows of a step: it hides the others silently
MOST_RESULTS = 25_000  # results that GitHub takes in one SARIF file
_LEVELS = ("error", "warning")


def annotations_of(problems: Iterable[Problem]) -> list[str]:
    """``::error file=,line=,col=::message``, errors first; what GitHub would hide is counted."""
    problems = list(problems)
    lines, hidden = [], 0
    for level in _LEVELS:
        of_level = [problem for problem in problems if problem.severity == level]
        lines += [_annotation(problem) for problem in of_level[:MOST_OF_A_LEVEL]]
        hidden += max(0, len(of_level) - MOST_OF_A_LEVEL)
    if hidden:
        lines.append(f"::notice::+{hidden:,} more: `backfill validate` shows them all")
    return lines


def sarif(problems: Sequence[Problem]) -> dict[str, object]:
    """SARIF 2.1.0: one run, a result for each problem, errors first."""
    ranked = sorted(problems, key=lambda problem: _LEVELS.index(problem.severity))
    rules = list(dict.fromkeys(problem.rule for problem in ranked))
    driver = {
        "name": "backfill",
        "version": __version__,
        "rules": [{"id": rule} for rule in rules],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, rules) for problem in ranked[:MOST_RESULTS]],
            }
        ],
    }


def _annotation(problem: Problem) -> str:
    place = {"file": problem.path, "line": problem.line, "col": problem.column}
    given = ",".join(f"{key}={_property(value)}" for key, value in place.items() if value)
    return f"::{problem.severity} {given}::{_data(_text(problem))}"


def _result(problem: Problem, rules: Sequence[str]) -> dict[str, object]:
    location: dict[str, object] = {
        "artifactLocation": {"uri": quote(PurePath(problem.path).as_posix())},
    }
    if problem.line:
        start = {"startLine": problem.line, "startColumn": problem.column}
        location["region"] = {key: value for key, value in start.items() if value}
    return {
        "ruleId": problem.rule,
        "ruleIndex": rules.index(problem.rule),
        "level": problem.severity,
        "message": {"text": _text(problem)},
        "locations": [{"physicalLocation": location}],
    }


def _text(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return visible(f"{problem.message}{hint}")


def _data(text: str) -> str:
    """As the runner of Actions reads it: a line end would begin a command of its own."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _data(visible(str(value))).replace(":", "%3A").replace(",", "%2C")
