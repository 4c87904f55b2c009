"""An error as text: the message, all findings, and the hint."""

from __future__ import annotations

from runner.errors import BackfillError, InvalidPlan, PreflightRefused, StalePlan
from runner.output.problems import findings_text, format_problems
from runner.output.review import lines_of
from runner.output.text import styled, visible
from runner.planning.compare import Difference

_MOST_CHANGES = 5


def error_text(error: BackfillError, *, color: bool = False, path: str = "") -> str:
    """Format the error. `path`: the plan it is about, if there are several."""
    if isinstance(error, InvalidPlan):
        return format_problems(error.problems, color=color)
    lines = []
    text = f"{path}: {error}" if path else str(error)
    if isinstance(error, PreflightRefused) and error.findings:
        lines.append(findings_text(error.findings, color=color))
    if isinstance(error, StalePlan) and error.difference:
        assert isinstance(error.difference, Difference)  # noqa: S101 - see the class
        text = "; ".join([text, *lines_of(error.difference, _MOST_CHANGES)])
    head = styled("error:", "red", bold=True) if color else "error:"
    lines.append(f"{head} {visible(text)}")
    if error.hint:
        lines.append(f"hint: {visible(error.hint)}")
    return "\n".join(lines)
