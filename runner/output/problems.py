"""Problems and findings: for people, for machines, and for GitHub.

For GitHub there are annotations of lines, and SARIF for code scanning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import quote

from runner.errors import place_of
from runner.model import Finding, Problem
from runner.output.text import columns, document, shortened, spelled, styled, visible
from runner.spec.units import counted
from runner.version import __version__

_COLORS = {"error": "red", "warning": "yellow", "accepted": "green"}
_EXCERPT = 68  # columns of a source line that are shown
_MOST = 100  # problems shown to people; machines get all


def format_problems(problems: Iterable[Problem], *, color: bool) -> str:
    """Format each problem as ``file:line:column: severity: message``, its line, and its hint."""
    problems = list(problems)
    blocks = [_block(problem, color=color) for problem in problems[:_MOST]]
    if more := len(problems) - _MOST:
        blocks += [f"... and {more:,} more"] if more > 0 else []
    return "\n".join([*blocks, _count(problems)])


def validation_json(problems: Sequence[Problem]) -> dict[str, object]:
    valid = not any(problem.severity == "error" for problem in problems)
    return document("Validation", valid=valid, problems=problems_json(problems))


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
            "accepted": problem.accepted,
        }
        for problem in problems
    ]


def kind_of(problem: Problem) -> str:
    """Return the severity, or "accepted" for a warning that the plan accepts."""
    return "accepted" if problem.accepted else problem.severity


def _block(problem: Problem, *, color: bool) -> str:
    word = kind_of(problem)
    head = styled(f"{word}:", _COLORS[word], bold=True) if color else f"{word}:"
    name = f" ({problem.rule})" if problem.severity == "warning" else ""
    lines = [f"{visible(place_of(problem))}: {head} {visible(problem.message)}{name}"]
    if problem.source is not None and problem.line is not None:
        lines += _excerpt(problem.line, problem.column or 1, problem.source)
    if problem.accepted:
        lines.append(f"   accepted: {visible(problem.accepted)}")
    elif problem.hint:
        lines.append(f"   hint: {visible(problem.hint)}")
    return "\n".join(lines)


def _excerpt(line: int, column: int, source: str) -> list[str]:
    """Return the source line with a caret under the column; cut a long line around it."""
    text = source.replace("\t", " ")
    before, after = spelled(text[: column - 1]), spelled(text[column - 1 :])
    if columns(before + after) > _EXCERPT:
        # Reverse to cut from the left: `shortened` cuts on the right.
        before = shortened(before[::-1], _EXCERPT // 2)[::-1]
        after = shortened(after, _EXCERPT - columns(before))
    number, caret = f"{line:>5}", " " * columns(before)
    return [f"{number} | {before}{after}", f"{' ' * len(number)} | {caret}^"]


def _count(problems: Sequence[Problem]) -> str:
    counts = Counter(map(kind_of, problems))
    found = [counted(counts[word], word) for word in ("error", "warning") if counts[word]]
    found += [f"{counts['accepted']} accepted"] if counts["accepted"] else []
    return ", ".join(found)


_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def findings_text(findings: Sequence[Finding], *, color: bool) -> str:
    """Format a line per finding, its hint below, and a verdict at the end."""
    wide = max((len(finding.about) for finding in findings), default=0)
    lines = []
    for about, level, message, hint, _ in findings:
        mark, paint = _MARKS[level]
        mark = styled(mark, paint, bold=True) if color else mark
        lines.append(f" {mark} {about:<{wide}}  {visible(message)}")
        if hint and (level != "ok" or hint.startswith("accepted: ")):
            lines.append(f"   {'':<{wide}}  → {visible(hint)}")
    return "\n".join([*lines, "", verdict(findings)])


def verdict(findings: Sequence[Finding]) -> str:
    fails = sum(finding.level == "fail" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    if fails:
        text = f"{counted(fails, 'fault')} that would keep a run from doing its work"
        return text + (f", {counted(warnings, 'warning')}" if warnings else "")
    return f"Fit to run, with {counted(warnings, 'warning')}." if warnings else "Fit to run."


def findings_json(findings: Sequence[Finding]) -> dict[str, object]:
    return document(
        "Findings",
        ok=not any(finding.level == "fail" for finding in findings),
        findings=[
            {name: value for name, value in finding._asdict().items() if name != "away"}
            for finding in findings
        ],
    )


MOST_OF_A_LEVEL = 10  # annotations per step that GitHub shows; it silently hides the others
MOST_RESULTS = 25_000  # that GitHub accepts in one SARIF file
_LEVELS = ("error", "warning")
_NOTICE = {"error": "error", "warning": "warning", "accepted": "notice"}


def annotations_of(problems: Iterable[Problem]) -> list[str]:
    """Format ``::error file=,line=,col=::message``, errors first; count what GitHub would hide."""
    problems = list(problems)
    lines, hidden = [], 0
    for level in _NOTICE:
        of_level = [problem for problem in problems if kind_of(problem) == level]
        lines += [_annotation(problem) for problem in of_level[:MOST_OF_A_LEVEL]]
        hidden += max(0, len(of_level) - MOST_OF_A_LEVEL)
    if hidden:
        lines.append(f"::notice::+{hidden:,} more: the log has them all")
    return lines


def sarif(problems: Sequence[Problem]) -> dict[str, object]:
    """Return SARIF 2.1.0: one run, with a result per problem, errors first."""
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
    return f"::{_NOTICE[kind_of(problem)]} {given}::{_data(_text(problem))}"


def _result(problem: Problem, rules: Sequence[str]) -> dict[str, object]:
    location: dict[str, object] = {
        "artifactLocation": {"uri": quote(PurePath(problem.path).as_posix())},
    }
    if problem.line:
        start = {"startLine": problem.line, "startColumn": problem.column}
        location["region"] = {key: value for key, value in start.items() if value}
    suppressed = {"kind": "inSource", "justification": problem.accepted}
    return {
        "ruleId": problem.rule,
        "ruleIndex": rules.index(problem.rule),
        "level": problem.severity,
        "message": {"text": _text(problem)},
        "locations": [{"physicalLocation": location}],
        **({"suppressions": [suppressed]} if problem.accepted else {}),
    }


def _text(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    accepted = f" (accepted: {problem.accepted})" if problem.accepted else ""
    return visible(f"{problem.message}{accepted or hint}")


def _data(text: str) -> str:
    """Escape as the Actions runner expects: a line end would begin a new command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _data(visible(str(value))).replace(":", "%3A").replace(",", "%2C")
